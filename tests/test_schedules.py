import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, strategies as st
from torch.optim import Optimizer, lr_scheduler

from service.spec import Hyperparameters
from workers.training.schedules import learning_rate

PEAK = 0.3
SCHEDULES = ["constant", "linear", "cosine", "step", "exponential", "one_cycle"]

# What PyTorch offers for the same curve over `total` steps.
TORCH: dict[str, Callable[[Optimizer, int], lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, total: lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=total),
    "linear": lambda optimizer, total: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total),
    "cosine": lambda optimizer, total: lr_scheduler.CosineAnnealingLR(optimizer, total),
    "step": lambda optimizer, total: lr_scheduler.MultiStepLR(
        optimizer, [math.ceil(total / 2), math.ceil(3 * total / 4)]
    ),
    "exponential": lambda optimizer, total: lr_scheduler.ExponentialLR(optimizer, 0.01 ** (1 / total)),
    "one_cycle": lambda optimizer, total: lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=total),
}


def ours(schedule: str, total: int, warmup: int = 0) -> list[float]:
    chosen = Hyperparameters.model_validate({"learning_rate": PEAK, "lr_schedule": schedule, "warmup_steps": warmup})
    return [learning_rate(step, total, chosen) for step in range(1, total + 1)]


def by_torch(make: Callable[[Optimizer, int], lr_scheduler.LRScheduler], scheduled: int, total: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer, scheduled)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [2, 3, 7, 10, 100, 1001])
def test_a_schedule_gives_the_rates_of_pytorch(schedule: str, total: int) -> None:
    rates = by_torch(TORCH[schedule], total, total)
    # PyTorch goes from one rate to the next and gathers rounding errors on the way.
    assert ours(schedule, total) == pytest.approx(rates, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "one_cycle"])
def test_after_the_warm_up_the_schedule_covers_the_steps_that_remain(schedule: str) -> None:
    warmup, total = 20, 100

    def warmed(optimizer: Optimizer, scheduled: int) -> lr_scheduler.LRScheduler:
        rising = lr_scheduler.LambdaLR(optimizer, lambda done: (done + 1) / warmup)
        falling = TORCH[schedule](optimizer, scheduled - warmup)
        return lr_scheduler.SequentialLR(optimizer, [rising, falling], [warmup])

    assert ours(schedule, total, warmup) == pytest.approx(by_torch(warmed, total, total), rel=1e-9, abs=1e-12)


def test_a_warm_up_rises_to_the_peak_in_a_straight_line() -> None:
    assert ours("constant", 6, warmup=4) == pytest.approx([PEAK / 4, PEAK / 2, PEAK * 3 / 4, PEAK, PEAK, PEAK])


def test_a_run_shorter_than_its_warm_up_ends_on_the_way_up() -> None:
    assert ours("cosine", 5, warmup=50) == pytest.approx([PEAK * step / 50 for step in range(1, 6)])


def test_one_cycle_starts_at_a_25th_peaks_and_ends_at_a_250_000th() -> None:
    rates = ours("one_cycle", 1000)
    assert rates[0] == pytest.approx(PEAK / 25)
    assert max(rates) == pytest.approx(PEAK)
    assert rates.index(max(rates)) == 299
    assert rates[-1] == pytest.approx(PEAK / 250_000)


def test_the_steps_of_step_lie_at_a_half_and_at_three_quarters() -> None:
    assert ours("step", 8) == pytest.approx([PEAK] * 4 + [PEAK / 10] * 2 + [PEAK / 100] * 2)


@given(
    schedule=st.sampled_from(SCHEDULES),
    total=st.integers(1, 10**9),
    share=st.floats(0, 1),
    warmup=st.integers(0, 10**9),
)
def test_no_rate_of_any_run_is_negative_or_above_the_peak(schedule: str, total: int, share: float, warmup: int) -> None:
    chosen = Hyperparameters.model_validate(
        {
            "learning_rate": PEAK,
            "lr_schedule": schedule,
            "warmup_steps": 0 if schedule == "one_cycle" else warmup,
        }
    )
    step = 1 + int(share * (total - 1))
    assert 0 <= learning_rate(step, total, chosen) <= PEAK * (1 + 1e-12)
