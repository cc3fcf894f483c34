"""What is trained, and how: data, models, tasks, schedules and the loop. It knows no queue and no database."""

import os

import numpy as np
import torch

from service import plan as plans
from service.spec import JobSpec, filled
from workers.training import data, keeper, loop, preparation, tape

__all__ = ["data", "keeper", "loop", "tape", "warm"]


def warm() -> None:
    """Readies a process that trainers will be forked from, so that the first step of a child comes sooner.

    It imports and sets up what PyTorch leaves to the first use, on one thread, and never touches CUDA. There is no
    backward pass: a child would wait for ever for the threads of an autograd engine that stayed behind.
    Raises RuntimeError when the process has further threads, because a fork may leave their locks taken.
    """
    torch.set_num_threads(1)
    spec = filled(JobSpec(task="classification", dataset="warm"))
    rows, classes = np.zeros((5, 1), np.float32), np.zeros(5, np.int64)
    data.split(classes, 1, seed=0)
    data.standardise(rows, rows)
    training = preparation.assemble(
        spec, plans.make(spec, 5), data.Rows(rows, classes, rows, classes, {"kind": "table"}), 2, "cpu"
    )
    loop.epoch_order(training, epoch=0)
    loop.validate(training)
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    training.optimizer.step()
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"{threads} threads before a fork: start this process with OMP_NUM_THREADS=1")
