"""What a trainer tells of its machine."""

import os

import numpy as np
import pytest
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


def test_a_driver_that_does_not_know_how_busy_a_gpu_is_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: torch.device) -> int:
        raise Exception("Not Supported")

    monkeypatch.setattr(torch.cuda, "utilization", busy)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 1 << 30)
    told = Meter(torch.device("cuda:0")).look()
    assert told == {MEMORY: told[MEMORY], "system/gpu_memory_mib": 1024.0}


def test_the_memory_of_a_training_that_is_over_in_a_moment_is_told() -> None:
    meter = Meter(torch.device("cpu"))
    assert set(meter.look()) == {MEMORY}
    assert meter.look() == {}
