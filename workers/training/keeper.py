"""When the state of a training is kept, and how an attempt begins where the last one was kept."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from service import plan as plans
from service.checkpoints import Kept
from service.datasets import arrays
from service.plan import Plan
from service.spec import JobSpec
from workers import checkpoints, spool
from workers.training import loop, state
from workers.training.data import InputChanged
from workers.training.loop import Step, Training
from workers.training.tape import Tape

EVERY_SECONDS = 30.0  # for a job that names no number of steps
MOST_SHARE = 0.02  # of the time of such a job, however long one takes to write


@dataclass(frozen=True)
class Source:
    """What an attempt begins from. data_sha256: of the data set that the job was submitted for.

    folder: of the job's checkpoints. kept: those that count, newest first.
    """

    data_path: str
    data_sha256: str
    classes: int | None
    device: str
    folder: Path
    kept: Sequence[Kept]
    columns: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Beginning:
    """A training, ready for the step behind `step`. active_seconds: of training before.

    unusable: newer checkpoints and why they were passed over. differs: what keeps the curve from being exactly that
    of an undisturbed training.
    """

    training: Training
    step: int
    active_seconds: float
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
        training = loop.prepare(spec, plan, source.data_path, source.classes, source.device, source.columns)
        try:
            found = state.load(checkpoints.verified(source.folder, kept))
            differs = state.restore(training, found, source.data_sha256)
        except InputChanged:
            raise
        except Exception as error:  # whatever it is, there may be an older one without it
            reason = str(error) if isinstance(error, checkpoints.Unusable) else f"{type(error).__name__}: {error}"
            unusable.append({"step": kept.step, "reason": " ".join(reason.split())[:200]})
        else:
            return Beginning(training, kept.step, kept.active_seconds, unusable, differs)
    training = loop.prepare(spec, plan, source.data_path, source.classes, source.device, source.columns)
    return Beginning(training, 0, 0.0, unusable, [])


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
    """Keeps the state of one attempt's training. step: of the newest that is kept. due: when, on `perf_counter`."""

    tape: Tape
    source: Source
    attempt: int
    step: int
    due: float

    def wants(self, step: Step) -> bool:
        """Whether it is time to keep the state after a step. After the last one there is nothing to go on with."""
        training = self.tape.training
        every = training.spec.checkpoints.every_steps
        due = step.ended >= self.due if every is None else step.number % every == 0
        return due and step.number < training.plan.total_steps

    def keep(self, step: Step) -> str | None:
        """Keeps the state after a step whose points are written; if that fails, a sentence that says why.

        Training need not end for it: the checkpoint before stays. Raises OSError when the spool cannot be written.
        """
        training, began = self.tape.training, perf_counter()
        if step.number in (self.step, training.plan.total_steps):
            return None
        taken = state.capture(training, step.number, self.source.data_sha256)
        facts = {
            "active_seconds": self.tape.active_seconds,
            "epoch": float(plans.epochs_at(np.array([step.number]), training.plan)[0]),
            "metrics": step.validation or {},
        }
        try:
            checkpoints.write(
                self.source.folder, self.attempt, step.number, facts, lambda file: state.save(taken, file)
            )
        except (OSError, RuntimeError) as error:
            return f"no checkpoint of step {step.number}: {type(error).__name__}: {error}"
        finally:
            now = perf_counter()
            self.due = now + max(EVERY_SECONDS, (now - began) / MOST_SHARE)
        self.step = step.number
        self.tape.mark(spool.CHECKPOINT)
        return None
