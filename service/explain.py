"""Why a job waits, for how long, and what would let it start now."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import clock, control, crew, forecast, pace, usage
from service.forecast import Running, Task
from service.order import UNKNOWN_MEMORY, Room, Waiting
from service.pace import Found
from service.states import JobStatus
from service.tables import Job, JobDependency, WorkerRow
from service.users import Principal

MOST_AHEAD = 2000  # queued jobs that are played forward
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
    workers = crew.alive(session, run_path)
    totals = [_room(worker) for worker in workers]
    running, queue = _running(session), _queue(session)
    busy = min(sum(total.threads for total in totals), sum(row.threads for row in (*running, *queue)))
    paces = pace.measure(session, running, busy)
    places = {worker.id: place for place, worker in enumerate(workers)}
    held = [Running(_waiting(row), places[row.worker], paces.left(row)) for row in running if row.worker in places]
    needs = _needs(session)
    tasks = [Task(_waiting(row), paces.whole(row), _ready_in(row), needs[row.seq]) for row in queue]
    starts = forecast.starts(totals, held, tasks, usage.recent(session), most_running)
    start = starts.get(job.seq)
    position = list(starts).index(job.seq) + 1 if start is not None else len(queue)
    own = sum(row.user == job.user for row in running)
    blocked = list(_causes(job, totals, held, needs[job.seq], position, own, most_running))
    if any(cause["code"] in LACKS for cause in blocked):
        blocked += [_cause(code, message) for worker in workers for code, message in _kept_back(worker, job)]
    if lack is not None:
        blocked.insert(0, _cause("disk_full", lack))
    moment = None if start is None or lack is not None else clock.rfc3339(datetime.now(UTC) + timedelta(seconds=start))
    return {
        "position": position,
        "blocked_by": blocked,
        "estimated_start_at": moment,
        "basis": paces.basis if moment else "nothing to go by: see blocked_by",
        "would_start_now_if": [WISHES[cause["code"]] for cause in blocked if cause["code"] in WISHES],
    }


def _no_longer(job: Job) -> dict[str, Any]:
    blocked = []
    if job.status is JobStatus.PAUSED:
        blocked = [_cause("paused", "it was paused, and waits to be resumed")]
    return {
        "position": None,
        "blocked_by": blocked,
        "estimated_start_at": job.started_at,
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


def _room(worker: WorkerRow) -> Room:
    """What a worker can give out in all: without what is out of service, or used by others."""
    lost = worker.out_of_service
    memory = UNKNOWN_MEMORY if worker.memory_mib is None else worker.memory_mib
    return Room(
        worker.slots - sum(each["threads"] for each in lost),
        sum(not each["foreign_processes"] and not each.get("out_of_service") for each in worker.devices),
        memory_mib=memory - sum(each["memory_mib"] for each in lost),
    )


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
    wanted = _waiting_of(job)
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
    most = max(free, key=lambda room: (room.gpus, room.threads))
    message = f"it needs {_slots(wanted.threads, wanted.gpus)}, and {_slots(most.threads, most.gpus)} are free"
    yield _cause("no_slot", message)


def _cause(code: str, message: str) -> Words:
    return {"code": code, "message": message}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _slots(threads: int, gpus: float) -> str:
    told = _count(threads, "thread")
    return f"{told} and {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else told


def _free(total: Room, held: Sequence[Running], place: int) -> Room:
    return reduce(Room.less, (each.job for each in held if each.worker == place), total)


def _queue(session: Session) -> Sequence[Found]:
    query = select(*pace.COLUMNS).where(Job.status == JobStatus.QUEUED).order_by(Job.priority.desc(), Job.seq)
    return session.execute(query.limit(MOST_AHEAD)).all()


def _running(session: Session) -> Sequence[Found]:
    return session.execute(select(*pace.COLUMNS).where(Job.status == JobStatus.RUNNING)).all()


def _needs(session: Session) -> dict[int, frozenset[int]]:
    """For each waiting job, the jobs that it depends on and that have not succeeded."""
    found: dict[int, set[int]] = defaultdict(set)
    needed = select(Job.seq).where(Job.status != JobStatus.SUCCEEDED).scalar_subquery()
    rows = select(JobDependency.job, JobDependency.needs).where(JobDependency.needs.in_(needed))
    for job, needs in session.execute(rows):
        found[job].add(needs)
    return defaultdict(frozenset, {job: frozenset(needs) for job, needs in found.items()})


def _waiting(row: Found) -> Waiting:
    waited = (datetime.now(UTC) - datetime.fromisoformat(row.reason_since)).total_seconds()
    return Waiting(row.seq, row.user, row.priority, row.threads, row.gpus, waited, row.memory_mib or 0)


def _waiting_of(job: Job) -> Waiting:
    return Waiting(job.seq, job.user, job.priority, job.threads, job.gpus, 0.0, job.memory_mib or 0)


def _ready_in(row: Found) -> float:
    if row.boot != clock.boot_id():
        return 0.0
    return float(max(0, row.not_before - clock.boot_milliseconds())) / 1000
