"""What a trainer tells of its machine."""

import os

import numpy as np
import pytest
import torch

from service import plan
from service.spec import Hyperparameters, JobSpec, filled
from service.tasks import SYSTEM_SERIES
from workers.training import machine
from workers.training.data import Rows
from workers.training.machine import Meter
from workers.training.preparation import CannotCompute, assemble

CPU, MEMORY, *_ = SYSTEM_SERIES


def test_memory_that_was_given_back_before_anybody_looked_is_told_once() -> None:
    machine.most_memory_mib(os.getpid())
    held = machine.most_memory_mib(os.getpid())
    np.ones(8 << 20)  # 64 MiB
    most = machine.most_memory_mib(os.getpid())
    assert most > machine.most_memory_mib(os.getpid()) + 60
    assert most > held - 60


def test_whether_a_gpu_computes_in_bfloat16_is_asked_of_the_one_that_the_job_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current = ["cuda:0"]
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(device))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _: current[-1] == "cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device}")
    spec = filled(JobSpec(task="classification", dataset="d", hyperparameters=Hyperparameters(precision="bfloat16")))
    inputs, classes = np.zeros((5, 1), np.float32), np.zeros(5, np.int64)
    rows = Rows(inputs, classes, inputs, classes, {"kind": "table"})
    with pytest.raises(CannotCompute, match="the GPU cuda:1 does not"):
        assemble(spec, plan.make(spec, 5), rows, 2, "cuda:1")


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
