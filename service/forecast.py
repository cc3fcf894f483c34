"""The queue played forward: who would start when, if jobs take as long as expected. Pure: no session, no clock."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.order import Room, Waiting, choose
from service.usage import weight


@dataclass(frozen=True)
class Task:
    """A queued job. seconds: how long it will hold its slots. ready_in: seconds until it may start at all."""

    job: Waiting
    seconds: float
    ready_in: float = 0.0
    needs: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Running:
    """A job that holds slots of a worker for so many seconds more."""

    job: Waiting
    worker: int
    seconds: float


@dataclass
class _Stage:
    """The box at one moment of the play."""

    totals: list[Room]
    free: list[Room]
    used: dict[str, float]
    held: list[tuple[float, int, int, Waiting]] = field(default_factory=list)  # (end, worker, seq, job)

    def take(self, job: Waiting, worker: int, end: float) -> None:
        self.free[worker] = self.free[worker].less(job)
        heapq.heappush(self.held, (end, worker, job.seq, job))

    def give_back(self, worker: int, job: Waiting) -> None:
        self.free[worker] = self.free[worker].more(job)


def starts(
    totals: Sequence[Room],
    running: Sequence[Running],
    queue: Sequence[Task],
    used: Mapping[str, float],
    most_running: int | None,
) -> dict[int, float]:
    """Seconds until each queued job starts, in the order of starting; what never would is left out.

    totals: the slots of each worker. used: slot-seconds of each user.
    """
    stage = _Stage(list(totals), list(totals), dict(used))
    for each in running:
        stage.take(each.job, each.worker, each.seconds)
    waiting: dict[str, list[Task]] = defaultdict(list)
    for task in sorted(queue, key=lambda task: (-task.job.priority, task.job.seq)):
        waiting[task.job.user].append(task)
    queued = {task.job.seq for task in queue}
    began: dict[int, float] = {}
    done: set[int] = set()
    now = 0.0
    while any(waiting.values()):
        if not _start_one(stage, waiting, began, now, queued - done, most_running):
            later = [task.ready_in for tasks in waiting.values() for task in tasks if task.ready_in > now]
            ends = [stage.held[0][0]] if stage.held else []
            if not later and not ends:
                break
            then = min([*later, *ends])
            if then == float("inf"):
                break
            for _, _, _, job in stage.held:
                stage.used[job.user] = stage.used.get(job.user, 0.0) + weight(job.threads, job.gpus) * (then - now)
            now = then
            while stage.held and stage.held[0][0] <= now:
                _, worker, seq, job = heapq.heappop(stage.held)
                stage.give_back(worker, job)
                done.add(seq)
    return began


def _start_one(
    stage: _Stage,
    waiting: dict[str, list[Task]],
    began: dict[int, float],
    now: float,
    unfinished: set[int],
    most_running: int | None,
) -> bool:
    """Starts the job that is next, if there is one that fits; whether there was."""
    counts: dict[str, int] = defaultdict(int)
    for _, _, _, job in stage.held:
        counts[job.user] += 1
    ready = {
        user: [task for task in tasks[:64] if task.ready_in <= now and not task.needs & unfinished]
        for user, tasks in waiting.items()
        if most_running is None or counts[user] < most_running
    }
    for worker, free in enumerate(stage.free):
        chosen = _chosen(ready, stage.used, free, stage.totals[worker], now)
        if chosen is not None:
            waiting[chosen.job.user].remove(chosen)
            began[chosen.job.seq] = now
            stage.take(chosen.job, worker, now + chosen.seconds)
            return True
    return False


def _chosen(
    ready: Mapping[str, list[Task]], used: Mapping[str, float], free: Room, total: Room, now: float
) -> Task | None:
    tasks = {task.job.seq: task for each in ready.values() for task in each}
    heads = [_aged(each[0], now) for each in ready.values() if each]

    def fitting() -> list[Waiting]:
        first = (next((task for task in each if free.hold(task.job)), None) for each in ready.values())
        return [_aged(task, now) for task in first if task is not None]

    found = choose(heads, fitting, used, free, total)
    return tasks[found.seq] if found is not None else None


def _aged(task: Task, seconds: float) -> Waiting:
    return replace(task.job, waited_seconds=task.job.waited_seconds + seconds)
