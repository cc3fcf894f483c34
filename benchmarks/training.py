"""What recording costs: a trainer's steps per second beside those of a plain PyTorch loop that records nothing.

The digits, an MLP 64-128-10, batches of 64, Adam, one thread. Both run in this process, in turns, on the same arrays.
"""

import os
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from service import plan as plans, spec as specs
from service.plan import Plan
from service.spec import JobSpec
from workers import trainer
from workers.spool import Writer
from workers.training import loop
from workers.training.keeper import EVERY_SECONDS, Keeper, Source
from workers.training.tape import Tape

GOAL = 0.95
STEPS = 500
ROUNDS = 30

RAW = {
    "task": "classification",
    "dataset": "digits",
    "model": {"type": "mlp", "hidden_sizes": [128]},
    "hyperparameters": {"max_steps": STEPS, "batch_size": 64, "optimizer": "adam"},
    "validation": {"fraction": 0},
}


def plain(x: torch.Tensor, y: torch.Tensor) -> float:
    """Seconds of the loop that an engineer writes when nothing is to be kept."""
    torch.use_deterministic_algorithms(False)  # as in a fresh process
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = nn.functional.cross_entropy
    step = 0
    began = perf_counter()
    while step < STEPS:
        order = torch.randperm(len(x))
        for start in range(0, len(x), 64):
            batch = order[start : start + 64]
            loss = loss_of(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step == STEPS:
                break
    return perf_counter() - began


def recorded(spec: JobSpec, plan: Plan, directory: Path, bell: int) -> float:
    """Seconds of the trainer's loop, with three values of each step in the spool at the end."""
    training = loop.prepare(spec, plan, directory, classes=10)
    path = directory / "spool"
    path.unlink(missing_ok=True)
    writer = Writer(path, training.series)
    tape = Tape(training, writer, bell)
    source = Source(str(directory), "", 10, "cpu", directory / "checkpoints", [])
    keeper = Keeper(tape, source, attempt=1, step=0, due=perf_counter() + EVERY_SECONDS)
    began = perf_counter()
    trainer.record(loop.train(training), tape, keeper, threading.Event())
    seconds = perf_counter() - began
    writer.close()
    assert tape.steps == STEPS
    return seconds


def main() -> int:
    """0 when the goal is met, 1 when it is missed by more than the doubt that the rounds leave."""
    digits = load_digits()
    x, y = digits.data.astype(np.float32), digits.target.astype(np.int64)
    spec = specs.parse(RAW, lambda _: [])
    plan = plans.make(spec, len(x))
    listener, bell = os.pipe2(os.O_NONBLOCK)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        np.save(directory / "x.npy", x)
        np.save(directory / "y.npy", y)
        training = loop.prepare(spec, plan, directory, classes=10)
        inputs, targets = training.train.inputs, training.train.targets
        for round_number in range(ROUNDS + 1):
            # Each goes first in every second round, so that neither gains from a machine that slows down.
            if round_number % 2:
                bare = plain(inputs, targets)
                ours = recorded(spec, plan, directory, bell)
            else:
                ours = recorded(spec, plan, directory, bell)
                bare = plain(inputs, targets)
            os.read(listener, 1 << 16)
            if round_number:  # the first round warms up
                ratios.append(bare / ours)
                print(f"plain {STEPS / bare:7.0f} steps/s   recorded {STEPS / ours:7.0f} steps/s   {bare / ours:.3f}")
    ratio = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    # Twice the standard error of a median, from the quartiles: a machine with other things to do widens it.
    doubt = 2 * 1.25 * (high - low) / 1.35 / ROUNDS**0.5
    print(f"recorded / plain: {ratio:.3f} ± {doubt:.3f} (goal {GOAL}, median of {ROUNDS} rounds)")
    return 0 if ratio + doubt >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
