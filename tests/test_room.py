"""Memory that is given out like slots, and slots that do not empty: over HTTP, with a real worker."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from boxes import FAULTY, finish, submit, worker
from conftest import PATIENCE_SECONDS, Serve, Until
from test_slots import Machine
from test_worker import ENDLESS, small

from service import crew, home, locks
from service.database import Database
from service.leases import Terms
from service.settings import Settings
from workers.devices import Use
from workers.slots import Slots

MEMORY_MIB = 4000
NOBODY = 65534
# Also the superuser then has no power over the processes of others: capability 5 is CAP_KILL.
WITHOUT_POWER = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 5, 0, 0, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'workers'])",
)
OF_WORKER = {
    "PYTHONPATH": str(FAULTY),
    "TRAINBOX_SLOTS": "2",
    "TRAINBOX_MEMORY_MIB": str(MEMORY_MIB),
    "TRAINBOX_STOP_SECONDS": "1",
    "TRAINBOX_LEASE_SECONDS": "3",
    "TRAINBOX_BACKOFF_SECONDS": "0",
}
only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")

Job = dict[str, Any]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home", port=0)
    home.prepare(settings)
    return settings


@pytest.fixture
def client(serve: Serve, settings: Settings, until: Until) -> Iterator[httpx.Client]:
    """The admin's, of a service with a worker that has little memory and no power over the processes of others."""
    headers = {"Authorization": f"Bearer {settings.token_path.read_text().strip()}"}
    with (
        httpx.Client(base_url=serve().url, headers=headers, timeout=PATIENCE_SECONDS) as opened,
        worker(settings.home, WITHOUT_POWER, **OF_WORKER) as process,
    ):
        until(lambda: opened.get("/readyz").status_code == 200)
        yield opened
        assert process.poll() is None, "a job may do anything, its worker lives on"


def status(client: httpx.Client, job: Job) -> str:
    return str(client.get(f"/v1/jobs/{job['id']}").json()["status"])


def causes(client: httpx.Client, job: Job) -> dict[str, str]:
    told = client.get(f"/v1/jobs/{job['id']}/explain").json()
    return {cause["code"]: cause["message"] for cause in told["blocked_by"]}


def test_memory_is_given_out_like_threads_and_who_waits_for_it_is_told_so(client: httpx.Client, until: Until) -> None:
    needing = small(ENDLESS, resources={"memory_mib": 2500})
    first, second = submit(client, needing), submit(client, needing)
    until(lambda: status(client, first) == "running")
    assert client.get("/v1/box").json()["memory"] == {"total_mib": MEMORY_MIB, "used_mib": 2500}
    assert causes(client, second) == {"no_memory": "it needs 2500 MiB of memory, and 1500 MiB are free"}
    modest = submit(client, small(5, resources={"memory_mib": 1500}))
    assert finish(client, modest)["status"] == "succeeded"
    assert status(client, second) == "queued"
    client.post(f"/v1/jobs/{first['id']}/cancel")
    until(lambda: status(client, second) == "running")
    answer = client.post("/v1/jobs", json=small(5, resources={"memory_mib": MEMORY_MIB + 1}))
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["param"], error["code"]) == ("resources.memory_mib", "never_available")
    client.post(f"/v1/jobs/{second['id']}/cancel")


def test_who_waits_for_a_gpu_is_told_which_programs_and_which_ended_jobs_hold_it(
    serve: Serve, settings: Settings
) -> None:
    machine = Machine(count=2, running={0: [Use(4711, 1 << 30)]})
    slots = Slots(4, machine.devices(), memory_mib=8000)
    slots.look(machine, own=[], now=0.0)
    grant = slots.take("an-ended-job", 1, 1)
    machine.unnamed = {1: 9 << 30}
    slots.leave(grant, "an-ended-job/1", [], now=1.0)
    for now in (2.0, 20.0):
        slots.look(machine, own=[], now=now)
    lock = locks.make(crew.worker_lock(settings.run_path, "a-worker"))
    database = Database(settings.database_path)
    with database.write() as session:
        devices, memory = [each.view() for each in slots.accelerators], crew.Memory(8000, 8000)
        crew.register(session, "a-worker", os.getpid(), 4, devices, Terms(600.0, 0.0), memory)
    database.close()
    headers = {"Authorization": f"Bearer {settings.token_path.read_text().strip()}"}
    with httpx.Client(base_url=serve().url, headers=headers) as client:
        job = submit(client, small(5, resources={"gpus": 1}))
        assert causes(client, job) == {
            "no_slot": "it needs 1 thread and 1 GPU, and no worker has more than 4 threads free",
            "out_of_service": "out of service: GPU 1, whose memory is in use though its job has ended",
            "foreign_process": "GPU 0 is used by a program that is no job of this box: pid 4711",
        }
        assert client.get(f"/v1/jobs/{job['id']}/explain").json()["estimated_start_at"] is None
        assert client.get("/readyz").json()["warnings"][-1].startswith("out of service: GPU 1")
        assert [device["out_of_service"] for device in client.get("/v1/box").json()["devices"]] == [False, True]
        assert "trainbox_devices_out_of_service 1.0" in client.get("/metrics").text
    os.close(lock)


@pytest.mark.parametrize(
    ("capability", "gpus", "refused"),
    [((7, 5), 1, True), ((7, 5), 0, False), ((8, 0), 2, False), (None, 1, False)],
)
def test_bfloat16_is_refused_at_once_where_no_gpu_of_the_box_computes_in_it(
    serve: Serve, settings: Settings, capability: tuple[int, int] | None, gpus: int, refused: bool
) -> None:
    slots = Slots(4, Machine(capability=capability).devices())
    database = Database(settings.database_path)
    with database.write() as session:
        devices = [each.view() for each in slots.accelerators]
        crew.register(session, "a-worker", os.getpid(), 4, devices, Terms(600.0, 0.0))
    database.close()
    headers = {"Authorization": f"Bearer {settings.token_path.read_text().strip()}"}
    with httpx.Client(base_url=serve().url, headers=headers) as client:
        for precision in ("bfloat16", "float16"):
            spec = small(5, resources={"gpus": gpus}, hyperparameters={"max_steps": 5, "precision": precision})
            answer = client.post("/v1/jobs", json=spec)
            told = [(error["param"], error["code"]) for error in answer.json().get("errors", [])]
            never = [("hyperparameters.precision", "never_available")]
            assert told == (never if refused and precision == "bfloat16" else [])
            assert answer.status_code == (422 if told else 201)


def strangers() -> list[psutil.Process]:
    """Processes that have become nobody's."""
    found = psutil.process_iter(["uids", "status"])
    return [each for each in found if each.info["uids"].real == NOBODY and each.info["status"] != psutil.STATUS_ZOMBIE]


@only_as_root
def test_a_slot_is_given_out_again_only_when_nothing_of_its_job_lives(client: httpx.Client, until: Until) -> None:
    before = {process.pid for process in strangers()}
    job = submit(client, small(30, tags={"fault": "leave_somebody_elses_child"}, resources={"threads": 2}))
    assert finish(client, job)["status"] == "succeeded"
    [left] = [process for process in strangers() if process.pid not in before]
    other = submit(client, small(5))
    until(lambda: client.get("/v1/box").json()["running"] == [])
    assert status(client, other) == "queued"
    left.send_signal(signal.SIGKILL)
    assert finish(client, other)["status"] == "succeeded"


@only_as_root
@pytest.mark.chaos
def test_what_cannot_be_ended_takes_its_slot_out_of_service_until_it_is_gone(
    client: httpx.Client, until: Until
) -> None:
    before = {process.pid for process in strangers()}
    faults = ("leave_somebody_elses_child", "become_somebody_elses")
    leaving, becoming = (submit(client, small(100, tags={"fault": fault})) for fault in faults)
    assert finish(client, leaving)["status"] == "succeeded"
    until(lambda: len([process for process in strangers() if process.pid not in before]) == 2)
    client.post(f"/v1/jobs/{becoming['id']}/cancel")
    assert finish(client, becoming)["status"] == "cancelled", "the job is over, whatever became of its process"
    until(lambda: client.get("/v1/box").json()["slots"] == {"total": 2, "used": 0, "out_of_service": 2})
    told = client.get("/v1/box").json()["out_of_service"]
    left = [process for process in strangers() if process.pid not in before]
    assert sorted(int(sentence.rpartition(" ")[2]) for sentence in told) == sorted(process.pid for process in left)
    assert client.get("/readyz").json()["warnings"] == told
    assert 'trainbox_slots{state="out_of_service"} 2.0' in client.get("/metrics").text
    waiting = submit(client, small(5))
    assert "out_of_service" in causes(client, waiting)
    for process in left:
        process.send_signal(signal.SIGKILL)
    assert finish(client, waiting)["status"] == "succeeded"
    assert client.get("/v1/box").json()["out_of_service"] == []
