"""The queue played forward: who would start when, if jobs take as long as expected. Pure: no session, no clock."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from service.order import Room, Waiting, choose
from service.usage import weight

LOOKED_AT = 64  # of each user's jobs, for one that may start


@dataclass(frozen=True)
class Task:
    """A queued job. seconds: how long it will hold its slots. ready_in: seconds until it may start at all.

    needs: jobs that have to succeed first; one that neither runs nor waits here never will.
    """

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
    due = sorted({task.ready_in for task in queue if task.ready_in > 0}, reverse=True)
    began: dict[int, float] = {}
    done: set[int] = set()
    now = 0.0
    while any(waiting.values()):
        if not _start_one(stage, waiting, began, now, done, most_running):
            while due and due[-1] <= now:
                due.pop()
            then = min([*due[-1:], *(end for end, *_ in stage.held[:1])], default=float("inf"))
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
    done: set[int],
    most_running: int | None,
) -> bool:
    """Starts the job that is next, if there is one that fits; whether there was."""
    counts: dict[str, int] = defaultdict(int)
    for _, _, _, job in stage.held:
        counts[job.user] += 1
    allowed = [tasks for user, tasks in waiting.items() if most_running is None or counts[user] < most_running]

    def first_of_each(fits: Callable[[Waiting], bool]) -> dict[int, Task]:
        """The first task of each user that may start and fits, by its job's `seq`."""
        firsts = (
            next((task for task in islice(tasks, LOOKED_AT) if _is_ready(task, now, done) and fits(task.job)), None)
            for tasks in allowed
        )
        return {task.job.seq: task for task in firsts if task is not None}

    heads = first_of_each(lambda _: True)
    for worker, free in enumerate(stage.free):
        tasks = dict(heads)

        def fitting(free: Room = free, tasks: dict[int, Task] = tasks) -> list[Waiting]:
            found = first_of_each(free.hold)
            tasks.update(found)
            return [_aged(task, now) for task in found.values()]

        aged = [_aged(task, now) for task in heads.values()]
        chosen = choose(aged, fitting, stage.used, free, stage.totals[worker])
        if chosen is not None:
            task = tasks[chosen.seq]
            waiting[chosen.user].remove(task)
            began[chosen.seq] = now
            stage.take(task.job, worker, now + task.seconds)
            return True
    return False


def _is_ready(task: Task, now: float, done: set[int]) -> bool:
    return task.ready_in <= now and task.needs <= done


def _aged(task: Task, seconds: float) -> Waiting:
    return replace(task.job, waited_seconds=task.job.waited_seconds + seconds)
