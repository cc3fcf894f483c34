"""The rules: each looks at the curves of one run for one trouble, and says what it saw, or nothing.

Their thresholds were set on really trained curves and are measured on others: see `benchmarks/diagnosis.py`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.curves import direction
from service.diagnosis.findings import Code, Diagnosis, Finding
from service.diagnosis.signals import NORMAL_MEDIAN, Signal
from service.states import Direction

FEWEST = 20  # points of the training loss
FEWEST_VALIDATIONS = 5
ENDED_ABOVE = 1.3  # times the start: the loss ended worse than it began
CLIMBED = 1.5  # times the start: a level that no noise of a batch explains
SHOT_UP = 10.0  # times the start: a single value that not even a last batch of two samples explains
RECOVERED = 0.1  # of the start: whoever got there has survived the climb
CERTAIN = 4.0  # standard deviations
LOST_AGAIN = 0.2  # of what had been gained
ROUGH = 0.08  # of the start: neighbouring stretches of a curve that falls as it should are closer
HARDLY = 0.05  # of the start: so small a fall is none
STILL_FALLING = 0.12  # of the whole fall in the last third; 0.33 is a straight line, and what has settled is at 0.02
HIGH = 0.25  # of the start: above it, much of what there is to learn is still there
STUCK_HIGH = 0.5  # of the start
STEADY = 0.05  # of the whole fall: no more than this in the last third is none
TURNED_UP = 0.15  # of the lowest validation loss
NEGLIGIBLE = 0.02  # of the first training loss: what is smaller is not looked at
BETTER = 0.005  # an accuracy that rose by half a point did rise
BETWEEN = 0.5  # of a sibling's fall
HELD_DOWN = 0.01  # weight decay that may hold a model down

BENGIO = "Bengio 2012, Practical recommendations for gradient-based training, section 3.1.1"
SMITH = "Smith 2018, A disciplined approach to neural network hyper-parameters, section 3"
PRECHELT = "Prechelt 1998, Early stopping - but when?, the generalization loss GL"
GUO = "Guo et al. 2017, On calibration of modern neural networks, section 3"
GOODFELLOW = "Goodfellow, Bengio, Courville 2016, Deep learning, section 5.2"


@dataclass(frozen=True)
class Sibling:
    """A run that differs in the learning rate alone, and the lowest training loss that it came to."""

    run_id: str
    learning_rate: float
    lowest: float


@dataclass(frozen=True, eq=False)
class Case:
    """All that is known of a run.

    train: its training loss. validation: its validation loss, and `scores` its other validation metrics. running: whether
    more is to come. parameters: of the spec, flat, with dotted names; empty for a run whose spec is not known.
    """

    train: Signal | None
    validation: Signal | None = None
    scores: Sequence[Signal] = ()
    running: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    siblings: Sequence[Sibling] = ()

    @property
    def learning_rate(self) -> float | None:
        rate = self.parameters.get("hyperparameters.learning_rate")
        return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def diagnose(case: Case) -> Diagnosis:
    """Everything found, the weightiest first; `healthy` when nothing is."""
    found = list(_findings(case))
    order = list(Code)
    return Diagnosis(sorted(found, key=lambda finding: order.index(finding.code)) or [_healthy(case)])


def _findings(case: Case) -> Iterator[Finding]:
    diverged = _diverged(case)
    if diverged is not None:
        yield diverged
        return
    if case.train is None or case.train.count < FEWEST:
        yield _too_short(case)
        return
    too_high = _too_high(case, case.train)
    if too_high is not None:
        yield too_high
    else:
        rate = _too_low(case, case.train) or _underfitting(case, case.train) or _plateaued(case, case.train)
        if rate is not None:
            yield rate
    if case.validation is not None:
        turned = _turned_up(case, case.train, case.validation)
        if turned is not None:
            yield turned


def _diverged(case: Case) -> Finding | None:
    for signal in (case.train, case.validation):
        if signal is not None and signal.odd_step is not None:
            return Finding(
                Code.DIVERGED,
                signal.odd_step,
                signal.last_step,
                {
                    "metric": signal.metric,
                    "first_non_finite_step": signal.odd_step,
                    "value": signal.odd_word,
                    "rule": f"a loss that is not finite ({BENGIO})",
                },
                f"{signal.metric} became {signal.odd_word} at step {signal.odd_step}: the weights have overflowed, and "
                "nothing learned afterwards means anything.",
                _slower(case, 10),
            )
    train = case.train
    if train is None or train.count < FEWEST:
        return None
    if train.tail > train.start + (ENDED_ABOVE - 1) * abs(train.start):
        return Finding(
            Code.DIVERGED,
            int(train.steps[-2]) if len(train.steps) > 1 else train.last_step,
            train.last_step,
            {
                "metric": train.metric,
                "start": _short(train.start),
                "tail_mean": _short(train.tail),
                "peak": _short(train.peak[0]),
                "peak_step": train.peak[1],
                "rule": f"the last tenth lies above {ENDED_ABOVE} times the first value ({BENGIO})",
            },
            f"{train.metric} began at {_short(train.start):g} and is now at {_short(train.tail):g}: each update makes the "
            "model worse than it was before training.",
            _slower(case, 10),
        )
    return None


def _too_short(case: Case) -> Finding:
    count = case.train.count if case.train is not None else 0
    name = case.train.metric if case.train is not None else "train_loss"
    return Finding(
        Code.TOO_SHORT_TO_TELL,
        None,
        case.train.last_step if case.train is not None and count else None,
        {"points": count, "rule": f"fewer than {FEWEST} points of {name}"},
        f"{name} has {count} points; from fewer than {FEWEST}, chance and trend cannot be told apart.",
        "wait for more steps" if case.running else "train longer: hyperparameters.max_steps 100 or more",
    )


def _too_high(case: Case, train: Signal) -> Finding | None:
    highest, start, unit = float(train.level.max()), train.start, abs(train.start)
    peak, peak_step = train.peak
    lowest, lowest_step = train.lowest
    gained, lost = start - lowest, train.tail - lowest
    facts: dict[str, Any] = {"start": _short(start), "tail_mean": _short(train.tail)}
    climbed = highest > start + (CLIMBED - 1) * unit or peak > start + (SHOT_UP - 1) * unit
    swings = math.sqrt(6) * NORMAL_MEDIAN * train.noise  # the roughness of independent noise
    if climbed and train.tail > RECOVERED * start:
        place = peak_step
        facts |= {"peak": _short(peak), "peak_step": peak_step}
        rule = f"the loss climbed above {CLIMBED} times its start, or once above {SHOT_UP:g} times ({BENGIO})"
        words = f"{train.metric} shot up from {_short(start):g} to {_short(peak):g} at step {peak_step}"
    elif lost > max(LOST_AGAIN * gained, NEGLIGIBLE * unit, CERTAIN * train.noise) and train.tail > HIGH * start:
        place = lowest_step
        facts |= {"lowest_level": _short(lowest), "lowest_step": lowest_step}
        rule = f"more than {LOST_AGAIN:.0%} of what was gained is lost again ({SMITH})"
        words = f"{train.metric} fell to {_short(lowest):g} around step {lowest_step} and rose again to {_short(train.tail):g}"
    elif train.roughness > max(ROUGH * unit, CERTAIN * swings):
        place = int(train.steps[0])
        facts |= {"roughness": _short(train.roughness)}
        rule = f"neighbouring stretches differ by more than {ROUGH:.0%} of the start ({SMITH})"
        words = f"{train.metric} swings up and down by about {_short(train.roughness):g} from one stretch to the next"
    else:
        better = _better_sibling(case, train, larger=False)
        if better is None:
            return None
        place = int(train.steps[0])
        facts |= {"lowest_level": _short(lowest), **_of_sibling(better)}
        rule = f"a run with a smaller learning rate, all else equal, fell by more than {1 / BETWEEN:g} times as much"
        words = f"{train.metric} fell to {_short(lowest):g}; with {better.learning_rate:g} it fell to {_short(better.lowest):g}"
    return Finding(
        Code.LEARNING_RATE_TOO_HIGH,
        place,
        train.last_step,
        {"metric": train.metric, **facts, "rule": rule},
        f"{words}: the updates are larger than the valley that they should descend into.",
        _slower(case, 3),
    )


def _too_low(case: Case, train: Signal) -> Finding | None:
    start, tail, unit = train.start, train.tail, abs(train.start)
    fall = start - tail
    facts: dict[str, Any] = {
        "start": _short(start),
        "tail_mean": _short(tail),
        "share_of_fall_in_last_third": _short(train.share_at_end),
    }
    better = _better_sibling(case, train, larger=True)
    if fall < max(HARDLY * unit, 2 * train.noise) and not _held_down(case):
        rule = f"the loss fell by less than {HARDLY:.0%} of its start ({BENGIO})"
        words, factor = f"{train.metric} has hardly moved: {_short(start):g} at first, {_short(tail):g} now", 10.0
    elif train.share_at_end > STILL_FALLING and tail > HIGH * start and 2 * train.roughness < fall:
        rule = f"more than {STILL_FALLING:.0%} of the fall came in the last third, with much still to learn ({SMITH})"
        words = f"{train.metric} is at {_short(tail):g} and still falls steadily"
        factor = 10.0 if train.share_at_end > 2 * STILL_FALLING else 3.0
    elif better is not None:
        facts |= _of_sibling(better)
        rule = f"a run with a larger learning rate, all else equal, fell by more than {1 / BETWEEN:g} times as much"
        words = f"{train.metric} fell to {_short(tail):g}; with {better.learning_rate:g} it fell to {_short(better.lowest):g}"
        factor = 3.0
    else:
        return None
    return Finding(
        Code.LEARNING_RATE_TOO_LOW,
        int(train.steps[len(train.steps) * 2 // 3]),
        train.last_step,
        {"metric": train.metric, **facts, "rule": rule},
        f"{words}: larger updates would get there in fewer steps.",
        _faster(case, factor),
    )


def _underfitting(case: Case, train: Signal) -> Finding | None:
    if train.tail <= STUCK_HIGH * train.start or train.share_at_end > STILL_FALLING:
        return None
    gap = None if case.validation is None or case.validation.count == 0 else case.validation.tail - train.tail
    if gap is not None and gap > 0.5 * train.tail:
        return None  # it has learned the training split by heart, not too little
    held = _held_down(case)
    advice = (
        f"lower hyperparameters.weight_decay: try {_round(case.parameters['hyperparameters.weight_decay'] / 10):g}"
        if held
        else "a larger model: more or wider model.hidden_sizes"
    )
    return Finding(
        Code.UNDERFITTING,
        int(train.steps[len(train.steps) * 2 // 3]),
        train.last_step,
        {
            "metric": train.metric,
            "start": _short(train.start),
            "tail_mean": _short(train.tail),
            "share_of_fall_in_last_third": _short(train.share_at_end),
            "validation_minus_training": None if gap is None else _short(gap),
            "rule": f"the training loss has settled above {STUCK_HIGH:.0%} of its start ({GOODFELLOW})",
        },
        f"{train.metric} has settled at {_short(train.tail):g}, which is much of the {_short(train.start):g} that it began "
        "with: the model " + ("is held down by its weight decay." if held else "is too small for what is to be learned."),
        advice,
    )


def _plateaued(case: Case, train: Signal) -> Finding | None:
    fall = train.start - train.lowest[0]
    half = len(train.level) // 2
    gained = float(train.level[half - 1 : half + 1].mean() - train.tail)
    if fall <= 0 or gained > STEADY * fall / 2 or train.tail < NEGLIGIBLE * train.start:
        return None
    validation = case.validation
    if validation is not None and validation.count >= FEWEST_VALIDATIONS:
        middle = validation.at(int(train.steps[half]))
        if middle - validation.tail > STEADY / 2 * abs(validation.start):
            return None  # what counts still improves
    return Finding(
        Code.PLATEAUED,
        int(train.steps[half]),
        train.last_step,
        {
            "metric": train.metric,
            "level_at_half": _short(float(train.level[half])),
            "tail_mean": _short(train.tail),
            "rule": f"the second half brought less than {STEADY / 2:.1%} of the whole fall ({PRECHELT})",
        },
        f"{train.metric} has been at about {_short(train.tail):g} since step {int(train.steps[half])}: the steps since then "
        "changed next to nothing.",
        "stop earlier (half the steps give the same), or let the rate fall: hyperparameters.lr_schedule cosine",
    )


def _turned_up(case: Case, train: Signal, validation: Signal) -> Finding | None:
    if validation.count < FEWEST_VALIDATIONS:
        return None
    lowest, step = validation.lowest
    rise = validation.tail - lowest
    worth = max(abs(lowest), NEGLIGIBLE * abs(train.start))
    if rise <= TURNED_UP * worth or train.tail >= train.at(step) or step >= validation.steps[-1]:
        return None
    facts = {
        "metric": validation.metric,
        "lowest_level": _short(lowest),
        "lowest_step": step,
        "tail_mean": _short(validation.tail),
        "rise": _short(rise / worth),
        "training_loss_at_lowest": _short(train.at(step)),
        "training_loss_now": _short(train.tail),
    }
    turned = f"{validation.metric} was lowest around step {step} ({_short(lowest):g}) and is now {_short(validation.tail):g}"
    improved = _improved(case, step)
    if improved is not None:
        score, before = improved
        return Finding(
            Code.LOSS_AND_METRIC_DISAGREE,
            step,
            validation.last_step,
            facts
            | {
                "improving_metric": score.metric,
                "score_at_lowest": _short(before),
                "score_now": _short(score.tail),
                "rule": f"the validation loss rises while {score.metric} still improves ({GUO})",
            },
            f"{turned}, yet {score.metric} went from {_short(before):g} to {_short(score.tail):g}: the model grows "
            "overconfident where it is wrong, and is right more often all the same.",
            f"judge by {score.metric}; hyperparameters.label_smoothing 0.1 keeps the confidence down",
        )
    return Finding(
        Code.OVERFITTING,
        step,
        validation.last_step,
        facts | {"rule": f"the validation loss is {TURNED_UP:.0%} above its lowest while training falls ({PRECHELT})"},
        f"{turned}, while {train.metric} went on falling from {_short(train.at(step)):g} to {_short(train.tail):g}: the "
        "model learns its training samples by heart.",
        f"stop around step {step}, or try hyperparameters.weight_decay {_more_decay(case):g} or model.dropout 0.2",
    )


def _improved(case: Case, step: int) -> tuple[Signal, float] | None:
    """A validation metric that is better now than at the step, and how it was then."""
    for score in case.scores:
        better = direction(score.metric)
        if better is Direction.NONE or score.count < FEWEST_VALIDATIONS:
            continue
        before = score.at(step)
        gained = (score.tail - before) * (1 if better is Direction.MAX else -1)
        if gained > BETTER * max(1.0, abs(before)):
            return score, before
    return None


def _healthy(case: Case) -> Finding:
    train = case.train
    assert train is not None
    return Finding(
        Code.HEALTHY,
        int(train.steps[0]),
        train.last_step,
        {"start": _short(train.start), "tail_mean": _short(train.tail), "rule": "no rule found anything amiss"},
        f"{train.metric} fell from {_short(train.start):g} to {_short(train.tail):g}, and nothing speaks against it"
        + (" so far." if case.running else "."),
        None,
    )


def _better_sibling(case: Case, train: Signal, *, larger: bool) -> Sibling | None:
    """The best run with a larger (or smaller) rate, if its loss fell more than twice as far."""
    rate = case.learning_rate
    if rate is None:
        return None
    fall = train.start - train.lowest[0]
    others = [each for each in case.siblings if (each.learning_rate > rate if larger else each.learning_rate < rate)]
    best = min(others, key=lambda each: each.lowest, default=None)
    if best is None or fall > BETWEEN * (train.start - best.lowest):
        return None
    return best


def _of_sibling(sibling: Sibling) -> dict[str, Any]:
    return {
        "sibling": sibling.run_id,
        "sibling_learning_rate": sibling.learning_rate,
        "sibling_lowest": _short(sibling.lowest),
    }


def _held_down(case: Case) -> bool:
    decay = case.parameters.get("hyperparameters.weight_decay")
    return isinstance(decay, int | float) and decay >= HELD_DOWN


def _more_decay(case: Case) -> float:
    decay = case.parameters.get("hyperparameters.weight_decay")
    return _round(decay * 10) if isinstance(decay, int | float) and decay > 0 else 0.001


def _slower(case: Case, factor: float) -> str:
    rate = case.learning_rate
    if rate is None:
        return f"a learning rate {factor:g} times smaller"
    best = _best_rate(case, below=rate)
    return f"try hyperparameters.learning_rate {best if best is not None else _round(rate / factor):g}"


def _faster(case: Case, factor: float) -> str:
    rate = case.learning_rate
    if rate is None:
        return f"a learning rate {factor:g} times larger"
    best = _best_rate(case, above=rate)
    return f"try hyperparameters.learning_rate {best if best is not None else _round(rate * factor):g}"


def _best_rate(case: Case, *, below: float = math.inf, above: float = 0.0) -> float | None:
    """The rate of the best sibling in a range."""
    within = [each for each in case.siblings if above < each.learning_rate < below]
    return min(within, key=lambda each: each.lowest).learning_rate if within else None


def _round(rate: float) -> float:
    """On the ladder 1, 3, 10, 30: the rungs on which rates are searched."""
    exponent = math.floor(math.log10(rate))
    digit = rate / 10.0**exponent
    return float(f"{(1 if digit < 1.8 else 3 if digit < 5.5 else 10) * 10.0**exponent:.1g}")


def _short(number: float) -> float:
    """Four digits: what a person reads, and as many as the rules rest on."""
    return float(f"{number:.4g}")
