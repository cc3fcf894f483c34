"""What runs at several batch sizes say: which is quickest to a target, and which is most accurate. Pure.

Steps to a target against the batch size, with the line on which twice the batch needs half the steps, are the plot of
Shallue et al. (2019, "Measuring the effects of data parallelism on neural network training", section 4).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from service.curves import Curve
from service.plan import Plan
from service.states import Direction
from service.studies import sayings

Row = dict[str, Any]


@dataclass(frozen=True)
class BatchRun:
    """One long run: where it reached the target, None for never, and the best value it had.

    seconds: of active training, validation included. failed: why it gave no answer of its own.
    """

    job_id: str | None
    batch_size: int | str
    learning_rate: float
    plan: Plan | None
    steps_to_target: int | None = None
    samples_to_target: int | None = None
    epochs_to_target: float | None = None
    seconds_to_target: float | None = None
    best: float | None = None
    samples_per_second: float | None = None
    peak_memory_mib: float | None = None
    failed: str | None = None


def span(curve: Curve, at: int) -> tuple[int, int]:
    """The steps between which all points of bucket `at` lie, whatever of its points stand beside it on their own."""
    before = np.flatnonzero(curve.weight[:at] > 0)
    return int(curve.step[before[-1] if len(before) else 0]), int(curve.step[min(at + 1, len(curve.step) - 1)])


def report(
    target: dict[str, Any], direction: Direction, policy: str, runs: Sequence[BatchRun], tests: Sequence[Row] = ()
) -> dict[str, Any]:
    """One row a batch size, what follows from them in words, and whether the learning rate confounds it.

    tests: what the range tests found, for the policy `range_test`.
    """
    sizes = list(dict.fromkeys(run.batch_size for run in runs))
    rows = [_row([run for run in runs if run.batch_size == size]) for size in sizes]
    kept = [test for test in tests if test["no_clear_answer"] is not None]
    return {
        "target": target,
        "direction": direction.value,
        "learning_rate": policy,
        "rows": rows,
        "runs": [_run(run) for run in runs],
        "range_tests": list(tests),
        "fastest_to_target": _pick(rows, "seconds_to_target", least=True),
        "fewest_steps_to_target": _pick(rows, "steps_to_target", least=True),
        "most_accurate": _pick(rows, "best", least=direction is Direction.MIN),
        "largest_that_fits": _pick(rows, "samples_per_step", least=False),
        "confounded": len(sizes) > 1 and (policy != "range_test" or bool(kept)),
        "perfect_scaling": _perfect(rows),
        "conclusions": [*_conclusions(rows, target, direction, policy), *map(_unanswered, kept)] if rows else [],
        "sayings": sayings.weighed(rows, direction, target["metric"]),
    }


def _row(runs: Sequence[BatchRun]) -> Row:
    """The runs of one size over their seeds, in medians. What was never reached is None."""
    plans = [run.plan for run in runs if run.plan is not None and run.failed is None]
    hit = [run for run in runs if run.steps_to_target is not None]
    bests = [run.best for run in runs if run.best is not None]
    return {
        "batch_size": runs[0].batch_size,
        "samples_per_step": plans[0].batch_size if plans else None,
        "learning_rate": runs[0].learning_rate,
        "samples_per_second": _median([run.samples_per_second for run in runs]),
        "peak_memory_mib": _median([run.peak_memory_mib for run in runs]),
        "steps_to_target": _until([run.steps_to_target for run in runs]),
        "epochs_to_target": _until([run.epochs_to_target for run in runs]),
        "samples_to_target": _until([run.samples_to_target for run in runs]),
        "seconds_to_target": _until([run.seconds_to_target for run in runs]),
        "best": _median(bests),
        "bests": bests,
        "runs": len(runs),
        "runs_to_target": len(hit),
        "failed": sorted({run.failed for run in runs if run.failed}),
    }


def _median(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _until(values: Sequence[float | None]) -> float | None:
    """The median of what it took to come to the target; None when no more than half of the runs came there.

    One that never came took longer than all others: to leave it out would flatter a size of which some runs fail.
    """
    found = median(math.inf if value is None else value for value in values)
    return found if math.isfinite(found) else None


def _pick(rows: Sequence[Row], name: str, *, least: bool) -> Any:
    """The batch size with the least, or the most, of something; the larger one of two that are equal."""
    known = [row for row in rows if row[name] is not None]
    if not known:
        return None
    sign = 1 if least else -1
    return min(known, key=lambda row: (sign * row[name], -(row["samples_per_step"] or 0)))["batch_size"]


def _perfect(rows: Sequence[Row]) -> list[Row]:
    """The steps that each size would need if twice the batch needed half the steps, from the smallest that arrived."""
    known = sorted(
        (row for row in rows if row["steps_to_target"] and row["samples_per_step"]),
        key=lambda row: row["samples_per_step"],
    )
    if not known:
        return []
    product = known[0]["steps_to_target"] * known[0]["samples_per_step"]
    return [{"batch_size": row["batch_size"], "steps": product / row["samples_per_step"]} for row in known]


def _conclusions(rows: Sequence[Row], target: Row, direction: Direction, policy: str) -> Iterator[str]:
    aim = f"{target['metric']} {target['value']:g}"
    fastest, accurate = (
        _pick(rows, "seconds_to_target", least=True),
        _pick(rows, "best", least=direction is Direction.MIN),
    )
    by_size = {row["batch_size"]: row for row in rows}
    if fastest is None:
        yield f"No batch size reached {aim}."
    else:
        row = by_size[fastest]
        yield (
            f"Fastest to {aim}: batch size {fastest}, {row['seconds_to_target']:.3g} s, "
            f"{row['steps_to_target']:,.10g} steps, {row['epochs_to_target']:.3g} epochs."
        )
    if accurate is not None:
        yield f"Best {target['metric']}: batch size {accurate}, {by_size[accurate]['best']:.4g}."
    missed = [str(row["batch_size"]) for row in rows if row["steps_to_target"] is None]
    if missed and fastest is not None:
        yield f"Never reached it: batch size {', '.join(missed)}."
    if (largest := by_size.get(_pick(rows, "samples_per_step", least=False))) is not None:
        memory, samples = largest["peak_memory_mib"], largest["samples_per_step"]
        needed = f" in {memory:,.0f} MiB" if memory is not None else ""
        told = f"{largest['batch_size']} ({samples:,} samples)" if largest["batch_size"] == "full" else samples
        yield f"Largest that fits, of those tried: batch size {told}{needed}."
    if broken := [f"{row['batch_size']} ({', '.join(row['failed'])})" for row in rows if row["failed"]]:
        yield f"Failed: batch size {', '.join(broken)}."
    if len(rows) > 1 and policy != "range_test":
        how = "kept" if policy == "fixed" else f"scaled by the {policy} rule, not found anew,"
        yield (
            f"The learning rate was {how} for each size, so this compares pairs of size and rate: "
            "learning_rate range_test finds each its own."
        )


def _unanswered(test: Row) -> str:
    why = test["no_clear_answer"]["message"]
    return f"The range test of batch size {test['batch_size']} has no clear answer ({why}): the base's rate was kept."


def _run(run: BatchRun) -> Row:
    told = {name: value for name, value in vars(run).items() if name != "plan"}
    return told | {
        "total_steps": run.plan and run.plan.total_steps,
        "total_samples": run.plan and run.plan.total_samples,
    }
