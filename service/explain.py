"""Why a job waits, for how long, and what would let it start now."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from service import clock, control, crew, outlook
from service.forecast import Running
from service.order import UNKNOWN_MEMORY, Room, Waiting
from service.states import JobStatus
from service.tables import Job, WorkerRow
from service.users import Principal

Words = dict[str, str]  # {code, message}


def view(
    session: Session,
    principal: Principal,
    job_id: str,
    run_path: Path,
    most_running: int | None,
    lack: str | None = None,
) -> Any:
    """`{position, blocked_by, estimated_start_at, basis, would_start_now_if}` of a job. Raises NotFound.

    lack: a sentence when too little disk is free for anything to start.
    """
    job = control.seen(session, principal, job_id)
    if job.status is not JobStatus.QUEUED:
        return _no_longer(job)
    box = outlook.look(session, run_path, most_running)
    moment = box.start(job.seq) if lack is None else None
    position = list(box.starts).index(job.seq) + 1 if job.seq in box.starts else box.queued
    own = sum(row.user == job.user for row in box.running)
    blocked = list(_causes(job, box.totals, box.held, box.needs[job.seq], position, own, most_running))
    if any(cause["code"] in LACKS for cause in blocked):
        blocked += [_cause(code, message) for worker in box.workers for code, message in _kept_back(worker, job)]
    if lack is not None:
        blocked.insert(0, _cause("disk_full", lack))
    return {
        "position": position,
        "blocked_by": blocked,
        "estimated_start_at": moment,
        "basis": box.paces.basis if moment else "nothing to go by: see blocked_by",
        "would_start_now_if": [WISHES[cause["code"]] for cause in blocked if cause["code"] in WISHES],
    }


def _no_longer(job: Job) -> dict[str, Any]:
    blocked = []
    if job.status is JobStatus.PAUSED:
        blocked = [_cause("paused", "it was paused, and waits to be resumed")]
    return {
        "position": None,
        "blocked_by": blocked,
        "estimated_start_at": None if blocked else job.started_at,
        "basis": f"the job is {job.status.value}",
        "would_start_now_if": [WISHES["paused"]] if blocked else [],
    }


WISHES = {
    "disk_full": "more of the disk were free",
    "no_worker": "a worker were started: `trainbox worker`",
    "no_slot": "a running job ended or were paused, or it asked for fewer slots",
    "no_memory": "a running job ended or were paused, or it asked for less memory",
    "foreign_process": "the other program left the GPU",
    "out_of_service": "what ended jobs have left behind were gone",
    "behind_others": "its priority were higher than that of the jobs before it",
    "user_limit": "one of the user's running jobs ended",
    "dependency": "the jobs that it depends on had succeeded",
    "backoff": "its wait after a lost attempt were over",
    "paused": "somebody resumed it",
}


LACKS = ("no_slot", "no_memory")


def _kept_back(worker: WorkerRow, job: Job) -> Iterable[tuple[str, str]]:
    """What the worker has and cannot give to the job."""
    for sentence in crew.out_of_service(worker):
        yield "out_of_service", sentence
    for device in worker.devices if job.gpus else ():
        if pids := ", ".join(str(use["pid"]) for use in device["foreign_processes"]):
            yield (
                "foreign_process",
                f"GPU {device['index']} is used by a program that is no job of this box: pid {pids}",
            )


def _causes(
    job: Job,
    totals: Sequence[Room],
    held: Sequence[Running],
    needs: frozenset[int],
    position: int,
    own_running: int,
    most_running: int | None,
) -> Iterable[Words]:
    if not totals:
        yield _cause("no_worker", "no worker is alive")
    if needs:
        yield _cause("dependency", f"it waits for {_count(len(needs), 'job')} that it depends on")
    if job.boot == clock.boot_id() and job.not_before > clock.boot_milliseconds():
        seconds = (job.not_before - clock.boot_milliseconds()) / 1000
        yield _cause("backoff", f"its last attempt was lost; it may start again in {seconds:.0f} s")
    if most_running is not None and own_running >= most_running:
        yield _cause("user_limit", f"{job.user} has {_count(own_running, 'running job')}, the most allowed at a time")
    free = [_free(total, held, place) for place, total in enumerate(totals)]
    wanted = Waiting(job.seq, job.user, job.priority, job.threads, job.gpus, 0.0, job.memory_mib or 0)
    if totals and not any(room.hold(wanted) for room in free):
        yield from _lack(wanted, free)
    if position > 1:
        yield _cause("behind_others", f"{_count(position - 1, 'job')} would start before it")


def _lack(wanted: Waiting, free: Sequence[Room]) -> Iterable[Words]:
    """What of the job's wishes no worker has free."""
    roomy = [room for room in free if replace(room, memory_mib=UNKNOWN_MEMORY).hold(wanted)]
    if roomy:
        most_mib = max(room.memory_mib for room in roomy)
        yield _cause("no_memory", f"it needs {wanted.memory_mib} MiB of memory, and {most_mib} MiB are free")
        return
    gpus, threads = max((room.gpus if wanted.gpus else 0, room.threads) for room in free)
    most = f"more than {_slots(threads, gpus)}" if threads or gpus else "any"
    yield _cause("no_slot", f"it needs {_slots(wanted.threads, wanted.gpus)}, and no worker has {most} free")


def _cause(code: str, message: str) -> Words:
    return {"code": code, "message": message}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _slots(threads: int, gpus: float) -> str:
    told = _count(threads, "thread")
    return f"{told} and {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else told


def _free(total: Room, held: Sequence[Running], place: int) -> Room:
    return reduce(Room.less, (each.job for each in held if each.worker == place), total)
