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
from boxes import finish, submit, worker
from conftest import PATIENCE_SECONDS, Serve, Until
from test_worker import ENDLESS, small

from service import home
from service.settings import Settings

FAULTY = Path(__file__).parent / "faulty"
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
