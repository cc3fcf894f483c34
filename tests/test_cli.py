"""The command line against a real service: what it prints, and what it exits with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.cli import screen, spec_file
from service.cli.doctor import gpus
from service.cli.screen import WrongUse
from service.cli.storage import Check
from service.client import Client, Problem, Unreachable

TRAINBOX = [sys.executable, "-m", "service.cli"]
START_SECONDS = 60
SHORT = {"task": "classification", "dataset": "iris", "hyperparameters": {"max_steps": 20}}
ENDLESS = {"task": "classification", "dataset": "digits", "hyperparameters": {"max_steps": 100_000_000}}
DIVERGING = {
    "task": "regression",
    "dataset": "diabetes",
    "model": {"type": "linear"},
    "hyperparameters": {"optimizer": "sgd", "learning_rate": 100.0, "max_steps": 2000},
}


class Box:
    """A service of its own, and the environment in which the command line finds it."""

    def __init__(self, home: Path, process: subprocess.Popen[str]) -> None:
        self.home, self.process = home, process
        self.said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("ready"):
                break
        else:
            raise AssertionError("the service did not start")
        address = next(line.split()[1] for line in self.said if "address" in line)
        self.environment = environment(home) | {"TRAINBOX_URL": address}

    def __call__(self, *arguments: str, code: int = 0, given: str | None = None, **more: str) -> str:
        """What a command prints on standard output, or on standard error when it is to end with another code than 0."""
        done = subprocess.run(
            [*TRAINBOX, *arguments],
            env=self.environment | more,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def submit(self, spec: dict[str, Any], *arguments: str) -> str:
        return str(json.loads(self("submit", "-", "--json", *arguments, given=json.dumps(spec)))["id"])

    def parts(self) -> dict[str, psutil.Process]:
        """The processes that `serve` started, by name."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has just ended
                command = child.cmdline()
                found["worker" if "workers" in command else "api" if "api" in command else "unknown"] = child
        return found


def environment(home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
    return inherited | {"TRAINBOX_HOME": str(home), "TRAINBOX_PORT": "0", "TRAINBOX_STOP_SECONDS": "5"}


@contextmanager
def serving(home: Path, **more: str) -> Iterator[Box]:
    with home.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [*TRAINBOX, "serve"], env=environment(home) | more, stdout=subprocess.PIPE, stderr=log, text=True
        )
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        box = Box(home, process)
        watchdog.cancel()
        yield box
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with serving(tmp_path_factory.mktemp("box") / "home") as running:
        yield running
    assert running.process.returncode == 0, "a drained service ends well"


@pytest.fixture(scope="module")
def finished(box: Box) -> str:
    """The id of a job that has succeeded."""
    return str(json.loads(box("submit", "-", "--wait", "--json", given=json.dumps(SHORT)))["id"])


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return found


def test_the_first_start_shows_the_token_once_and_keeps_it_for_its_user_alone(box: Box) -> None:
    token = box.home / "admin.token"
    assert token.read_text().strip() in "\n".join(box.said)
    assert token.stat().st_mode & 0o077 == 0


def test_a_dry_run_tells_the_plan_and_creates_nothing(box: Box) -> None:
    said = box("submit", "-", "--dry-run", given=json.dumps(SHORT))
    assert "20 steps" in said
    assert "120 samples to train on, 30 held back" in said
    assert "warning: validation.fraction" in said


def test_submit_and_wait_follows_the_job_to_its_end(box: Box) -> None:
    said = box("submit", "-", "--wait", "--set", "name=short one", given=json.dumps(SHORT))
    lines = said.splitlines()
    assert "short one" in lines[0]
    assert "succeeded" in lines[-1]
    assert "step 20/20" in lines[-1]
    assert "train_loss" in lines[-1]


def test_a_yaml_spec_may_write_numbers_as_people_do(box: Box, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("task: classification\ndataset: iris\nhyperparameters: {learning_rate: 1e-2, max_steps: 3}\n")
    answer = json.loads(box("submit", str(spec), "--dry-run", "--json", "--set", "hyperparameters.seed=7"))
    assert answer["spec"]["hyperparameters"]["learning_rate"] == 0.01
    assert answer["spec"]["hyperparameters"]["seed"] == 7


def test_every_wrong_field_has_a_line_of_its_own(box: Box) -> None:
    wrong = SHORT | {"hyperparameters": {"learning_rat": 0.1, "batch_size": 0}, "dataset": "irises"}
    said = box("submit", "-", code=2, given=json.dumps(wrong))
    for param in ("hyperparameters.learning_rat", "hyperparameters.batch_size", "dataset"):
        assert re.search(rf"^{re.escape(param)}: ", said, re.MULTILINE), said
    assert "did you mean learning_rate?" in said


def test_what_json_cannot_say_is_named_by_its_field(box: Box, tmp_path: Path) -> None:
    """Python writes NaN and infinities, and the service says where they stand."""
    told = "hyperparameters.learning_rate: NaN and infinities are no JSON"
    for value in ("NaN", "1e999", "-Infinity"):
        setting = f"hyperparameters.learning_rate={value}"
        assert told in box("submit", "-", "--set", setting, code=2, given=json.dumps(SHORT))
    assert f"base.{told}" in box("study", "lr-range", "-", "--set", setting, code=2, given=json.dumps(SHORT))


def test_a_failed_job_is_exit_code_1(box: Box) -> None:
    said = box("submit", "-", "--wait", code=1, given=json.dumps(DIVERGING))
    assert "failed" in said
    job = json.loads(box("jobs", "--status", "failed", "--json"))["data"][0]
    assert job["error"]["code"] == "non_finite"
    assert "non_finite" in box("show", job["id"])


def test_the_list_has_a_line_a_job_with_its_loss(box: Box, finished: str) -> None:
    lines = box("jobs").splitlines()
    assert lines[0].split() == ["id", "name", "status", "user", "step", "train_loss", "age"]
    line = next(line for line in lines if line.startswith(finished))
    assert "20/20" in line
    assert re.search(r"\d\.\d+", line)
    assert finished not in box("jobs", "--status", "running")
    assert json.loads(box("jobs", "--user", "nobody", "--json"))["data"] == []


def test_a_job_has_its_loss_beside_it_however_many_scripts_log_too(box: Box) -> None:
    job = json.loads(box("submit", "-", "--wait", "--json", given=json.dumps(SHORT)))["id"]
    with Client(box.environment["TRAINBOX_URL"], (box.home / "admin.token").read_text().strip()) as client:
        for name in ("first", "second"):
            client.post("/v1/runs", {"name": name})
    [line] = [line for line in box("jobs", "--limit", "1").splitlines() if line.startswith(job)]
    assert re.search(r" 20/20 +\d\.\d+ ", line)


def test_an_id_may_be_cut_while_one_job_alone_begins_so(box: Box, finished: str) -> None:
    cut = finished[:-1]
    assert json.loads(box("show", cut, "--json"))["id"] == finished
    box.submit(SHORT)
    said = box("show", finished[0], code=2)
    assert finished in said
    assert "no job" in box("show", "zzzz", code=2)


def test_show_tells_plan_metrics_and_warnings(box: Box, finished: str) -> None:
    said = box("show", finished)
    for word in ("succeeded", "20 steps", "train_loss", "val_accuracy", "warning:"):
        assert word in said


def test_watch_follows_several_jobs(box: Box) -> None:
    ids = [box.submit(SHORT), box.submit(SHORT)]
    said = box("watch", *ids)
    assert all(re.search(rf"^{job}  succeeded", said, re.MULTILINE) for job in ids)
    last = json.loads(box("watch", ids[0], "--json").splitlines()[-1])
    assert last["status"] == "succeeded"
    assert last["metrics"]["val_accuracy"] >= 0


def test_logs_are_followed_to_the_end_of_the_job(box: Box) -> None:
    job = box.submit(SHORT)
    followed = box("logs", job, "--follow")
    assert followed
    assert box("logs", job) == followed


def test_the_log_of_one_attempt_is_printed(box: Box, finished: str) -> None:
    assert box("logs", finished, "--attempt", "1") == box("logs", finished)
    assert "this job has had 1" in box("logs", finished, "--attempt", "2", code=2)


def test_a_curve_is_drawn_or_given_as_data(box: Box, finished: str) -> None:
    drawn = box("curve", finished, "--width", "80")
    assert "train_loss" in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    assert len(box("curve", finished, "--csv").splitlines()) == 21
    points = json.loads(box("curve", finished, "--metric", "train_loss", "--json"))
    assert points["count"] == 20


def test_runs_are_compared_as_table_and_chart(box: Box, finished: str) -> None:
    other = box.submit(SHORT, "--set", "hyperparameters.learning_rate=0.01")
    box("watch", other)
    said = box("compare", finished, other, "--width", "100")
    assert "learning_rate=0.01" in said
    answer = json.loads(box("compare", finished, other, "--x", "samples", "--target", "0.9", "--json"))
    assert {run["run_id"] for run in answer["runs"]} == {finished, other}
    assert "give the ids of two runs" in box("compare", finished, finished, code=2)


def test_a_running_job_is_cancelled(box: Box) -> None:
    job = box.submit(ENDLESS)
    until(lambda: json.loads(box("show", job, "--json"))["status"] == "running")
    assert "asked to stop" in box("cancel", job)
    said = box("watch", job, code=1)
    assert "cancelled" in said
    assert "cannot become" in box("cancel", job.replace(job, box.submit(SHORT, "--wait")), code=2)


def test_a_running_job_is_paused_explained_and_resumed(box: Box) -> None:
    job = box.submit(ENDLESS)
    until(lambda: json.loads(box("show", job, "--json"))["status"] == "running")
    assert "asked to pause" in box("pause", job[:-1])
    until(lambda: json.loads(box("show", job, "--json"))["status"] == "paused")
    told = box("explain", job)
    assert "waits: it was paused, and waits to be resumed (paused)" in told
    assert "would start now if somebody resumed it" in told
    assert json.loads(box("explain", job, "--json"))["position"] is None
    assert json.loads(box("resume", job, "--json"))["status"] == "queued"
    box("cancel", job)
    said = box("events", job, "--follow")
    codes = [line.split()[1] for line in said.splitlines()]
    assert codes[:5] == ["submitted", "started", "pausing", "paused", "waiting"]
    assert codes[-1] == "cancelled"
    assert [json.loads(line)["code"] for line in box("events", job, "--json").splitlines()] == codes
    assert "cannot become" in box("pause", job, code=2)


def test_a_failed_job_is_retried_and_a_succeeded_one_is_not(box: Box, finished: str) -> None:
    failed = box.submit(DIVERGING)
    box("watch", failed, code=1)
    again = json.loads(box("retry", failed, "--json"))
    assert again["retry_of"] == failed
    assert "plan: 2,000 steps" in box("retry", failed)
    assert "be retried only when it failed" in box("retry", finished, code=2)


def test_a_clone_tells_what_each_change_means(box: Box, finished: str) -> None:
    said = box("clone", finished, "--set", "hyperparameters.learning_rate=0.002", "--set", "name=another")
    assert "another" in said.splitlines()[0]
    [line] = [line for line in said.splitlines() if line.startswith("change:")]
    assert line.startswith("change: hyperparameters.learning_rate: 0.001 -> 0.002: ")
    assert len(line.partition("0.002: ")[2]) > 10
    made = json.loads(box("clone", finished, "--set", "hyperparameters.batch_size=8", "--json"))
    assert [change["param"] for change in made["changes"]] == ["hyperparameters.batch_size"]
    assert "hyperparameters.batch_size: " in box("clone", finished, "--set", "hyperparameters.batch_size=0", code=2)


def test_a_job_is_relabelled_and_deleted(box: Box) -> None:
    job = box.submit(SHORT, "--wait")
    assert "named anew" in box("set", job, "--name", "named anew", "--tag", "team=blue", "--tag", "old=yes")
    assert json.loads(box("set", job, "--tag", "old=", "--json"))["tags"] == {"team": "blue"}
    assert "say what to change" in box("set", job, code=2)
    assert "KEY=VALUE" in box("set", job, "--tag", "blue", code=2)
    assert "be given another priority only while it waits" in box("set", job, "--priority", "3", code=2)
    assert f"{job} is deleted" in box("delete", job)
    assert "no such job" in box("show", job, code=2)
    running = box.submit(ENDLESS)
    assert "be deleted only when it is over" in box("delete", running, code=2)
    box("cancel", running)


def test_data_sets_are_listed_and_shown(box: Box) -> None:
    assert re.search(r"^digits +classification +1797", box("datasets"), re.MULTILINE)
    said = box("datasets", "diabetes")
    assert "regression" in said
    assert "442" in said
    assert "no such data set" in box("datasets", "nothing", code=2)
    assert len(json.loads(box("datasets", "--json"))["data"]) == 5


def test_a_file_is_uploaded_shown_and_deleted(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "flowers.csv"
    file.write_text("width,colour,kind\n1,red,a\n2,,b\n3,red,a\n")
    said = box("put", "flowers", str(file), "--target", "kind")
    assert re.search(r"^name +flowers@1$", said, re.MULTILINE)
    assert re.search(r"^columns +width, colour \(category, 1 missing\)$", said, re.MULTILINE)
    assert json.loads(box("put", "flowers", str(file), "--target", "kind", "--json"))["version"] == 1
    assert box("datasets", "flowers@1") == said
    assert "target: say which column" in box("put", "flowers", str(file), code=2)
    assert "No such file" in box("put", "x", str(tmp_path / "none.csv"), code=2)
    file.rename(tmp_path / "flowers")
    assert "say --as csv" in box("put", "x", str(tmp_path / "flowers"), code=2)
    assert json.loads(box("put", "x", str(tmp_path / "flowers"), "--as", "text", "--json"))["kind"] == "text"
    assert "flowers is deleted" in box("datasets", "delete", "flowers")
    assert "no such data set" in box("datasets", "flowers", code=2)
    assert "another name" in box("datasets", "delete", "digits", code=2)


def test_runs_of_scripts_are_listed_drawn_diagnosed_and_deleted_beside_those_of_jobs(box: Box) -> None:
    job = box.submit(SHORT, "--wait")
    with Client(box.environment["TRAINBOX_URL"], (box.home / "admin.token").read_text().strip()) as client:
        ids = [client.post("/v1/runs", {"name": f"script {number}"})["id"] for number in range(4)]
        points = [{"metric": "train_loss", "step": step, "value": 1 / step} for step in range(1, 30)]
        client.post(f"/v1/runs/{ids[0]}/points", {"points": points})
        client.post(f"/v1/runs/{ids[0]}/finish", {"status": "succeeded"})
    listed = box("runs", "--limit", "5")
    assert [line.split()[0] for line in listed.splitlines()[2:6]] == ids[::-1]
    assert job in box("runs", "--status", "succeeded", "--sort", "val_loss.best", "--limit", "200")
    assert len(json.loads(box("runs", "--limit", "2", "--json"))["data"]) == 2
    assert "sort: runs are sorted by" in box("runs", "--sort", "oddly", code=2)
    assert "train_loss" in box("curve", ids[0])
    assert box("diagnose", ids[0]).startswith(json.loads(box("diagnose", ids[0], "--json"))["verdict"])
    newest = box("jobs", "--limit", "1").splitlines()[1]
    assert re.match(rf"{job} .* 20/20 +[0-9.]+ ", newest), "runs of scripts hide no job's loss"
    assert "be deleted only when it is over" in box("delete", ids[1], code=2)
    assert box("delete", ids[0]) == f"{ids[0]} is deleted, with its curves\n"
    assert "no such run" in box("delete", ids[0], code=2)


def test_tokens_are_created_used_and_revoked(box: Box) -> None:
    made = json.loads(
        box("token", "create", "alice", "--create-user", "--scope", "read", "--expires-in", "1", "--json")
    )
    alice = {"TRAINBOX_TOKEN": made["token"]}
    assert "no jobs" in box("jobs", "--user", "alice", **alice)
    assert "scope" in box("submit", "-", code=2, given=json.dumps(SHORT), **alice)
    assert "alice" in box("token", "list")
    assert made["token"] not in box("token", "list")
    assert made["id"] in box("token", "revoke", made["id"][:14])
    assert "no token has an id" in box("token", "revoke", "zzzz", code=2)
    assert "TRAINBOX_TOKEN" in box("jobs", code=2, **alice)
    assert "--create-user creates one" in box("token", "create", "nobody-yet", code=2)
    with Client(box.environment["TRAINBOX_URL"], (box.home / "admin.token").read_text().strip()) as client:
        client.delete("/v1/users/alice")
    assert "it is not given to another" in box("token", "create", "alice", "--create-user", code=2)


def test_nobody_at_the_address_is_exit_code_3(box: Box) -> None:
    assert "trainbox serve" in box("jobs", code=3, TRAINBOX_URL="http://127.0.0.1:9")


def test_wrong_use_is_exit_code_2(box: Box, tmp_path: Path) -> None:
    box("jobs", "--nonsense", code=2)
    box("submit", str(tmp_path / "missing.json"), code=2)
    box("jobs", code=2, TRAINBOX_URL="ftp://127.0.0.1")
    for part, name, value in (
        ("serve", "TRAINBOX_PORT", "many"),
        ("api", "TRAINBOX_LEASE_SECONDS", "inf"),
        ("worker", "TRAINBOX_KEEP_LOGS_DAYS", "1e7"),
    ):
        said = box(part, code=2, **{name: value})
        assert said.startswith(f"{name}: ")
        assert value not in said
    assert "--allow-remote" in box("serve", "--host", "0.0.0.0", code=2, TRAINBOX_HOME=str(tmp_path / "other"))


def test_a_file_that_cannot_be_written_is_told_before_anything_is_begun(
    box: Box, finished: str, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere" / "answer.png")
    assert "there is no folder" in box("curve", finished, "--save", nowhere, code=2)
    study = ["study", "lr-range", "-", "--wait", "--save"]
    assert "there is no folder" in box(*study, nowhere, code=2, given=json.dumps(SHORT))
    assert "must end with .png, .svg, .csv" in box(
        *study, str(tmp_path / "answer.pdf"), code=2, given=json.dumps(SHORT)
    )
    assert json.loads(box("study", "list", "--json"))["data"] == []
    (tmp_path / "taken.csv").mkdir()
    assert "cannot be written" in box("curve", finished, "--save", str(tmp_path / "taken.csv"), code=2)


def test_a_huge_number_is_told_in_few_characters() -> None:
    assert [screen.number(value) for value in (1e300, 123456.7, 0.00012341, None, "NaN", 12)] == [
        "1e+300", "123,457", "0.0001234", "-", "NaN", "12",
    ]  # fmt: skip


def test_the_doctor_finds_a_running_service_well(box: Box) -> None:
    found = {check["name"]: check for check in json.loads(box("doctor", "--json"))}
    for name in ("python", "torch", "home", "database", "service", "worker"):
        assert found[name]["verdict"] == "ok", found[name]
    assert "GPUs" in found


def test_the_doctor_tells_of_gpus_that_nobody_can_compute_on(tmp_path: Path) -> None:
    assert gpus(["H100", "H100"], "2.13.0", tmp_path) == Check("GPUs", "ok", "H100, H100")
    assert gpus([], "2.13.0+cpu", tmp_path / "no-driver") == Check("GPUs", "ok", "none")
    assert gpus([], "2.13.0", tmp_path).verdict == "warn"
    assert gpus(["H100"], "2.13.0+cpu", tmp_path).verdict == "bad"


def test_the_doctor_names_what_is_wrong_and_exits_with_1(box: Box, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)  # whatever the umask
    (home / "trainbox.db").write_bytes(b"not a database" * 1000)
    said = box("doctor", "--json", code=1, TRAINBOX_HOME=str(home))
    assert f"chmod go-rwx {home}" in said
    assert "damaged" in said


def test_a_home_is_made_ready_and_said_so_as_json(tmp_path: Path) -> None:
    migrate = [*TRAINBOX, "migrate", "--json"]
    done = [subprocess.run(migrate, env=environment(tmp_path / "h"), capture_output=True, check=True) for _ in range(2)]
    first, second = (json.loads(each.stdout) for each in done)
    assert Path(first["database"]).exists()
    assert first["token"] == (tmp_path / "h" / "admin.token").read_text().strip()
    assert second == first | {"token": None}


def test_a_second_serve_names_the_first_and_leaves_it_alone(box: Box) -> None:
    said = box("serve", code=1)
    assert str(box.process.pid) in said
    assert "ok" in box("doctor")


def test_a_part_that_dies_is_started_again_and_serve_says_why(box: Box) -> None:
    killed = box.parts()["api"]
    killed.kill()
    api = until(lambda: box.parts().get("api"))
    assert api.pid != killed.pid
    assert "the API ended with signal SIGKILL" in box.home.with_suffix(".log").read_text()
    until(lambda: subprocess.run([*TRAINBOX, "jobs"], env=box.environment, capture_output=True).returncode == 0)


def test_no_part_outlives_a_killed_serve(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as box:
        job = box.submit(ENDLESS)
        until(lambda: json.loads(box("show", job, "--json"))["status"] == "running")
        descendants = psutil.Process(box.process.pid).children(recursive=True)
        assert len(descendants) >= 4
        box.process.kill()
        _, alive = psutil.wait_procs(descendants, timeout=20)
        assert not alive


def test_serve_gives_up_on_a_part_that_never_starts(tmp_path: Path) -> None:
    from service.cli import supervisor

    broken = supervisor.Child("the part", [sys.executable, "-c", "import sys; sys.exit(2)"])
    began = time.monotonic()
    assert supervisor.run([broken], 5, lambda: None) == 1
    assert time.monotonic() - began < 5


def test_serve_waits_only_briefly_for_an_api_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tends its parts between two looks: the worker may have died meanwhile."""
    from service.cli import server

    monkeypatch.setattr(server, "READY_ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert server.readiness(f"http://127.0.0.1:{silent.getsockname()[1]}", "a-token") is not None
        assert time.monotonic() - began < 30


def test_a_part_that_is_killed_again_and_again_is_started_again_as_soon_as_the_first_time() -> None:
    from service.cli import supervisor

    suicidal = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    part = supervisor.Child("the part", [sys.executable, "-S", "-c", suicidal])
    starts: list[float] = []
    end = time.monotonic() + 20
    while len(starts) < 5 and time.monotonic() < end:
        before = part.alive
        assert part.tend(), "a part that was killed is always worth another start"
        if part.alive and not before:
            starts.append(time.monotonic())
        time.sleep(0.01)
    assert len(starts) == 5
    assert starts[-1] - starts[0] < 4 * (supervisor.FIRST_DELAY + 1.5)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from service.cli import supervisor\n"
        "stubborn = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '\n"
        "stubborn += 'print(1, flush=True); time.sleep(60)'\n"
        "sys.exit(supervisor.run([supervisor.Child('it', [sys.executable, '-c', stubborn])], 60, lambda: None))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode is not None


class Answering(BaseHTTPRequestHandler):
    """Answers every request as told by its path: /STATUS/kind."""

    def do_GET(self) -> None:
        _, status, kind = self.path.split("/")
        problem: dict[str, Any] = {"title": "Unprocessable", "status": 422, "detail": "2 problems"}
        problem["errors"] = [{"param": "a.b", "code": "c", "message": "m", "hint": "h"}]
        body = json.dumps(problem) if kind == "problem" else "<html>"
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_error_answer_becomes_an_exception_with_all_its_facts(answering: str) -> None:
    with Client(answering, None) as client, pytest.raises(Problem) as caught:
        client.get("/422/problem")
    problem = caught.value
    assert (problem.status, problem.title, problem.detail) == (422, "Unprocessable", "2 problems")
    assert [(error.param, error.hint) for error in problem.errors] == [("a.b", "h")]


def test_an_error_that_something_in_between_wrote_is_a_problem_too(answering: str) -> None:
    with Client(answering, None) as client, pytest.raises(Problem) as caught:
        client.get("/502/page")
    assert caught.value.status == 502


def test_a_client_that_meets_nobody_says_where_it_looked() -> None:
    with Client("http://127.0.0.1:9", None, patience_seconds=0) as client, pytest.raises(Unreachable) as caught:
        client.get("/healthz")
    assert "http://127.0.0.1:9" in str(caught.value)


def test_values_set_on_the_command_line_are_json_or_else_texts() -> None:
    spec: dict[str, Any] = {"hyperparameters": {"seed": 1}}
    spec_file.put(spec, ["hyperparameters.seed=2", "model.hidden_sizes=[8, 4]", "name=two words", "tags.a=x=y"])
    assert spec == {
        "hyperparameters": {"seed": 2},
        "model": {"hidden_sizes": [8, 4]},
        "name": "two words",
        "tags": {"a": "x=y"},
    }
    for wrong in ("seed", ".seed=1", "name.first=x"):
        with pytest.raises(WrongUse):
            spec_file.put(spec, [wrong])


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "- 1\n", "a: [", "\x00", "a: !!binary aGk=", "a: !!set {b}", "a: &a [*a]"]
)
def test_a_spec_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(WrongUse):
        spec_file.read(str(path))
