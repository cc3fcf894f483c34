"""How often the diagnosis is right on really trained curves, and how long one takes.

Run with `python -m benchmarks.diagnosis`; ends with 1 when a goal is missed. The curves and their labels are made by
`benchmarks.labelled`, which says where the labels come from.
"""

import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from benchmarks import labelled
from benchmarks.curves import RECORDING, prepared, seconds
from benchmarks.labelled import Example
from service import curves
from service.curves import Batch, Curve
from service.curves.stored import Points
from service.diagnosis import Case, Code, Signal, diagnose

GOAL = 0.9
LONG = 1_000_000


def main() -> int:
    examples = labelled.load()
    for held_out in (False, True):
        part = [each for each in examples if each.family.held_out is held_out]
        print(f"{'held out' if held_out else 'tuned on'}: {share_right(part):.1%} of {len(part)} right")
    for each in examples:
        verdict = diagnose(case_of(each)).verdict
        if verdict.value not in each.accepted:
            family = each.family
            print(
                f"  {family.name}, {family.optimizer}, {each.learning_rate:g}: {verdict.value}, not {each.accepted[0]}"
            )
    print(dict(Counter(each.accepted[0] for each in examples)))
    taken = live()
    print(f"a curve of {LONG:,} points diagnosed in {taken * 1e3:.1f} ms")
    missed = share_right(examples) < GOAL or bool(called_healthy(examples))
    return int(missed)


def share_right(examples: Iterable[Example]) -> float:
    return statistics.mean(diagnose(case_of(each)).verdict.value in each.accepted for each in examples)


def called_healthy(examples: Iterable[Example]) -> list[Example]:
    """Runs that diverged and are said to be healthy."""
    diverged = [each for each in examples if each.accepted[0] == Code.DIVERGED.value]
    return [each for each in diverged if diagnose(case_of(each)).verdict is Code.HEALTHY]


def case_of(example: Example) -> Case:
    """What the service knows of such a run when it has no sibling."""
    per_epoch, last = example.steps_per_epoch, example.total_steps

    def signal(metric: str) -> Signal | None:
        values = example.curves.get(metric)
        if values is None:
            return None
        steps = np.arange(1, len(values) + 1)
        if metric != "train_loss":
            steps = np.minimum(steps * per_epoch, last)
        points = Points(np.arange(len(values)), steps, values, steps / 1000)
        return Signal(metric, Curve.of_points(points))

    scores = [
        found for metric in example.curves if (found := signal(metric)) and metric not in ("train_loss", "val_loss")
    ]
    parameters = {
        "hyperparameters.learning_rate": example.learning_rate,
        "hyperparameters.weight_decay": example.family.weight_decay,
    }
    return Case(signal("train_loss"), signal("val_loss"), scores, parameters=parameters)


def live() -> float:
    """Seconds from a stored curve of a million points to its diagnosis."""
    with tempfile.TemporaryDirectory() as folder:
        database = prepared(Path(folder) / "curves.db")
        for position in range(0, LONG, 50_000):
            steps = np.arange(position + 1, position + 50_001)
            values = np.random.default_rng(position).normal(2 / np.sqrt(1 + steps / 1000), 0.05)
            with database.write() as session:
                curves.append_all(session, RECORDING, [Batch("train_loss", position, steps, values, steps / 1000)])
        with database.read() as session:
            taken = statistics.median(seconds(look, session) for _ in range(20))
        database.close()
    return taken


def look(session: Session) -> None:
    summary = curves.find(session, [RECORDING])[RECORDING]["train_loss"]
    diagnose(Case(Signal("train_loss", curves.read(session, summary, 400))))


if __name__ == "__main__":
    sys.exit(main())
