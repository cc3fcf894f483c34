"""Reads what a diagnosis needs of a run: its losses and scores in a few hundred points, and runs that differ in the
learning rate alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from service import curves, diagnosis, subjects
from service.curves import Summary, stored
from service.diagnosis import RATE, Case, Diagnosis, Sibling, Signal
from service.diagnosis.signals import HEAD
from service.runs import Filter
from service.states import TERMINAL
from service.subjects import Subject
from service.users import Principal

# What scripts call them, the most usual name first.
TRAINING_LOSSES = ("train_loss", "loss", "train/loss")
VALIDATION_LOSSES = ("val_loss", "val/loss", "eval_loss", "eval/loss")
POINTS = 400
OF_CHANCE = (RATE, "hyperparameters.seed")
MOST_SIBLINGS = 200  # runs looked through, the newest of the project


def of_run(session: Session, principal: Principal, run_id: str) -> Diagnosis:
    """Raises NotFound."""
    [subject] = subjects.named(session, principal, [run_id])
    running = subject.status not in TERMINAL
    siblings = [] if running else _siblings(session, principal, subject)
    return of_curves(session, subject.seq, subject.parameters, running=running, siblings=siblings)


def of_curves(
    session: Session, seq: int, parameters: Mapping[str, Any], *, running: bool, siblings: list[Sibling] | None = None
) -> Diagnosis:
    """The diagnosis of a run as far as it has come."""
    recorded = curves.find(session, [seq]).get(seq, {})
    train, validation = _first(recorded, TRAINING_LOSSES), _first(recorded, VALIDATION_LOSSES)
    scores = [each for name, each in recorded.items() if name.startswith("val") and each is not validation]
    case = Case(
        train=None if train is None else _signal(session, train),
        validation=None if validation is None else _signal(session, validation),
        scores=[_signal(session, each) for each in scores if each.best is not None],
        running=running,
        parameters=dict(parameters),
        siblings=siblings or [],
    )
    with np.errstate(all="ignore"):  # what overflows becomes an infinity, which no rule is afraid of
        return diagnosis.diagnose(case)


def _first(recorded: Mapping[str, Summary], names: tuple[str, ...]) -> Summary | None:
    return next((recorded[name] for name in names if name in recorded), None)


def _signal(session: Session, summary: Summary) -> Signal:
    head = stored.points(session, summary.series, 0, HEAD).values
    return Signal(summary.metric, curves.read(session, summary, POINTS), head)


def _siblings(session: Session, principal: Principal, subject: Subject) -> list[Sibling]:
    """Runs of the same project that differ in the learning rate, and perhaps the seed, alone."""
    if diagnosis.learning_rate(subject.parameters) is None:
        return []
    wanted = _apart(subject.parameters)
    found = subjects.newest(session, principal, Filter(project=subject.project), MOST_SIBLINGS)
    alike = [each for each in found if each.seq != subject.seq and _apart(each.parameters) == wanted]
    summaries = curves.find(session, [each.seq for each in alike], TRAINING_LOSSES[:1])
    return [
        Sibling(each.id, rate, summary.min, _learned(summary))
        for each in alike
        for summary in summaries.get(each.seq, {}).values()
        if summary.min is not None and (rate := diagnosis.learning_rate(each.parameters)) is not None
    ]


def _learned(summary: Summary) -> bool:
    first, last = summary.first, summary.last
    return not summary.non_finite and first is not None and last is not None and last < first


def _apart(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in OF_CHANCE}
