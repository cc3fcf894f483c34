"""Who is next: higher priority first, then the user who had least of the box lately, then the order of submission.

Within one user nobody is overtaken, but by jobs that fit while the first one does not. A job that has waited long for
more slots than are free keeps smaller ones from taking what becomes free.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session, aliased

from service import clock, usage
from service.states import JobStatus
from service.tables import Job, JobDependency, User

RESERVE_SECONDS = 60.0
UNKNOWN_MEMORY = 1 << 40  # MiB that a worker has to give which does not know: more than anybody can ask for


@dataclass(frozen=True)
class Room:
    """Threads, GPUs and memory of a worker, free or in all. gpus: whole ones; share: the largest part of one."""

    threads: int
    gpus: float
    share: float = 0.0
    memory_mib: int = UNKNOWN_MEMORY

    def hold(self, job: "Waiting") -> bool:
        part = 0 < job.gpus < 1
        gpus = max(self.share, self.gpus) if part else self.gpus
        return job.threads <= self.threads and job.gpus <= gpus and job.memory_mib <= self.memory_mib

    def less(self, job: "Waiting") -> "Room":
        """What is left beside a job."""
        threads, memory = self.threads - job.threads, self.memory_mib - job.memory_mib
        return replace(self, threads=threads, gpus=self.gpus - job.gpus, memory_mib=memory)

    def more(self, job: "Waiting") -> "Room":
        """What there is once a job has ended."""
        threads, memory = self.threads + job.threads, self.memory_mib + job.memory_mib
        return replace(self, threads=threads, gpus=self.gpus + job.gpus, memory_mib=memory)


@dataclass(frozen=True)
class Waiting:
    """A queued job that nothing but slots keeps from starting. memory_mib: 0 when it does not say what it needs."""

    seq: int
    user: str
    priority: int
    threads: int
    gpus: float
    waited_seconds: float
    memory_mib: int = 0


def next_job(session: Session, free: Room, total: Room, most_running: int | None) -> int | None:
    """The `seq` of the job that a worker with these slots should start now; None if there is none.

    most_running: how many jobs of one user may run at a time.
    """
    heads = _heads(session)
    if not heads:
        return None
    running = _running(session) if most_running is not None else {}
    allowed = [head for head in heads if most_running is None or running.get(head.user, 0) < most_running]
    used = usage.recent(session) if len(allowed) > 1 else {}
    users = {head.user for head in allowed}
    chosen = choose(allowed, lambda: [job for job in _heads(session, free) if job.user in users], used, free, total)
    return chosen.seq if chosen is not None else None


def choose(
    heads: Sequence[Waiting],
    fitting: Callable[[], Sequence[Waiting]],
    used: Mapping[str, float],
    free: Room,
    total: Room,
) -> Waiting | None:
    """Who starts now: of the first jobs of all users, else, while nothing is kept free, of the first that fit.

    used: slot-seconds of each user. fitting: asked only when no first job fits.
    """
    chosen = pick(heads, used, free, total)
    if chosen is None and not _reserves(heads, free, total):
        return pick(fitting(), used, free, total)
    return chosen


def pick(heads: Iterable[Waiting], used: Mapping[str, float], free: Room, total: Room) -> Waiting | None:
    """The first in order that fits, unless one before it has waited so long that what is free is kept for it.

    heads: one job of each user. used: slot-seconds of each user.
    """
    for head in _ranked(heads, used):
        if free.hold(head):
            return head
        if head.waited_seconds > RESERVE_SECONDS and total.hold(head):
            return None
    return None


def _reserves(heads: Iterable[Waiting], free: Room, total: Room) -> bool:
    """Whether free slots are kept for a job that has waited long and does not fit yet."""
    return any(head.waited_seconds > RESERVE_SECONDS and total.hold(head) and not free.hold(head) for head in heads)


def _ranked(heads: Iterable[Waiting], used: Mapping[str, float]) -> list[Waiting]:
    return sorted(heads, key=lambda head: (-head.priority, used.get(head.user, 0.0), head.seq))


def _startable() -> ColumnElement[bool]:
    """The condition on a job that waits for nothing but its turn and its slots."""
    needed = aliased(Job)
    unmet = (
        select(JobDependency.needs)
        .join(needed, needed.seq == JobDependency.needs)
        .where(JobDependency.job == Job.seq, needed.status != JobStatus.SUCCEEDED)
        .correlate(Job)
        .exists()
    )
    # A reading of another boot's clock says nothing.
    ready = or_(Job.not_before <= bindparam("now"), Job.boot.is_distinct_from(bindparam("boot")))
    return and_(Job.status == JobStatus.QUEUED, ready, ~unmet)


def _first_of_each_user(condition: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """The first job of each user that meets the condition: one step into an index, however many wait."""
    first = (
        select(Job.seq)
        .where(condition, Job.user == User.name)
        .order_by(Job.priority.desc(), Job.seq)
        .limit(1)
        .correlate(User)
        .scalar_subquery()
    )
    columns: tuple[Any, ...] = (
        Job.seq,
        Job.user,
        Job.priority,
        Job.threads,
        Job.gpus,
        Job.reason_since,
        func.coalesce(Job.memory_mib, 0),
    )
    return select(*columns).join(User, Job.seq == first)


# Built once: putting such a statement together takes longer than running it.
HEADS = _first_of_each_user(_startable())
FITTING = _first_of_each_user(
    and_(
        _startable(),
        Job.threads <= bindparam("free_threads"),
        func.coalesce(Job.memory_mib, 0) <= bindparam("free_memory"),
        or_(Job.gpus <= bindparam("free_gpus"), and_(Job.gpus < 1, Job.gpus <= bindparam("free_share"))),
    )
)


def _heads(session: Session, within: Room | None = None) -> list[Waiting]:
    """The first startable job of each user, of those that fit into `within` if it is given."""
    clocks = {"now": clock.boot_milliseconds(), "boot": clock.boot_id()}
    if within is None:
        rows = session.execute(HEADS, clocks)
    else:
        room = {"free_threads": within.threads, "free_gpus": within.gpus, "free_share": within.share}
        rows = session.execute(FITTING, clocks | room | {"free_memory": within.memory_mib})
    now = datetime.now(UTC)
    return [
        Waiting(seq, user, priority, threads, gpus, (now - datetime.fromisoformat(since)).total_seconds(), memory)
        for seq, user, priority, threads, gpus, since, memory in rows
    ]


def _running(session: Session) -> dict[str, int]:
    query = select(Job.user, func.count()).where(Job.status == JobStatus.RUNNING).group_by(Job.user)
    return {row[0]: row[1] for row in session.execute(query)}
