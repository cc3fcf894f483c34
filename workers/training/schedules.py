"""The learning rate as a function of the step alone, so that any step can be resumed."""

import math

from service.spec import Hyperparameters

# Smith & Topin 2019, with the numbers of torch.optim.lr_scheduler.OneCycleLR.
RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 250_000


def learning_rate(step: int, total_steps: int, chosen: Hyperparameters) -> float:
    """The learning rate of a step, counted from 1: a straight line up over the warm-up, then the schedule.

    After the warm-up the schedule sees the share of the remaining steps that lies behind, from 0 to just below 1.
    """
    peak, warmup = chosen.learning_rate, chosen.warmup_steps
    if step <= warmup:
        return peak * step / warmup
    passed = (step - 1 - warmup) / (total_steps - warmup)
    match chosen.lr_schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - passed)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * passed))
        case "step":
            return peak if passed < 0.5 else peak / 10 if passed < 0.75 else peak / 100
        case "exponential":
            return peak * math.pow(0.01, passed)
        case "one_cycle":
            return peak * _one_cycle(step - 1, total_steps)


def _one_cycle(steps_before: int, total_steps: int) -> float:
    turn, end = RISE * total_steps - 1, total_steps - 1
    if steps_before <= turn:
        return _half_cosine(FIRST, 1, steps_before / turn)
    return _half_cosine(1, LAST, (steps_before - turn) / (end - turn))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
