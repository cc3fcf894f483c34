"""What a trainer tells of its machine."""

import os

import numpy as np
import torch

from service.tasks import SYSTEM_SERIES
from workers.training import machine
from workers.training.machine import Meter

CPU, MEMORY, *_ = SYSTEM_SERIES


def test_memory_that_was_given_back_before_anybody_looked_is_told_once() -> None:
    machine.most_memory_mib(os.getpid())
    held = machine.most_memory_mib(os.getpid())
    np.ones(8 << 20)  # 64 MiB
    most = machine.most_memory_mib(os.getpid())
    assert most > machine.most_memory_mib(os.getpid()) + 60
    assert most > held - 60


def test_the_memory_of_a_training_that_is_over_in_a_moment_is_told() -> None:
    meter = Meter(torch.device("cpu"))
    assert set(meter.look()) == {MEMORY}
    assert meter.look() == {}
