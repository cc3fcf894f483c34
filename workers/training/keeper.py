"""When the state of a training is kept, and how an attempt begins where the last one was kept."""

import errno
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from service import plan as plans
from service.checkpoints import Kept
from service.datasets import arrays
from service.extensions import FurtherModel
from service.plan import Plan
from service.spec import JobSpec
from workers import checkpoints
from workers.training import parallel, preparation, state, weights
from workers.training.data import HERE, Columns, InputChanged, apart
from workers.training.loop import Step
from workers.training.preparation import Training
from workers.training.scribe import Draft, Scribe
from workers.training.stopping import improves
from workers.training.tape import Tape

EVERY_SECONDS = 30.0  # for a job that names no number of steps
MOST_SHARE = 0.02  # of the time of such a job, however long one takes to write


@dataclass(frozen=True)
class Source:
    """What an attempt begins from. data_sha256: of the data set that the job was submitted for.

    folder: of the job's checkpoints. kept: those to go on from, newest first. micro_batches: see `preparation.prepare`.
    rank: of this process among those that train together; meeting: a file that only they know.
    """

    data_path: str
    data_sha256: str
    classes: int | None
    device: str
    folder: Path
    kept: Sequence[Kept]
    micro_batches: int | None = None
    columns: Columns = None
    rank: int = 0
    processes: int = 1
    meeting: Path = HERE / "meeting"

    def prepare(self, spec: JobSpec, plan: Plan) -> Training:
        return preparation.prepare(
            spec,
            plan,
            self.data_path,
            self.classes,
            self.device,
            self.micro_batches,
            columns=self.columns,
            data_sha256=self.data_sha256,
        )


@dataclass(frozen=True)
class Best:
    """The best validation so far: its step, its value of the metric that counts, and the name of its folder."""

    step: int
    value: float
    name: str


@dataclass(frozen=True)
class Beginning:
    """A training, ready for the step behind `step`. active_seconds: of training before.

    best: of its validations so far. unusable: newer checkpoints and why they were passed over. differs: what keeps the
    curve from being exactly that of an undisturbed training.
    """

    training: Training
    step: int
    active_seconds: float
    best: "Best | None"
    unusable: list[dict[str, Any]]
    differs: list[str]

    def told(self) -> dict[str, Any]:
        """What the recorder is told."""
        return {"step": self.step, "unusable": self.unusable, "differs": self.differs}


def begin(spec: JobSpec, plan: Plan, source: Source) -> Beginning:
    """Goes on from the newest checkpoint that can be used, else from the beginning; if several processes do, together.

    Raises InputChanged, and what `parallel.join` does.
    """
    begun = _found(spec, plan, source)
    if source.processes == 1:
        return begun
    training = begun.training
    if begun.step == 0 and source.rank:
        torch.manual_seed(apart(spec.hyperparameters.seed, source.rank, 0))
    plain = not isinstance(spec.model, FurtherModel)  # what packages bring may do as it likes
    crew = parallel.join(
        training.model, training.device, source.rank, source.processes, source.meeting, begun.step, plain
    )
    return replace(begun, training=replace(training, crew=crew))


def _found(spec: JobSpec, plan: Plan, source: Source) -> Beginning:
    # Once is enough for all processes: without the leader the others end.
    if source.rank == 0 and _data_sha256(source.data_path) != source.data_sha256:
        raise InputChanged("the data set is not the one that the job was submitted for")
    unusable: list[dict[str, Any]] = []
    for kept in source.kept:
        training = source.prepare(spec, plan)
        try:
            found = state.load(checkpoints.verified(source.folder, kept))
            differs = state.restore(training, found, source.data_sha256, source.rank)
        except InputChanged:
            raise
        except Exception as error:  # whatever it is, there may be an older one without it
            reason = str(error) if isinstance(error, checkpoints.Unusable) else f"{type(error).__name__}: {error}"
            unusable.append({"step": kept.step, "reason": " ".join(reason.split())[:200]})
        else:
            best = Best(**found["best"]) if found["best"] else None
            # With its files gone the next best validation is the best that can be had.
            best = best if best is not None and (source.folder / best.name).is_dir() else None
            return Beginning(training, kept.step, kept.active_seconds, best, unusable, differs)
    return Beginning(source.prepare(spec, plan), 0, 0.0, None, unusable, [])


def _data_sha256(path: str) -> str:
    """Of the arrays as they are now. Raises InputChanged when they, or a registered file, cannot be read any more."""
    try:
        return arrays.digest(path)
    except (FileNotFoundError, PermissionError, NotADirectoryError, ValueError) as error:
        raise InputChanged("the data set cannot be read any more") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputChanged("a registered file is a link now") from error
        raise


@dataclass
class Keeper:
    """Keeps the state of one attempt's training, and the weights of its best validation.

    Training pays for a copy, which is written beside it. step: of the newest state that is kept. due: when the next is,
    on `perf_counter`.
    """

    tape: Tape
    source: Source
    attempt: int
    step: int
    due: float
    best: Best | None = None
    _waiting: Draft | None = None

    def __post_init__(self) -> None:
        self._scribe = Scribe(self.tape, self.source.folder, self.attempt)
        training = self.tape.training
        named, self._last = training.spec.checkpoints.every_steps, training.plan.total_steps
        self._by_time = named is None
        self.every = named or self._last  # only after a multiple of so many steps its number makes one wanted

    def look(self, step: Step) -> None:
        """Takes the weights aside when no validation before was better; they are written with the next state."""
        if step.validation is None:
            return
        training = self.tape.training
        stopping = training.spec.early_stopping
        metric = "val_loss" if stopping is None else stopping.metric
        value = step.validation[metric]
        if improves(metric, value, None if self.best is None else self.best.value):
            self.best = Best(step.number, value, f"a{self.attempt}-s{step.number}")
            self._waiting = self._draft(step)

    def wants(self, step: Step) -> bool:
        """Whether it is time to keep the state after a step. What follows the last one is not asked here.

        A job that names its steps gets them, and waits for the writing of the one before; others put it off.
        """
        due = step.ended >= self.due and not self._scribe.busy if self._by_time else step.number % self.every == 0
        return due and step.number < self._last

    def keep(self, step: Step) -> str | None:
        """Copies the state after a step whose points are written, to be written itself from now on.

        Waits for the one before: `settle` tells of both what that does. Training need not end for a failure.
        """
        failure = self.settle()
        if step.number == self.step:
            return failure
        drafts = [self._waiting] if self._waiting is not None and self._waiting.step < step.number else []
        best = asdict(self.best) if self.best is not None else None
        taken = state.capture(self.tape.training, step.number, self.source.data_sha256, best)
        self._scribe.begin([*drafts, self._draft(step, taken)])
        return failure

    def keep_best(self) -> str | None:
        """Writes what was taken aside, if anything was: the weights alone. A sentence if that fails."""
        failure = self.settle()
        # A training that ended with a loss that is not finite may have looked at steps that do not count any more.
        if self._waiting is None or self._waiting.step > self.tape.steps:
            return failure
        self._scribe.begin([self._waiting])
        return self.settle() or failure

    def heard(self) -> str | None:
        """What `settle` says, if that can be said without waiting."""
        return self.settle() if self._scribe.done else None

    def settle(self) -> str | None:
        """Waits until what was begun is on the disk and its mark in the spool: a sentence if that failed.

        The checkpoint before then stays. Raises OSError when the spool cannot be written, and MemoryError.
        """
        written = self._scribe.take()
        if written is None:
            return None
        self.due = perf_counter() + max(EVERY_SECONDS, written.seconds / MOST_SHARE)
        self.step = max([self.step, *written.steps])
        if self._waiting is not None and self._waiting.step in written.steps:
            self._waiting = None
        return written.failure

    def close(self) -> None:
        """Waits for the disk, whatever the training came to."""
        self._scribe.close()

    def _draft(self, step: Step, whole: state.State | None = None) -> Draft:
        training = self.tape.training
        facts = {
            "active_seconds": self.tape.active_seconds,
            "epoch": plans.epochs_at(step.number, training.plan),
            "metrics": step.validation or {},
            "is_best": self.best is not None and self.best.step == step.number,
        }
        return Draft(step.number, weights.copied(training), weights.described(training, step.number), facts, whole)
