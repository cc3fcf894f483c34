"""What is commonly said of batch sizes, each saying held against the numbers of one study. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from service.compare import verdicts
from service.compare.verdicts import Side
from service.states import Direction

Row = dict[str, Any]

HOLDS, PARTLY, FAILS, UNTOLD = "holds", "partly", "does_not_hold", "cannot_tell"
CLEAR = (
    1.1  # times, from which two speeds or two numbers of epochs count as different on a machine that does other work
)
LEVEL = 0.8  # of the highest speed: what is still as fast
MEMORY_MIB = 2.0  # two runs alike differ by less


def weighed(rows: Sequence[Row], direction: Direction, metric: str) -> list[Row]:
    """Each saying with a verdict, `holds`, `partly`, `does_not_hold` or `cannot_tell`, and the numbers that gave it.

    rows: one a batch size, in any order, with `bests` of its runs; those of which no run was whole count as failed.
    """
    known = sorted((row for row in rows if row["samples_per_step"]), key=lambda row: row["samples_per_step"])
    failed = [row for row in rows if not row["samples_per_step"]]
    if len(known) < 2:
        return []
    smallest = min(rows, key=lambda row: (_size(row), row["batch_size"] == "full"))
    found = (
        ("too_small", "Too small a batch is slow for each sample, and may not converge.", _too_small(known, smallest)),
        ("faster_per_sample", "A larger batch is faster for each sample.", _faster(known)),
        ("more_memory", "A larger batch needs more memory.", _memory(known, failed)),
        ("more_epochs", "A larger batch needs more epochs to the same value.", _epochs(known)),
        ("less_accurate", "Past some size the best value gets worse.", _accuracy(known, direction, metric)),
        ("two_bests", "One size is best in time, and another in what it learns.", _bests(known, direction, metric)),
    )
    return [
        {"code": code, "saying": saying, "verdict": verdict, "because": why} for code, saying, (verdict, why) in found
    ]


def _size(row: Row) -> float:
    return float(row["samples_per_step"] or (row["batch_size"] if row["batch_size"] != "full" else np.inf))


def _too_small(known: Sequence[Row], smallest: Row) -> tuple[str, str]:
    failed = smallest["samples_per_step"] is None
    arrived = smallest["steps_to_target"] is not None
    others = [row for row in known if row is not smallest and row["steps_to_target"] is not None]
    if not others and not arrived:
        return UNTOLD, "no size came to the target"
    came = (
        f"failed ({', '.join(smallest['failed'])})"
        if failed
        else "came to the target"
        if arrived
        else "never came there"
    )
    speeds = [row for row in known if row["samples_per_second"] is not None]
    if failed or len(speeds) < 2 or smallest["samples_per_second"] is None:
        return (UNTOLD if arrived else PARTLY), f"batch size {smallest['batch_size']} {came}; its speed is not known"
    quickest = max(speeds, key=lambda row: row["samples_per_second"])
    times = quickest["samples_per_second"] / smallest["samples_per_second"]
    slow = times >= CLEAR
    verdict = HOLDS if slow and not arrived else PARTLY if slow or not arrived else FAILS
    return verdict, (
        f"batch size {smallest['batch_size']} {came}, at {smallest['samples_per_second']:,.0f} samples a second; "
        f"{quickest['batch_size']} is {times:.1f} times as fast"
    )


def _faster(known: Sequence[Row]) -> tuple[str, str]:
    speeds = [row for row in known if row["samples_per_second"] is not None]
    if len(speeds) < 2:
        return UNTOLD, "the speed is not known"
    first, last = speeds[0], speeds[-1]
    quickest = max(speeds, key=lambda row: row["samples_per_second"])
    told = f"{_at(first, 'samples_per_second', ' samples/s')}, {_at(last, 'samples_per_second', ' samples/s')}"
    if quickest["samples_per_second"] < CLEAR * first["samples_per_second"]:
        return FAILS, told
    if last["samples_per_second"] < LEVEL * quickest["samples_per_second"]:
        return PARTLY, f"{told}, and most, {_at(quickest, 'samples_per_second', ' samples/s')}"
    return HOLDS, told


def _memory(known: Sequence[Row], failed: Sequence[Row]) -> tuple[str, str]:
    lacked = [row for row in failed if any(why.startswith("oom") for why in row["failed"])]
    measured = [row for row in known if row["peak_memory_mib"] is not None]
    if lacked:
        return HOLDS, f"batch size {', '.join(str(row['batch_size']) for row in lacked)} found too little"
    if len(measured) < 2:
        return UNTOLD, "the memory is not known"
    first, last = measured[0], measured[-1]
    verdict = HOLDS if last["peak_memory_mib"] > first["peak_memory_mib"] + MEMORY_MIB else FAILS
    return (
        verdict,
        f"{_at(first, 'peak_memory_mib', ' MiB')}, {_at(last, 'peak_memory_mib', ' MiB')}, the program with it",
    )


def _epochs(known: Sequence[Row]) -> tuple[str, str]:
    arrived = [row for row in known if row["epochs_to_target"] is not None]
    missed = [str(row["batch_size"]) for row in known if row["epochs_to_target"] is None]
    never = f"; {', '.join(missed)} never came there" if missed else ""
    if not arrived:
        return UNTOLD, "no size came to the target"
    first, last = arrived[0], arrived[-1]
    told = f"{_at(first, 'epochs_to_target', '', '.3g')}, {_at(last, 'epochs_to_target', '', '.3g')}{never}"
    # A large size that never came there needs more epochs than there were.
    beyond = last is not known[-1]
    if len(arrived) < 2 and not beyond:
        return UNTOLD, told
    if len(arrived) < 2 or last["epochs_to_target"] > CLEAR * first["epochs_to_target"]:
        return HOLDS, told
    return (PARTLY if beyond else FAILS), told


def _accuracy(known: Sequence[Row], direction: Direction, metric: str) -> tuple[str, str]:
    """By Welch's test between the best size and the largest one, as comparisons judge two groups of seeds."""
    values = [row for row in known if row["bests"]]
    if len(values) < 2:
        return UNTOLD, "too few sizes have a value"
    best, last = _best(values, direction), values[-1]
    if best is last:
        return FAILS, f"the largest is best: {metric} {_at(last, 'best', '', '.4g')}"
    told = f"{metric} {_at(best, 'best', '', '.4g')} and {_at(last, 'best', '', '.4g')}"
    verdict, how = _apart(best, last, direction)
    return verdict, f"{told}{how}"


def _apart(better: Row, worse: Row, direction: Direction) -> tuple[str, str]:
    """Whether the best values of two sizes differ by more than chance."""
    judged = verdicts.judge(_side(better), _side(worse), direction)
    if judged.verdict == "better":
        return HOLDS, ": more than chance"
    needed = judged.more_seeds_needed
    more = "" if needed is None else f"; {needed} more seed{'' if needed == 1 else 's'} of each would tell"
    return UNTOLD, f": could be chance{more}"


def _side(row: Row) -> Side:
    return Side(row["batch_size"], np.array(row["bests"], np.float64), None)


def _bests(known: Sequence[Row], direction: Direction, metric: str) -> tuple[str, str]:
    arrived = [row for row in known if row["seconds_to_target"] is not None]
    values = [row for row in known if row["best"] is not None]
    if not arrived or not values:
        return UNTOLD, "no size came to the target"
    quickest, best = min(arrived, key=lambda row: row["seconds_to_target"]), _best(values, direction)
    told = f"quickest is {_at(quickest, 'seconds_to_target', ' s', '.3g')}, with {metric} {quickest['best']:.4g}"
    if quickest["best"] == best["best"]:
        return FAILS, f"{told}, which is the best too"
    verdict, how = _apart(best, quickest, direction)
    return verdict, f"{told}; best is {_at(best, 'best', '', '.4g')}{how}"


def _best(rows: Sequence[Row], direction: Direction) -> Row:
    return (max if direction is Direction.MAX else min)(rows, key=lambda row: row["best"])


def _at(row: Row, name: str, unit: str, form: str = ",.0f") -> str:
    return f"{row[name]:{form}}{unit} at {row['batch_size']}"


def sentences(found: Sequence[Row]) -> Iterator[str]:
    """Each saying in a line, with what this study has to say of it."""
    for each in found:
        yield f"{each['saying']} {WORDS[each['verdict']]}: {each['because']}."


WORDS = {HOLDS: "So here", PARTLY: "Partly so here", FAILS: "Not so here", UNTOLD: "This study cannot tell"}
