"""The trainer: one attempt of one job in a process of its own, from its order to its outcome.

It knows no database: points go to the spool, sentences to the log, and the end to the outcome file.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from service import clock
from service.checkpoints import Kept
from service.plan import Plan
from service.spec import JobSpec
from workers import outcomes
from workers.outcomes import Outcome, Status
from workers.spool import RESUMED, Writer

if TYPE_CHECKING:
    from workers.training.keeper import Beginning, Keeper
    from workers.training.loop import Step
    from workers.training.tape import Tape

GRACE_SECONDS = 10.0  # from the worker's death to the trainer's, if it does not come to the end of a step


@dataclass(frozen=True)
class Order:
    """What a trainer is told: which attempt, what to train on what, and where to leave its points and its outcome.

    spec, plan: as the job stores them. classes: of the data set, for classification. device: `cpu` or `cuda:0`.
    checkpoints: those that there are, the newest first; resumed_path: where to say which one it goes on from.
    micro_batches: parts of a full batch, when those of the plan are too large for the device.
    columns: of a table, as the data set describes them. devices: one for each process, where several train together.
    rank: of this one among them: 0 leads, and alone writes points and checkpoints.
    """

    job_id: str
    attempt: int
    spec: dict[str, Any]
    plan: dict[str, Any]
    classes: int | None
    dataset_path: str
    dataset_sha256: str
    checkpoints_path: str
    checkpoints: list[Kept]
    resumed_path: str
    spool_path: str
    outcome_path: str
    device: str
    micro_batches: int | None = None
    columns: list[dict[str, Any]] | None = None
    devices: list[str] = field(default_factory=list)
    rank: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        fields = json.loads(text)
        fields["checkpoints"] = [Kept(**kept) for kept in fields["checkpoints"]]
        return cls(**fields)


@dataclass(slots=True)
class Stop:
    """Asks a training to end with its step. A slot and no `threading.Event`, since it is looked at after each step."""

    asked: bool = False

    def set(self) -> None:
        self.asked = True


def run(order: Order, lifeline: int, bell: int) -> int:
    """Trains as ordered in this process, which ends afterwards, and leaves the outcome. Returns the exit code.

    lifeline: the reading end of a pipe whose other end only the worker holds; it closes when the worker dies.
    bell: the writing end of a pipe on which the worker hears that there are new points.
    SIGTERM stops the training at the end of its step.
    """
    stop, over = Stop(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_hold, args=(lifeline, stop, over), daemon=True).start()
    os.set_blocking(bell, False)
    draft = Path(f"{order.outcome_path}.tmp")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    # Taken now, because an attempt that ends for want of disk space has something to say.
    os.posix_fallocate(file, 0, outcomes.BYTES)

    outcome = attempt(order, stop, bell)
    content = outcome.to_json().encode()
    os.pwrite(file, content, 0)
    os.ftruncate(file, len(content))
    os.fsync(file)
    os.close(file)
    draft.rename(order.outcome_path)
    if order.rank == 0 or outcome.status is Status.FAILED:
        _say(f"{outcome.status.value}: {outcome.message}")
    over.set()
    return 1 if outcome.status is Status.FAILED else 0


def attempt(order: Order, stop: Stop, bell: int) -> Outcome:
    """Trains until the last step, `stop` or an error, from the newest checkpoint that can be used.

    All points of its steps are in the spool afterwards, and a checkpoint of the last one is on the disk.
    """
    # Whoever only writes orders, as the worker does, must not pay for torch: two seconds and 217 MiB.
    from workers.training import determinism, keeper, loop, preparation
    from workers.training.tape import Tape

    tape = None
    try:
        spec, plan = JobSpec.model_validate(order.spec), Plan.model_validate(order.plan)
        if order.rank == 0:
            _say(f"job {order.job_id}, attempt {order.attempt}")
        source = keeper.Source(
            order.dataset_path,
            order.dataset_sha256,
            order.classes,
            order.device,
            Path(order.checkpoints_path),
            [kept for kept in order.checkpoints if kept.resumable],
            order.micro_batches,
            order.columns,
            order.rank,
            max(1, len(order.devices)),
        )
        begun = keeper.begin(spec, plan, source)
        if order.rank:
            return _follow(begun)
        for sentence in preparation.summary(begun.training):
            _say(sentence)
        with closing(Writer(order.spool_path, begun.training.series)) as writer:
            tape = Tape(begun.training, writer, bell, begun.step, begun.active_seconds)
            if source.kept:
                _say(f"goes on after step {begun.step}")
                Path(order.resumed_path).write_text(json.dumps(begun.told()))
                tape.mark(RESUMED, begun.step)
            due = perf_counter() + keeper.EVERY_SECONDS
            keeps = keeper.Keeper(tape, source, order.attempt, begun.step, due, begun.best)
            for sentence in determinism.known(begun.training):
                tape.doubt(sentence)
            with closing(keeps):
                with determinism.heard(tape.doubt):
                    last = record(loop.train(begun.training, begun.step + 1), tape, keeps, stop)
                if last is not None:
                    _complain(keeps.keep(last))
                _complain(keeps.settle())
            begun.training.crew.dismiss()
    except Exception as error:
        return outcomes.failure(error, tape.steps if tape else 0)
    patience = begun.training.patience
    if patience is not None and patience.over:
        return Outcome(Status.STOPPED_EARLY, patience.told(), tape.steps)
    if tape.steps < plan.total_steps:
        return Outcome(Status.STOPPED, f"asked to stop after step {tape.steps} of {plan.total_steps}", tape.steps)
    return Outcome(Status.SUCCEEDED, f"trained {tape.steps} steps", tape.steps)


def _follow(begun: "Beginning") -> Outcome:
    """Takes steps as long as the leader does, who decides alone and whom SIGTERM is for."""
    from workers.training import loop

    number = begun.step
    for step in loop.train(begun.training, begun.step + 1):
        number = step.number
    return Outcome(Status.SUCCEEDED, f"followed to step {number}", number)


def record(steps: "Iterator[Step]", tape: "Tape", keeper: "Keeper", stop: Stop) -> "Step | None":
    """Takes steps until there are no more or it is to stop, and writes down all that were taken, whatever happens.

    The state is kept when the keeper wants it, which is asked after the steps that it may be wanted for and at each
    flush. Returns the last step, whose state is still to be kept.
    """
    from workers.training.tape import NonFinite

    step, every = None, keeper.every
    if stop.asked:
        return step
    try:
        try:
            for step in steps:
                tape.waiting.append(step)
                # Nothing more for most steps, and no call: what a step has driven out of the processor's caches
                # is fetched anew, and each function that is entered takes longer than all that it does.
                if step.validation is None and step.ended < tape.due and step.number % every and not stop.asked:
                    continue
                keeper.look(step)
                if stop.asked:
                    break
                wanted = keeper.wants(step)
                if wanted or step.ended >= tape.due:
                    _report(tape.flush())
                    _complain(keeper.heard())
                if wanted:
                    _complain(keeper.keep(step))
        finally:
            _report(tape.flush())
    except NonFinite:
        _complain(keeper.keep_best())  # what was good before stays
        raise
    return step


def _hold(lifeline: int, stop: Stop, over: threading.Event) -> None:
    """Waits for the worker's death, then stops the training, or the process if the training does not stop."""
    while os.read(lifeline, 1):
        pass
    stop.set()
    if not over.wait(GRACE_SECONDS):
        os._exit(1)


def _report(step: "Step | None") -> None:
    """One line for a validated step. There are no more of them than flushes, however often it is validated."""
    if step is not None and step.validation is not None:
        scores = ", ".join(f"{name} {value:.6g}" for name, value in step.validation.items())
        _say(f"step {step.number}: {scores}")


def _complain(failure: str | None) -> None:
    if failure is not None:
        _say(failure)


def _say(sentence: str) -> None:
    # The log is on the same disk as the spool: when that is full, the spool says so.
    with suppress(OSError):
        print(f"{clock.now()} {sentence}", flush=True)  # noqa: T201
