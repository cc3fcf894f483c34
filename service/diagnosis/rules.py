"""The rules, one after the other: each looks for one trouble, and says what it saw, or nothing.

Their thresholds were set on really trained curves and are measured on others: see `benchmarks/diagnosis.py`.
"""

from collections.abc import Iterator

from service.diagnosis.case import BENGIO, Case, say, short
from service.diagnosis.findings import Code, Diagnosis, Finding
from service.diagnosis.fits import plateaued, turned_up, underfitting
from service.diagnosis.rates import slower, too_high, too_low

FEWEST = 20  # points of the training loss
ENDED_ABOVE = 1.3  # times the start: the loss ended worse than it began


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
    # Each of these looks as it does only if those before it do not hold.
    for rule in (too_high, too_low, underfitting, plateaued):
        found = rule(case, case.train)
        if found is not None:
            yield found
            break
    if case.validation is not None:
        turned = turned_up(case, case.train, case.validation)
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
                slower(case, 10),
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
                "start": short(train.start),
                "tail_mean": short(train.tail),
                "peak": short(train.peak[0]),
                "peak_step": train.peak[1],
                "rule": f"the last tenth lies above {ENDED_ABOVE} times the first value ({BENGIO})",
            },
            f"{train.metric} began at {say(train.start)} and is now at {say(train.tail)}: each update makes the "
            "model worse than it was before training.",
            slower(case, 10),
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
        f"{name} has {count} point{'' if count == 1 else 's'}; from fewer than {FEWEST}, chance and trend cannot be "
        "told apart.",
        "wait for more steps" if case.running else "train longer: hyperparameters.max_steps 100 or more",
    )


def _healthy(case: Case) -> Finding:
    train = case.train
    assert train is not None
    return Finding(
        Code.HEALTHY,
        int(train.steps[0]),
        train.last_step,
        {"start": short(train.start), "tail_mean": short(train.tail), "rule": "no rule found anything amiss"},
        f"{train.metric} fell from {say(train.start)} to {say(train.tail)}, and nothing speaks against it"
        + (" so far." if case.running else "."),
        None,
    )
