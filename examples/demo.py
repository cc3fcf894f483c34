"""Two real jobs that differ in the learning rate alone, compared; a study that finds one; nothing is left running."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.client import Client
from service.settings import Settings

SPEC = "examples/digits.json"
PARAMETER = "hyperparameters.learning_rate"
LEARNING_RATES = ("0.001", "0.1")
EPOCHS = 80
METRIC = "val_loss"
RANGE = ("--low", "1e-4", "--high", "1", "--count", "9", "--seeds", "1")
PICTURE, STUDY_PICTURE = Path("build/demo.png"), "build/demo-study.png"
STOP_SECONDS = 20
TRAINBOX = [sys.executable, "-m", "service.cli"]


def main() -> None:
    os.chdir(Path(__file__).parent.parent)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="trainbox-demo-") as home, running_service(Path(home)) as box:
        jobs = []
        for rate in LEARNING_RATES:
            print()
            settings = {PARAMETER: rate, "hyperparameters.epochs": EPOCHS, "name": f"digits, learning rate {rate}"}
            jobs.append(submit(box, settings))
        print()
        trainbox(box, "watch", *jobs, check=False)
        print()
        trainbox(box, "compare", *jobs, "--metric", METRIC)
        with Client(box["TRAINBOX_URL"], token_of(box)) as client:
            comparison = client.get("/v1/compare", runs=",".join(jobs), metric=METRIC)
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_bytes(client.content("/v1/compare", runs=",".join(jobs), metric=METRIC, format="png"))
            runs = {job: client.run(job) for job in jobs}
        print()
        print(meaning(comparison, runs))
        print(f"\nThe same as a picture: {PICTURE}")
        print()
        trainbox(box, "study", "lr-range", SPEC, *RANGE, "--wait", "--save", STUDY_PICTURE)
    print()
    print(how_to_go_on())


@contextmanager
def running_service(home: Path) -> Iterator[dict[str, str]]:
    """A service of its own on a free port: the environment in which the command line finds it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    box = {name: value for name, value in os.environ.items() if not name.startswith("TRAINBOX_")}
    box |= {"TRAINBOX_HOME": str(home), "TRAINBOX_PORT": str(port), "TRAINBOX_URL": f"http://127.0.0.1:{port}"}
    print("$ trainbox serve", flush=True)
    log = home / "demo.log"
    with log.open("wb") as errors:
        service = subprocess.Popen(  # noqa: S603
            [*TRAINBOX, "serve"], env=box, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert service.stdout is not None
        for line in service.stdout:
            print(f"  {line}", end="", flush=True)
            if line.startswith("ready"):
                break
        else:
            sys.exit(f"the service did not start:\n{log.read_text()}")
        yield box
    finally:
        service.terminate()
        try:
            service.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def submit(box: dict[str, str], settings: dict[str, Any]) -> str:
    """Submits the example with these values in place of its own, and returns the job's id."""
    chosen = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    return trainbox(box, "submit", SPEC, *chosen).split()[0]


def trainbox(box: dict[str, str], *arguments: str, check: bool = True) -> str:
    """Runs a command and shows it with what it prints; `watch` draws on the terminal itself."""
    print("$ trainbox", *(f'"{part}"' if " " in part else part for part in arguments), flush=True)
    shown = None if arguments[0] == "watch" else subprocess.PIPE
    done = subprocess.run([*TRAINBOX, *arguments], env=box, stdout=shown, text=True, check=check)  # noqa: S603
    print(done.stdout or "", end="", flush=True)
    return done.stdout or ""


def token_of(box: dict[str, str]) -> str:
    return (Path(box["TRAINBOX_HOME"]) / "admin.token").read_text().strip()


def meaning(comparison: dict[str, Any], runs: dict[str, dict[str, Any]]) -> str:
    """What the comparison says, in sentences made from its numbers."""
    ranked = sorted(comparison["runs"], key=lambda run: run["rank"] or len(runs))
    (good, bad), (rate, other_rate) = ranked, [runs[run["run_id"]]["parameters"][PARAMETER] for run in ranked]
    seen = [runs[run["run_id"]]["metrics"]["val_accuracy"]["last"] for run in ranked]
    low, high = good["summary"]["last"], bad["summary"]["last"]
    opening = (
        f"What it means: the runs differ in {' and '.join(comparison['differing_parameters'])} alone. With {rate} "
        f"the loss on digits held back ended at {low:.3g}, and {seen[0]:.1%} of them were recognised."
    )
    if isinstance(high, str):
        return f"{opening}\nWith {other_rate} the loss ended as {high}: the steps were so long that training broke."
    best, step = bad["summary"]["best"], bad["summary"]["best_at"]
    comparing = f"With {other_rate} it ended at {high:.3g}, {high / low:.0f} times as high, and {seen[1]:.1%} were."
    if other_rate < rate:
        reason = f"The smaller rate was still on its way (best {best:.3g} at step {step:g}): it needs more steps."
    elif high > 1.1 * best:
        reason = f"The larger rate learned and lost it again (best {best:.3g} at step {step:g}): each step overshoots."
    else:
        reason = (
            f"The larger rate never got as far (best {best:.3g} at step {step:g}): its steps are too long to settle."
        )
    return "\n".join((opening, comparing, reason))


def how_to_go_on() -> str:
    token = Settings().token_path
    return f"""Everything is stopped and removed again. Go on with

  make serve

and in another terminal

  TOKEN=$(cat {token})
  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d @{SPEC} http://127.0.0.1:8000/v1/jobs
  curl -H "Authorization: Bearer $TOKEN" "http://127.0.0.1:8000/v1/jobs?format=text"
  curl -H "Authorization: Bearer $TOKEN" "http://127.0.0.1:8000/v1/compare?metric=val_loss&format=text\""""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        sys.exit(f"trainbox {error.cmd[len(TRAINBOX)]} ended with exit code {error.returncode}")
