"""What training together costs: two processes as a trainer has them, beside a script with DistributedDataParallel.

A small residual network on images of 16 x 16, and the MLP 64-128-10, whose steps are so short that messages count. Both
exchange the same gradients over gloo, one thread each, for about a second; the trainer also records, and its leader
tells the other one to go on. How often the processes wait is told too: each message that is waited for counts there,
however busy the machine is.
"""

import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from service import plan as plans, raw_spec
from service.datasets import arrays
from service.spec import JobSpec
from workers import trainer
from workers.spool import Writer
from workers.training import keeper, loop, preparation
from workers.training.keeper import Keeper, Source
from workers.training.tape import Tape

PROCESSES, ROUNDS, BATCH, CLASSES = 2, 5, 64, 10
HIDDEN, WIDTH = 128, 8


@dataclass(frozen=True)
class Case:
    """One kind of work. x: as a data set stores it."""

    name: str
    goal: float
    steps: int
    model: dict[str, Any]
    x: NDArray[Any]
    y: NDArray[Any]


def cases() -> list[Case]:
    digits, chance = load_digits(), np.random.default_rng(0)
    images, classes = chance.integers(0, 256, (512, 3, 16, 16), dtype=np.uint8), chance.integers(0, CLASSES, 512)
    table = digits.data.astype(np.float32)
    return [
        Case("cnn", 0.9, 200, {"type": "cnn", "width": WIDTH}, images, classes),
        Case("mlp", 0.4, 1000, {"type": "mlp", "hidden_sizes": [HIDDEN]}, table, digits.target),
    ]


def plain(rank: int, case: Case, folder: Path, told: Path) -> None:
    """The script that an engineer writes: a share of each batch for each process, and nothing kept."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "meeting"), PROCESSES)  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    training = _prepared(case, folder)  # the same model and the same tensors, but none of our loop
    torch.use_deterministic_algorithms(False)  # as in a fresh process
    model = DistributedDataParallel(training.model)
    optimizer = torch.optim.Adam(model.parameters())
    x, y = training.train.inputs, training.train.targets
    loss_of = nn.functional.cross_entropy
    chance = torch.Generator().manual_seed(0)
    step, began = 0, perf_counter()
    while step < case.steps:
        order = torch.randperm(len(x), generator=chance)
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH].tensor_split(PROCESSES)[rank]
            loss = loss_of(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step == case.steps:
                break
    _end(rank, told, perf_counter() - began)


def recorded(rank: int, case: Case, folder: Path, told: Path) -> None:
    """As the processes of a job do it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # for the advice that `settings.trainer_environment` keeps out of logs
    source = Source(
        str(folder),
        arrays.digest(folder),
        CLASSES,
        "cpu",
        folder / "checkpoints",
        [],
        rank=rank,
        processes=PROCESSES,
        meeting=folder / "meeting",
    )
    training = keeper.begin(*_asked(case), source).training
    if rank:
        for _ in loop.train(training):
            pass
        os._exit(0)
    _, bell = os.pipe2(os.O_NONBLOCK)
    writer = Writer(folder / "spool", training.series)
    tape = Tape(training, writer, bell)
    keeps = Keeper(tape, source, attempt=1, step=0, due=perf_counter() + keeper.EVERY_SECONDS)
    began = perf_counter()
    trainer.record(loop.train(training), tape, keeps, trainer.Stop())
    seconds = perf_counter() - began
    assert tape.steps == case.steps
    training.crew.dismiss()
    _end(rank, told, seconds)


def _end(rank: int, told: Path, seconds: float) -> None:
    if rank == 0:
        told.write_text(str(seconds))
    os._exit(0)


def _asked(case: Case) -> tuple[JobSpec, plans.Plan]:
    raw = {
        "task": "classification",
        "dataset": case.name,
        "model": case.model,
        "hyperparameters": {"max_steps": case.steps, "batch_size": BATCH},
        "validation": {"fraction": 0},
        "resources": {"processes": PROCESSES},
    }
    spec = raw_spec.parse(raw, lambda _: [])
    return spec, plans.make(spec, len(case.x))


def _prepared(case: Case, folder: Path) -> preparation.Training:
    return preparation.prepare(*_asked(case), folder, CLASSES)


def measured(way: Callable[..., None], case: Case) -> tuple[float, int]:
    """(seconds, times that a process began to wait) of the two processes, the latter with all that they do before."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
    with tempfile.TemporaryDirectory() as made:
        folder, told = Path(made) / "data", Path(made) / "seconds"
        folder.mkdir()
        np.save(folder / "x.npy", case.x)
        np.save(folder / "y.npy", case.y)
        multiprocessing.start_processes(  # type: ignore[attr-defined, no-untyped-call]
            way, (case, folder, told), PROCESSES, start_method="fork"
        )
        return float(told.read_text()), resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw - before


def compared(case: Case) -> bool:
    """Whether the goal is met."""
    ratios, waits = [], []
    for number in range(ROUNDS + 1):
        # Each goes first in every second round, so that neither gains from a machine that slows down.
        bare = measured(plain, case) if number % 2 else None
        ours = measured(recorded, case)
        bare = bare or measured(plain, case)
        if number:  # the first round warms up
            ratios.append(bare[0] / ours[0])
            waits.append(ours[1] / bare[1])
            rates = f"plain {case.steps / bare[0]:7.1f} steps/s   recorded {case.steps / ours[0]:7.1f} steps/s"
            print(f"{case.name}   {rates}   {ratios[-1]:.3f}")
    ratio = statistics.median(ratios)
    print(
        f"{case.name}: recorded / plain {ratio:.3f} (goal {case.goal}, median of {ROUNDS} rounds), "
        f"{statistics.median(waits):.2f} times as many waits"
    )
    return ratio >= case.goal


def main() -> int:
    """0 when all goals are met, 1 when one is missed."""
    wanted = sys.argv[1:]
    met = [compared(case) for case in cases() if not wanted or case.name in wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
