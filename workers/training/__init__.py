"""What is trained, and how: data, models, tasks, schedules and the loop. It knows no queue and no database."""

import os

import torch

from service.spec import Hyperparameters, MlpModel
from workers.training import loop, models

__all__ = ["loop", "models", "warm"]


def warm() -> None:
    """Readies a process that trainers will be forked from: the first step of a child then comes 10 ms sooner.

    It imports what PyTorch imports at first use, on one thread, and never touches CUDA. There is no backward pass:
    the threads of the autograd engine would not be there in a child, which then waits for them for ever.
    Raises RuntimeError when the process has further threads, because a fork may leave their locks taken.
    """
    torch.set_num_threads(1)
    model = models.build(MlpModel(hidden_sizes=[1]), inputs=1, outputs=1)
    with torch.no_grad():
        model(torch.zeros(1, 1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loop.optimizer(Hyperparameters(), model.parameters()).step()
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"{threads} threads before a fork: start this process with OPENBLAS_NUM_THREADS=1")
