"""What recording costs: a trainer's steps per second beside those of a plain PyTorch loop that records nothing.

What a step pays for being recorded, that is from when the loop gives it away to when the loop goes on, is told too: its
median, and its share of the whole time, in which the writing of many steps together is.

One thread, Adam: an MLP 64-128-10 on the digits, a small residual network on images of 16 x 16, a small transformer on
text. Both loops run in this process, in turns, on the same data.
"""

import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from service import plan as plans, raw_spec, spec as specs
from service.plan import Plan
from service.spec import JobSpec
from workers import trainer
from workers.spool import Writer
from workers.training import loop, models
from workers.training.keeper import EVERY_SECONDS, Keeper, Source
from workers.training.loop import Step, Training
from workers.training.tape import Tape

Arrays = dict[str, NDArray[Any]]

# What a step may pay for being recorded: seconds, the median, and the share of its time.
STEP_SECONDS, STEP_SHARE = 1e-6, 0.01
CLEARLY = 1.5


@dataclass(frozen=True)
class Case:
    """One kind of work. arrays: as a data set stores them. model: what a script would build."""

    name: str
    goal: float
    steps: int
    batch: int
    rounds: int
    task: str
    spec: dict[str, Any]
    rows: int
    arrays: Arrays
    model: Callable[[], nn.Module]


def cases() -> list[Case]:
    digits, chance = load_digits(), np.random.default_rng(0)
    table: Arrays = {"x": digits.data.astype(np.float32), "y": digits.target.astype(np.int64)}
    images: Arrays = {"x": chance.integers(0, 256, (512, 3, 16, 16), dtype=np.uint8), "y": chance.integers(0, 10, 512)}
    text: Arrays = {"text": chance.integers(0, 256, 32 * 512 + 1, dtype=np.uint8)}
    cnn, gpt = specs.CnnModel(width=8), specs.GptModel(layers=2, heads=2, width=64, context=32)
    return [
        Case(
            "mlp", 0.95, 500, 64, 30, "classification", {"type": "mlp", "hidden_sizes": [128]}, 1797, table, perceptron
        ),
        Case(
            "cnn",
            0.98,
            20,
            32,
            12,
            "classification",
            cnn.model_dump(),
            512,
            images,
            lambda: models.build(cnn, (3,), 10),
        ),
        Case(
            "gpt",
            0.98,
            30,
            32,
            12,
            "language_modeling",
            gpt.model_dump(),
            len(text["text"]),
            text,
            lambda: models.build(gpt, (), 256),
        ),
    ]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def plain(case: Case, x: Tensor, y: Tensor) -> float:
    """Seconds of the loop that an engineer writes when nothing is to be kept."""
    torch.use_deterministic_algorithms(False)  # as in a fresh process
    torch.manual_seed(0)
    model = case.model()
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = nn.functional.cross_entropy
    step = 0
    began = perf_counter()
    while step < case.steps:
        order = torch.randperm(len(x))
        for start in range(0, len(x), case.batch):
            batch = order[start : start + case.batch]
            loss = loss_of(model(x[batch]).flatten(0, -2), y[batch].flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step == case.steps:
                break
    return perf_counter() - began


def recorded(training: Training, directory: Path, bell: int) -> tuple[float, list[float]]:
    """Seconds of the trainer's loop, with three values of each step in the spool at the end; those that steps paid."""
    path = directory / "spool"
    path.unlink(missing_ok=True)
    writer = Writer(path, training.series)
    tape = Tape(training, writer, bell)
    source = Source(str(directory), "", 10, "cpu", directory / "checkpoints", [])
    keeper = Keeper(tape, source, attempt=1, step=0, due=perf_counter() + EVERY_SECONDS)
    paid: list[float] = []
    began = perf_counter()
    trainer.record(watched(loop.train(training), paid), tape, keeper, threading.Event())
    seconds = perf_counter() - began
    writer.close()
    assert tape.steps == training.plan.total_steps
    return seconds, paid


def watched(steps: Iterator[Step], paid: list[float]) -> Iterator[Step]:
    """The steps, with the seconds until each next one was asked for."""
    for step in steps:
        given = perf_counter()
        yield step
        paid.append(perf_counter() - given)


def prepared(case: Case, directory: Path) -> Training:
    chosen = {"max_steps": case.steps, "batch_size": case.batch, "optimizer": "adam"}
    raw = {"task": case.task, "dataset": case.name, "model": case.spec, "hyperparameters": chosen}
    spec: JobSpec = raw_spec.parse(raw | {"validation": {"fraction": 0}}, lambda _: [])
    plan: Plan = plans.make(spec, case.rows)
    return loop.prepare(spec, plan, directory, classes=10)


def ready(training: Training) -> tuple[Tensor, Tensor]:
    """The data as a script would lay it out before its loop: numbers standardised, bytes as indices."""
    x, y = training.train.inputs, training.train.targets.long()
    if isinstance(training.model, nn.Sequential) and isinstance(training.model[0], models.Pixels):
        x = training.model[0](x)
    return (x.long() if x.dtype is torch.uint8 else x), y


def compared(case: Case, bell: int, listener: int) -> bool:
    """Whether the goal is met, or missed by no more than the doubt that the rounds leave."""
    ratios: list[float] = []
    medians, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for name, array in case.arrays.items():
            np.save(directory / f"{name}.npy", array)
        x, y = ready(prepared(case, directory))
        for number in range(case.rounds + 1):
            # Each goes first in every second round, so that neither gains from a machine that slows down.
            bare = plain(case, x, y) if number % 2 else 0.0
            ours, paid = recorded(prepared(case, directory), directory, bell)
            bare = bare or plain(case, x, y)
            os.read(listener, 1 << 16)
            if number:  # the first round warms up
                ratios.append(bare / ours)
                medians.append(statistics.median(paid))
                shares.append(sum(paid) / ours)
                rates = f"plain {case.steps / bare:7.1f} steps/s   recorded {case.steps / ours:7.1f} steps/s"
                print(f"{case.name}   {rates}   {bare / ours:.3f}")
    ratio: float = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    # Twice the standard error of a median, from the quartiles: a machine with other things to do widens it.
    doubt: float = 2 * 1.25 * (high - low) / 1.35 / case.rounds**0.5
    print(f"{case.name}: recorded / plain {ratio:.3f} ± {doubt:.3f} (goal {case.goal}, median of {case.rounds} rounds)")
    median, share = statistics.median(medians), statistics.median(shares)
    print(
        f"{case.name}: a step pays {1e6 * median:.2f} µs for being recorded (goal {1e6 * STEP_SECONDS:g}), and with "
        f"the writing {100 * share:.2f} % of its time (goal {100 * STEP_SHARE:g} %)"
    )
    cheap = median <= CLEARLY * STEP_SECONDS and share <= CLEARLY * STEP_SHARE
    return ratio + doubt >= case.goal and cheap


def main() -> int:
    """0 when all goals are met, 1 when one is missed."""
    listener, bell = os.pipe2(os.O_NONBLOCK)
    wanted = sys.argv[1:]
    met = [compared(case, bell, listener) for case in cases() if not wanted or case.name in wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
