"""How long jobs take: by the pace that jobs of their kind have had on this box lately, with as much beside them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import Row, bindparam, select
from sqlalchemy.orm import Session

from service.states import JobStatus
from service.tables import Job, Point, Series

MOST_MEASURED = 200  # finished jobs that times are taken from
TELLING_SECONDS = 30.0  # of training, of which the latest tell the pace of a kind
FIRST_SECONDS = 0.3  # of a running job, which are slower than those that follow
LEAST_SECONDS = 0.3  # of a running job behind them that tell its pace
ALIKE = 0.5  # of what will be beside a job must have been beside another for its pace to be the same

Found = Row[*tuple[Any, ...]]

CHOSEN = Job.spec["hyperparameters"]
COLUMNS: tuple[Any, ...] = (
    Job.seq,
    Job.user,
    Job.priority,
    Job.threads,
    Job.gpus,
    Job.memory_mib,
    Job.task,
    Job.dataset_id,
    Job.spec["model"].as_json().label("model"),
    CHOSEN["optimizer"].as_string().label("optimizer"),
    CHOSEN["precision"].as_string().label("precision"),
    CHOSEN["gradient_accumulation"].as_integer().label("parts"),
    Job.plan["batch_size"].as_integer().label("batch_size"),
    Job.plan["total_steps"].as_integer().label("total_steps"),
    Job.step,
    Job.checkpoint_step,
    Job.active_seconds,
    Job.attempt,
    Job.worker,
    Job.boot,
    Job.not_before,
    Job.reason_since,
    Job.started_at,
    Job.finished_at,
)
# The training time after a step: one row, by its key. Every step has its point, so positions are steps less one.
TIME_AFTER = (
    select(Point.time)
    .join(Series, Series.id == Point.series)
    .where(Series.run == bindparam("run"), Series.name == "train_loss", Point.position == bindparam("step") - 1)
)


@dataclass(frozen=True)
class Stretch:
    """Steps that a job took in a row, and the seconds of training that they took."""

    row: Found
    steps: int
    seconds: float

    @property
    def pace(self) -> float:
        return self.seconds / self.steps


@dataclass(frozen=True)
class Paces:
    """What is known of how long jobs take, in seconds.

    of_step: by kind. of_running: of a step lately, by `seq`. of_sample: in jobs of any kind, None while there was none.
    around: that a job holds its slots beside its steps.
    """

    of_step: dict[str, float]
    of_running: dict[int, float]
    of_sample: float | None
    around: float

    @property
    def basis(self) -> str:
        """What times rest on, in words."""
        if not self.of_step:
            return "no job has run yet, so running times are not known"
        kinds = len(self.of_step)
        return f"step times of {kinds} kind{'' if kinds == 1 else 's'} of job, measured on this box"

    def whole(self, row: Found) -> float:
        """Of a job that waits, in seconds; infinite when nobody can say."""
        return self.around + self._steps(row, row.total_steps - row.checkpoint_step)

    def left(self, row: Found) -> float:
        """Of a running job, in seconds: by its own pace, if it has one yet."""
        if (own := self.of_running.get(row.seq)) is not None:
            return own * float(row.total_steps - row.step)
        return self._steps(row, row.total_steps - row.step) if row.step else self.whole(row)

    def _steps(self, row: Found, steps: int) -> float:
        if (seconds := self.of_step.get(kind(row))) is not None:
            return steps * seconds
        return float("inf") if self.of_sample is None else float(steps * row.batch_size * self.of_sample)


def kind(row: Found) -> str:
    """Jobs of one kind take the same time for a step."""
    computed = f"{row.optimizer} {row.precision} {row.parts} {row.batch_size} {row.threads} {row.gpus}"
    return f"{row.task} {row.dataset_id} {row.model} {computed}"


def measure(session: Session, running: Sequence[Found], busy_threads: int) -> Paces:
    """From the newest jobs that ended well, and those that run.

    busy_threads: how many will be in use while jobs wait. Those that run side by side slow each other down, so what ran
    alone tells too little of a full box, and is asked only where nothing else is known.
    """
    done = select(*COLUMNS).where(Job.status == JobStatus.SUCCEEDED).order_by(Job.seq.desc()).limit(MOST_MEASURED)
    finished = [row for row in session.execute(done).all() if row.step and row.active_seconds]
    finished.sort(key=lambda row: row.finished_at, reverse=True)
    begun = [row for row in running if row.step and row.active_seconds]
    in_use = _threads_in_use([*begun, *finished])

    def is_telling(found: Stretch) -> bool:
        end = _end(found.row)
        beside = in_use(end - found.seconds, end) - found.row.threads
        return bool(beside >= ALIKE * (busy_threads - found.row.threads))

    latest = []
    since_the_last_start = min((row.active_seconds for row in begun), default=0.0)
    for row in begun:
        found = _latest(session, row, TELLING_SECONDS)
        if found is not None and not is_telling(found):
            found = _latest(session, row, since_the_last_start) or found
        if found is not None:
            latest.append(found)
    settled = [*latest, *(Stretch(row, row.step, row.active_seconds) for row in finished)]
    fresh = [Stretch(row, row.step, row.active_seconds) for row in begun]
    of_step: dict[str, float] = {}
    for stretches in ([each for each in settled if is_telling(each)], settled, fresh):
        of_step = _paces(stretches) | of_step
    samples = [found.pace / found.row.batch_size for found in settled or fresh]
    return Paces(
        of_step,
        {found.row.seq: found.pace for found in latest},
        median(samples) if samples else None,
        _around(finished) or _around(begun),
    )


def _latest(session: Session, row: Found, seconds: float) -> Stretch | None:
    """What a running job did in its latest seconds; None while it has only begun."""
    beginning = max(FIRST_SECONDS, row.active_seconds - seconds)
    step = int(row.step * beginning / row.active_seconds)
    if row.active_seconds - beginning < LEAST_SECONDS or step >= row.step:
        return None
    before = session.scalars(TIME_AFTER, {"run": row.seq, "step": step}).one_or_none() if step else 0.0
    return None if before is None else Stretch(row, row.step - step, row.active_seconds - before)


def _paces(stretches: Iterable[Stretch]) -> dict[str, float]:
    """Seconds a step of each kind, over all steps together of the first stretches that are long enough to tell.

    Of all steps together, because a short run is mostly its first ones.
    """
    steps: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for found in stretches:
        name = kind(found.row)
        if seconds[name] < TELLING_SECONDS:
            steps[name] += found.steps
            seconds[name] += found.seconds
    return {name: seconds[name] / steps[name] for name in steps}


def _around(rows: Iterable[Found]) -> float:
    """Seconds from the start of a job to its end, or to now, that it did not train; of those that never stopped."""
    dead = [_end(row) - _moment(row.started_at) - row.active_seconds for row in rows if row.attempt == 1]
    return max(0.0, median(dead)) if dead else 0.0


def _threads_in_use(rows: Sequence[Found]) -> Callable[[float, float], float]:
    """How many threads the jobs had together between two moments, on average."""
    changes = sorted(
        change for row in rows for change in ((_end(row) - row.active_seconds, row.threads), (_end(row), -row.threads))
    )
    moments, steps = np.array(changes).reshape(-1, 2).T
    thread_seconds = np.append(0.0, np.cumsum(np.cumsum(steps)[:-1] * np.diff(moments)))

    def average(begin: float, end: float) -> float:
        first, last = np.interp([begin, end], moments, thread_seconds)
        return float(last - first) / max(end - begin, 1e-9)

    return average


def _end(row: Found) -> float:
    return time.time() if row.finished_at is None else _moment(row.finished_at)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
