"""The scribe: puts checkpoints on the disk beside the training, in a thread of its own.

It computes nothing: what it is given are copies in main memory, and no random number is drawn here, so that the bits of
a training do not hang on when a checkpoint is written.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from service.checkpoints import WEIGHTS
from workers import checkpoints, spool
from workers.checkpoints import STATE, Dump
from workers.training import weights
from workers.training.state import State, save
from workers.training.tape import Tape


@dataclass(frozen=True)
class Draft:
    """A checkpoint to be written, of copies that the training no longer touches.

    description: of the weights, for other programs. facts: see `checkpoints.write`. state: None for weights alone.
    """

    step: int
    tensors: weights.Tensors
    description: dict[str, Any]
    facts: dict[str, Any]
    state: State | None = None

    def dumps(self) -> dict[str, Dump]:
        """What writes each of its files."""
        kept = self.state
        found: dict[str, Dump] = {WEIGHTS: lambda file: weights.save(self.tensors, self.description, file)}
        return found if kept is None else found | {STATE: lambda file: save(kept, file)}


@dataclass(frozen=True)
class Written:
    """What became of some drafts. steps: of those that are on the disk. seconds: that it took."""

    steps: list[int]
    failure: str | None
    seconds: float


@dataclass
class Scribe:
    """Writes for one attempt. folder: of the job's checkpoints."""

    tape: Tape
    folder: Path
    attempt: int
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "scribe"))
    _work: Future[Written] | None = None

    @property
    def busy(self) -> bool:
        return self._work is not None

    @property
    def done(self) -> bool:
        """Whether there is something to take, and no need to wait for it."""
        return self._work is not None and self._work.done()

    def begin(self, drafts: Sequence[Draft]) -> None:
        """Only when not busy: a second copy of a large training may be what there is no memory for."""
        assert self._work is None
        self._work = self._thread.submit(self._write, drafts)

    def take(self) -> Written | None:
        """What became of what was begun, when it is done; None if nothing was. Raises what `_write` does."""
        work, self._work = self._work, None
        return None if work is None else work.result()

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()

    def _write(self, drafts: Sequence[Draft]) -> Written:
        """In order. Raises OSError when the spool cannot be written, and MemoryError."""
        began, steps, failure = perf_counter(), [], None
        for draft in drafts:
            try:
                checkpoints.write(self.folder, self.attempt, draft.step, draft.facts, draft.dumps())
            except (OSError, RuntimeError) as error:
                failure = f"no checkpoint of step {draft.step}: {type(error).__name__}: {error}"
            else:
                # The points up to the step are in the spool since before the copy was taken.
                self.tape.mark(spool.CHECKPOINT, draft.step)
                steps.append(draft.step)
        return Written(steps, failure, perf_counter() - began)
