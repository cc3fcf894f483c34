"""When the state of a training is kept, and how an attempt begins where the last one was kept."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from service import plan as plans
from service.checkpoints import WEIGHTS, Kept
from service.datasets import arrays
from service.plan import Plan
from service.spec import JobSpec
from workers import checkpoints, spool
from workers.checkpoints import STATE, Dump
from workers.training import loop, state, weights
from workers.training.data import Columns, InputChanged
from workers.training.loop import Step, Training
from workers.training.stopping import improves
from workers.training.tape import Tape

EVERY_SECONDS = 30.0  # for a job that names no number of steps
MOST_SHARE = 0.02  # of the time of such a job, however long one takes to write


@dataclass(frozen=True)
class Source:
    """What an attempt begins from. data_sha256: of the data set that the job was submitted for.

    folder: of the job's checkpoints. kept: those to go on from, newest first. micro_batches: see `loop.prepare`.
    """

    data_path: str
    data_sha256: str
    classes: int | None
    device: str
    folder: Path
    kept: Sequence[Kept]
    micro_batches: int | None = None
    columns: Columns = None

    def prepare(self, spec: JobSpec, plan: Plan) -> Training:
        return loop.prepare(
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
    """Goes on from the newest checkpoint that can be used, else from the beginning. Raises InputChanged."""
    if _data_sha256(source.data_path) != source.data_sha256:
        raise InputChanged("the data set is not the one that the job was submitted for")
    unusable: list[dict[str, Any]] = []
    for kept in source.kept:
        training = source.prepare(spec, plan)
        try:
            found = state.load(checkpoints.verified(source.folder, kept))
            differs = state.restore(training, found, source.data_sha256)
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

    step: of the newest state that is kept. due: when the next is, on `perf_counter`.
    """

    tape: Tape
    source: Source
    attempt: int
    step: int
    due: float
    best: Best | None = None
    _waiting: "Weights | None" = None

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
            self._waiting = Weights(step, weights.copied(training))

    def wants(self, step: Step) -> bool:
        """Whether it is time to keep the state after a step. What follows the last one is not asked here."""
        training = self.tape.training
        every = training.spec.checkpoints.every_steps
        due = step.ended >= self.due if every is None else step.number % every == 0
        return due and step.number < training.plan.total_steps

    def keep(self, step: Step) -> str | None:
        """Keeps the state after a step whose points are written; if that fails, a sentence that says why.

        Training need not end for it: the checkpoint before stays. Raises OSError when the spool cannot be written.
        """
        training, began = self.tape.training, perf_counter()
        if step.number == self.step:
            return None
        failure = None
        if self._waiting is not None and self._waiting.step.number < step.number:
            failure = self.keep_best()
        best = asdict(self.best) if self.best is not None else None
        taken = state.capture(training, step.number, self.source.data_sha256, best)
        now = weights.copied(training)
        failure = self._write(step, now, {STATE: lambda file: state.save(taken, file)}) or failure
        ended = perf_counter()
        self.due = ended + max(EVERY_SECONDS, (ended - began) / MOST_SHARE)
        if failure is None:
            self.step, self._waiting = step.number, None
        return failure

    def keep_best(self) -> str | None:
        """Writes what was taken aside, if anything was: the weights alone. A sentence if that fails."""
        # A training that ended with a loss that is not finite may have looked at steps that do not count any more.
        if self._waiting is None or self._waiting.step.number > self.tape.steps:
            return None
        failure = self._write(self._waiting.step, self._waiting.tensors, {})
        if failure is None:
            self._waiting = None
        return failure

    def _write(self, step: Step, tensors: weights.Tensors, further: Mapping[str, Dump]) -> str | None:
        training = self.tape.training
        facts = {
            "active_seconds": self.tape.active_seconds,
            "epoch": plans.epochs_at(step.number, training.plan),
            "metrics": step.validation or {},
            "is_best": self.best is not None and self.best.step == step.number,
        }
        told = weights.described(training, step.number)
        dumps = {WEIGHTS: lambda file: weights.save(tensors, told, file), **further}
        try:
            checkpoints.write(self.source.folder, self.attempt, step.number, facts, dumps)
        except (OSError, RuntimeError) as error:
            return f"no checkpoint of step {step.number}: {type(error).__name__}: {error}"
        self.tape.mark(spool.CHECKPOINT, step.number)
        return None


@dataclass(frozen=True)
class Weights:
    """Weights that wait to be written, and the step that they are of."""

    step: Step
    tensors: weights.Tensors
