"""The rules about what is learned: too little, no more, or by heart."""

from service.curves import direction
from service.diagnosis.case import GOODFELLOW, GUO, PRECHELT, Case, rung, say, short
from service.diagnosis.findings import Code, Finding
from service.diagnosis.rates import NEGLIGIBLE, STILL_FALLING
from service.diagnosis.signals import Signal
from service.states import Direction

FEWEST_VALIDATIONS = 5
STUCK_HIGH = 0.5  # of the start
STEADY = 0.05  # of the whole fall: no more than this in the last third is none
TURNED_UP = 0.15  # of the lowest validation loss
BETTER = 0.005  # an accuracy that rose by half a point did rise


def underfitting(case: Case, train: Signal) -> Finding | None:
    if train.tail <= STUCK_HIGH * train.start or train.share_at_end > STILL_FALLING:
        return None
    gap = None if case.validation is None or case.validation.count == 0 else case.validation.tail - train.tail
    if gap is not None and gap > 0.5 * train.tail:
        return None  # it has learned the training split by heart, not too little
    held = case.held_down
    advice = (
        f"lower hyperparameters.weight_decay: try {rung(case.weight_decay / 10):g}"
        if held
        else "a larger model: more or wider model.hidden_sizes"
    )
    return Finding(
        Code.UNDERFITTING,
        int(train.steps[len(train.steps) * 2 // 3]),
        train.last_step,
        {
            "metric": train.metric,
            "start": short(train.start),
            "tail_mean": short(train.tail),
            "share_of_fall_in_last_third": short(train.share_at_end),
            "validation_minus_training": None if gap is None else short(gap),
            "rule": f"the training loss has settled above {STUCK_HIGH:.0%} of its start ({GOODFELLOW})",
        },
        f"{train.metric} began at {say(train.start)} and has settled at {say(train.tail)}: the model "
        + ("is held down by its weight decay." if held else "is too small for what is to be learned."),
        advice,
    )


def plateaued(case: Case, train: Signal) -> Finding | None:
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
            "level_at_half": short(float(train.level[half])),
            "tail_mean": short(train.tail),
            "rule": f"the second half brought less than {STEADY / 2:.1%} of the whole fall "
            f"(compare the training progress in {PRECHELT})",
        },
        f"{train.metric} has been at about {say(train.tail)} since step {int(train.steps[half])}: the steps since then "
        "changed next to nothing.",
        "stop earlier (half the steps give the same), or let the rate fall: hyperparameters.lr_schedule cosine",
    )


def turned_up(case: Case, train: Signal, validation: Signal) -> Finding | None:
    if validation.count < FEWEST_VALIDATIONS:
        return None
    lowest, step = validation.lowest
    rise = validation.tail - lowest
    worth = max(abs(lowest), NEGLIGIBLE * abs(train.start), 1e-300)
    if rise <= TURNED_UP * worth or train.since(step) >= train.at(step) or step >= validation.steps[-1]:
        return None
    facts = {
        "metric": validation.metric,
        "lowest_level": short(lowest),
        "lowest_step": step,
        "tail_mean": short(validation.tail),
        "rise": short(rise / worth),
        "training_loss_at_lowest": short(train.at(step)),
        "training_loss_since": short(train.since(step)),
    }
    means = f"at {say(lowest)} on average, and is now at {say(validation.tail)}"
    turned = f"{validation.metric} was lowest around step {step}, {means}"
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
                "score_at_lowest": short(before),
                "score_now": short(score.tail),
                "rule": f"the validation loss rises while {score.metric} still improves ({GUO})",
            },
            f"{turned}, yet {score.metric} went from {say(before)} to {say(score.tail)}: the model grows "
            "overconfident where it is wrong, and is right more often all the same.",
            f"judge by {score.metric}; hyperparameters.label_smoothing 0.1 keeps the confidence down",
        )
    decay = rung(10 * case.weight_decay) if case.weight_decay else 0.001
    return Finding(
        Code.OVERFITTING,
        step,
        validation.last_step,
        facts
        | {
            "rule": f"the validation loss is {TURNED_UP:.0%} above its lowest while training falls (the generalization "
            f"loss in {PRECHELT})"
        },
        f"{turned}, while {train.metric} went on falling from {say(train.at(step))} to {say(train.since(step))}: "
        "the model learns its training samples by heart.",
        f"stop around step {step}, or try hyperparameters.weight_decay {decay:g} or model.dropout 0.2",
    )


def _improved(case: Case, step: int) -> tuple[Signal, float] | None:
    """A validation metric that is better now than at the step, and how it was then."""
    for score in case.scores:
        better = direction(score.metric)
        if better is Direction.NONE or len(score.level) < FEWEST_VALIDATIONS:
            continue
        before = score.at(step)
        gained = (score.tail - before) * (1 if better is Direction.MAX else -1)
        if gained > BETTER * max(1.0, abs(before)):
            return score, before
    return None
