"""What a curve comes to, without touching a point: count, first, last, extremes and the best value."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from sqlalchemy.orm import Session

from service.curves.statements import marks, parts
from service.driver import rows
from service.states import Direction
from service.tasks import DIRECTIONS

COLUMNS = (
    "id, run, name, direction, count, non_finite, first, first_step, last, last_step, min, min_step, max, max_step"
)


# What metrics that scripts log are mostly called; a word of the name tells.
LESS_IS_BETTER = frozenset(
    ("loss", "error", "err", "mae", "mse", "rmse", "perplexity", "ppl", "nll", "bpb", "wer", "cer")
)
MORE_IS_BETTER = frozenset(
    (
        "accuracy",
        "acc",
        "top1",
        "top5",
        "recall",
        "precision",
        "f1",
        "auc",
        "auroc",
        "r2",
        "iou",
        "map",
        "bleu",
        "reward",
    )
)


@lru_cache(maxsize=4096)
def direction(metric: str) -> Direction:
    """Which way a metric is better, by its name."""
    known = DIRECTIONS.get(metric)
    if known is not None:
        return known
    said = set(re.split(r"[^a-z0-9]+", metric.lower()))
    less, more = bool(said & LESS_IS_BETTER), bool(said & MORE_IS_BETTER)
    return Direction.NONE if less == more else Direction.MIN if less else Direction.MAX


@dataclass(frozen=True, slots=True)
class Summary:
    """One series and its exact summary. `min` and `max` are over finite values, None when there are none."""

    series: int
    run: int
    metric: str
    direction: Direction
    count: int = 0
    non_finite: int = 0
    first: float | None = None
    first_step: int | None = None
    last: float | None = None
    last_step: int | None = None
    min: float | None = None
    min_step: int | None = None
    max: float | None = None
    max_step: int | None = None

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> Self:
        """From COLUMNS of the table, where NaN is NULL."""
        series, run, metric, word, count, non_finite, first, first_step, last, *rest = row
        if count:
            first, last = (math.nan if value is None else value for value in (first, last))
        return cls(series, run, metric, Direction(word), count, non_finite, first, first_step, last, *rest)

    @property
    def best(self) -> float | None:
        # Not by a dictionary: the hash of an Enum's member takes longer than all the rest, and lists ask it often.
        return self.min if self.direction is Direction.MIN else self.max if self.direction is Direction.MAX else None

    @property
    def best_step(self) -> int | None:
        if self.direction is Direction.MIN:
            return self.min_step
        return self.max_step if self.direction is Direction.MAX else None

    def as_dict(self) -> dict[str, Any]:
        """Under the names of the contract; `first` and `last` may be NaN or infinite."""
        return {
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "last_step": self.last_step,
            "min": self.min,
            "min_step": self.min_step,
            "max": self.max,
            "max_step": self.max_step,
            "best": self.best,
            "best_step": self.best_step,
            "direction": self.direction.value,
        }


def find(
    session: Session, run_seqs: Iterable[int], metrics: Collection[str] | None = None
) -> dict[int, dict[str, Summary]]:
    """The summaries of runs: {run: {metric: Summary}}, without the runs and metrics that have no point.

    metrics: only these; all when None.
    """
    found: dict[int, dict[str, Summary]] = defaultdict(dict)
    for runs in parts(list(run_seqs)):
        where = f"run IN ({marks(runs)})"
        for names in [None] if metrics is None else parts(list(metrics)):
            narrower = "" if names is None else f" AND name IN ({marks(names)})"
            statement = f"SELECT {COLUMNS} FROM series WHERE {where}{narrower} ORDER BY id"  # noqa: S608
            for row in rows(session, statement, (*runs, *(names or ()))):
                summary = Summary.of_row(row)
                found[summary.run][summary.metric] = summary
    return dict(found)


def summaries(session: Session, run_seqs: Iterable[int]) -> dict[int, dict[str, dict[str, Any]]]:
    """The same under the names of the contract: {run: {metric: {count, first, last, ...}}}."""
    return {
        run: {metric: summary.as_dict() for metric, summary in metrics.items()}
        for run, metrics in find(session, run_seqs).items()
    }
