"""Who would start when: the box and its queue as they stand, played forward."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import clock, crew, forecast, pace, usage
from service.forecast import Running, Task
from service.intake import Draft
from service.order import UNKNOWN_MEMORY, Room, Waiting
from service.pace import Found, Paces
from service.states import JobStatus
from service.tables import Job, JobDependency, WorkerRow
from service.users import Principal

MOST_AHEAD = 2000  # queued jobs that are played forward
NEWCOMER = 2**62  # the `seq` of a job that is not there yet: behind all that are


@dataclass(frozen=True)
class Outlook:
    """What the workers have and hold, and the seconds until each queued job starts, in the order of starting.

    needs: of each job, those that it waits for. queued: how many wait, as far as they were looked at.
    """

    workers: Sequence[WorkerRow]
    totals: Sequence[Room]
    running: Sequence[Found]
    held: Sequence[Running]
    needs: dict[int, frozenset[int]]
    queued: int
    paces: Paces
    starts: dict[int, float]

    def start(self, seq: int) -> str | None:
        """When the job should start, as RFC 3339; None when nobody can say."""
        seconds = self.starts.get(seq)
        return None if seconds is None else clock.rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))


def look(session: Session, run_path: Path, most_running: int | None, newcomer: Task | None = None) -> Outlook:
    """newcomer: a job that joins the queue now."""
    workers = crew.alive(session, run_path)
    totals = [_room(worker) for worker in workers]
    running, queue, needs = _running(session), _queue(session), _needs(session)
    busy = min(sum(total.threads for total in totals), sum(row.threads for row in (*running, *queue)))
    paces = pace.measure(session, running, busy)
    places = {worker.id: place for place, worker in enumerate(workers)}
    held = [Running(_waiting(row), places[row.worker], paces.left(row)) for row in running if row.worker in places]
    tasks = [Task(_waiting(row), paces.whole(row), _ready_in(row), needs[row.seq]) for row in queue]
    if newcomer is not None and len(queue) < MOST_AHEAD:
        tasks.append(newcomer)
    starts = forecast.starts(totals, held, tasks, usage.recent(session), most_running)
    return Outlook(workers, totals, running, held, needs, len(queue), paces, starts)


def start_of(
    session: Session, principal: Principal, draft: Draft, run_path: Path, most_running: int | None
) -> str | None:
    """When a job should start that was submitted now, as RFC 3339; None when nobody can say."""
    spec, held = draft.spec, draft.spec.resources
    memory = (held.memory_mib or 0) * held.processes
    threads = held.threads * held.processes
    job = Waiting(NEWCOMER, principal.user, spec.priority, threads, held.gpus, 0.0, memory)
    open_needs = select(Job.seq).where(Job.seq.in_(draft.needs), Job.status != JobStatus.SUCCEEDED)
    newcomer = Task(job, seconds=0.0, needs=frozenset(session.scalars(open_needs)))
    return look(session, run_path, most_running, newcomer).start(NEWCOMER)


def _room(worker: WorkerRow) -> Room:
    """What a worker can give out in all: without what is out of service, or used by others."""
    lost = worker.out_of_service
    memory = UNKNOWN_MEMORY if worker.memory_mib is None else worker.memory_mib
    return Room(
        worker.slots - sum(each["threads"] for each in lost),
        sum(not each["foreign_processes"] and not each.get("out_of_service") for each in worker.devices),
        memory_mib=memory - sum(each["memory_mib"] for each in lost),
    )


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


def _ready_in(row: Found) -> float:
    if row.boot != clock.boot_id():
        return 0.0
    return float(max(0, row.not_before - clock.boot_milliseconds())) / 1000
