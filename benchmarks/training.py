"""What a trainer costs: steps a second, evaluations, checkpoints and recording included, beside those of a bare PyTorch
loop that evaluates as often, and keeps and records nothing.

A loop over PyTorch's `DataLoader`, and Lightning's `Trainer` in an environment of its own, do the same work for
comparison. All take turns, on the work of `loops`. What a step pays for being recorded is told too. From when the loop
gives a step away to when it goes on, time passes whatever is done with the step, and the more the larger the step,
which has emptied the processor's caches: the median is told beyond that of a loop that does nothing. The share of the
whole time has all of it, and the writing of many steps together.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from benchmarks import environments, loops
from benchmarks.loops import Case, Samples
from service import plan as plans, raw_spec
from service.datasets import arrays
from service.plan import Plan
from service.spec import JobSpec
from workers import trainer
from workers.outcomes import Status
from workers.spool import Writer
from workers.trainer import Order
from workers.training import loop, preparation
from workers.training.keeper import EVERY_SECONDS, Keeper, Source
from workers.training.loop import Step
from workers.training.tape import Tape

ROOT = Path(__file__).parents[1]
LIGHTNING = "2.6.6"
SHARE = 10  # of the steps and rounds, for those that are only told: Lightning takes many times as long

Measure = Callable[[], float]  # steps a second

# What a step may pay for being recorded: seconds, the median, and the share of its time.
STEP_SECONDS, STEP_SHARE = 1e-6, 0.01
CLEARLY = 1.5
PAYING = 3  # rounds


def specified(case: Case) -> tuple[JobSpec, Plan]:
    chosen = {"max_steps": case.steps, "batch_size": case.batch, "optimizer": "adam"}
    raw = {"task": case.task, "dataset": case.name, "model": case.spec, "hyperparameters": chosen}
    spec: JobSpec = raw_spec.parse(raw | {"checkpoints": {"every_steps": case.steps // 2}}, lambda _: [])
    return spec, plans.make(spec, case.rows)


def laid_out(spec: JobSpec, plan: Plan, data: Path) -> Samples:
    training = preparation.prepare(spec, plan, data, classes=10)
    splits = []
    for split in (training.train, training.validation):
        x, y = split.inputs, split.targets.long()
        splits += [x.contiguous() if x.ndim == 4 or x.is_floating_point() else x.long(), y.contiguous()]
    return Samples(*splits)


def attempted(case: Case, data: Path, folder: Path, bell: int) -> Measure:
    """A trainer's whole attempt: from its order to a spool with all points and the last step's state on the disk."""
    spec, plan = specified(case)
    sha256 = arrays.digest(data)

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            order = Order(
                job_id="bench",
                attempt=1,
                spec=spec.model_dump(mode="json"),
                plan=plan.model_dump(mode="json"),
                classes=10,
                dataset_path=str(data),
                dataset_sha256=sha256,
                checkpoints_path=f"{own}/checkpoints",
                checkpoints=[],
                resumed_path=f"{own}/resumed.json",
                spool_path=f"{own}/spool",
                outcome_path=f"{own}/outcome.json",
                device="cpu",
            )
            began = perf_counter()
            with redirect_stdout(io.StringIO()):
                outcome = trainer.attempt(order, trainer.Stop(), bell)
            taken = perf_counter() - began
            assert outcome.status is Status.SUCCEEDED, outcome.message
            assert any(Path(own, "checkpoints").iterdir())
        return case.steps / taken

    return measure


def bare(case: Case, steps: int, samples: Samples, batches: loops.Batches) -> Measure:
    def measure() -> float:
        began = perf_counter()
        loops.train(case, steps, samples, batches)
        return steps / (perf_counter() - began)

    return measure


@contextmanager
def lightning(case: Case, steps: int, folder: Path) -> Iterator[Measure | None]:
    interpreter = environments.installed("pytorch-lightning", LIGHTNING, upon_ours=True)
    if interpreter is None:
        yield None
        return
    command: list[str | Path] = [interpreter, "-m", "benchmarks.lightning_loop", case.name, folder]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout
        assert answered.readline() == "ready\n"

        def measure() -> float:
            asked.write(f"{steps}\n")
            asked.flush()
            return steps / float(answered.readline())

        yield measure
        asked.close()


def cheap(case: Case, data: Path, folder: Path, bell: int) -> bool:
    """Whether recording costs a step no more than it may; tells it."""
    spec, plan = specified(case)
    nothing_kept = {"validation": spec.validation.model_copy(update={"every_steps": case.steps + 1})}
    spec = spec.model_copy(
        update=nothing_kept | {"checkpoints": spec.checkpoints.model_copy(update={"every_steps": None})}
    )
    medians, shares, floors = [], [], []
    for number in range(PAYING):
        paid: list[float] = []
        for _ in watched(loop.train(preparation.prepare(spec, plan, data, classes=10)), paid):
            pass
        floors.append(statistics.median(paid))
        training = preparation.prepare(spec, plan, data, classes=10)
        paid = []
        with closing(Writer(folder / f"spool-{number}", training.series)) as writer:
            tape = Tape(training, writer, bell)
            source = Source(str(data), "", 10, "cpu", folder / "checkpoints", [])
            keeper = Keeper(tape, source, attempt=1, step=0, due=perf_counter() + EVERY_SECONDS)
            began = perf_counter()
            trainer.record(watched(loop.train(training), paid), tape, keeper, trainer.Stop())
            shares.append(sum(paid) / (perf_counter() - began))
            medians.append(statistics.median(paid))
    floor, share = statistics.median(floors), statistics.median(shares)
    median = statistics.median(medians) - floor
    print(
        f"{case.name}: a step pays {1e6 * median:.2f} µs for being recorded (goal {1e6 * STEP_SECONDS:g}), beyond "
        f"{1e6 * floor:.2f} for being taken, and with these and the writing {100 * share:.2f} % of its time "
        f"(goal {100 * STEP_SHARE:g} %)"
    )
    return median <= CLEARLY * STEP_SECONDS and share <= CLEARLY * STEP_SHARE


def watched(steps: Iterator[Step], paid: list[float]) -> Iterator[Step]:
    """The steps, with the seconds until each next one was asked for."""
    for step in steps:
        given = perf_counter()
        yield step
        paid.append(perf_counter() - given)


def compared(case: Case, bell: int, listener: int) -> bool:
    """Whether the goal is met, or missed by no more than the doubt that the rounds leave."""
    seen: dict[str, list[float]] = {"DataLoader": [], "Lightning": []}
    ratios: list[float] = []
    to_floats: list[float] = []
    with tempfile.TemporaryDirectory(prefix="trainbox-bench-") as name:
        folder, data = Path(name), Path(name, "data")
        data.mkdir()
        for array, content in case.arrays.items():
            np.save(data / f"{array}.npy", content)
        samples = laid_out(*specified(case), data)
        torch.save(tuple(samples), folder / "samples.pt")
        ours, plain = attempted(case, data, folder, bell), bare(case, case.steps, samples, loops.indexed)
        made = loops.beforehand(case, samples)
        floats = None if made is None else bare(made[0], case.steps, made[1], loops.indexed)
        few = max(2, case.steps // SHARE)
        with lightning(case, few, folder) as theirs:
            told = {"DataLoader": bare(case, few, samples, loops.loaded), "Lightning": theirs}
            for number in range(case.rounds + 1):
                # Each goes first in every second round, so that neither gains from a machine that slows down.
                first = plain() if number % 2 else 0.0
                recorded = ours()
                rate = first or plain()
                os.read(listener, 1 << 16)
                for other, measure in told.items():
                    if measure is not None and number % SHARE < 2:
                        seen[other].append(measure())
                if number:  # the first round warms up
                    ratios.append(recorded / rate)
                    to_floats += [] if floats is None else [recorded / floats()]
                    print(f"{case.name}   trainer {recorded:8.1f} steps/s   bare loop {rate:8.1f}   {ratios[-1]:.3f}")
        paid_little = cheap(case, data, folder, bell)
        os.read(listener, 1 << 16)
    ratio: float = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    # Twice the standard error of a median, from the quartiles: a machine with other things to do widens it.
    doubt: float = 2 * 1.25 * (high - low) / 1.35 / case.rounds**0.5
    print(
        f"{case.name}: trainer / bare loop {ratio:.3f} ± {doubt:.3f} (goal {case.goal}, median of {case.rounds} rounds)"
    )
    if to_floats:
        ready = statistics.median(to_floats)
        print(
            f"{case.name}: {ready:.3f} beside a loop on images that were made floats before, in four times the memory"
        )
    for other, rates in seen.items():
        if rates:
            print(f"{case.name}: {other:10} {statistics.median(rates[1:]):8.1f} steps/s")
    return ratio + doubt >= case.goal and paid_little


def main() -> int:
    """0 when all goals are met, 1 when one is missed."""
    listener, bell = os.pipe2(os.O_NONBLOCK)
    wanted = sys.argv[1:]
    met = [compared(case, bell, listener) for case in loops.cases() if not wanted or case.name in wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
