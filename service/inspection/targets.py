"""What is to be learned: which of several classes, or a number."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inspection.refusals import refused

FEW = 100  # different integers that are taken for classes
ROWS_A_CLASS = 2  # on average, or the integers are taken for measurements
MOST_CLASSES = 10_000
LONGEST_NAME = 256


@dataclass(frozen=True)
class Target:
    """y: shape (n,), int64 classes counted from 0, or float32 numbers."""

    task: str
    y: NDArray[Any]
    classes: list[dict[str, Any]] | None


def of(values: NDArray[Any], task: str | None, param: str, *, always_classes: bool = False) -> Target:
    """values: shape (n,), integers, floats or texts, none missing. task: what the user said, if anything.

    Texts are classes; floats are numbers; integers are classes when they are few, or `always_classes`.
    Raises InvalidInput, with `param`.
    """
    if values.dtype.kind == "U":
        different, codes = np.unique(values, return_inverse=True)
        return of_texts(different.tolist(), codes.reshape(-1), task, param)
    if task is None:
        whole = values.dtype.kind in "iu"
        task = "classification" if whole and (always_classes or _few(values)) else "regression"
    if task == "classification":
        different, codes = np.unique(values, return_inverse=True)
        return _classes([str(value) for value in different.tolist()], codes.reshape(-1), param)
    with np.errstate(over="ignore"):  # told in the next line
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise refused(param, "not_finite", "a number is infinite, or too large for float32")
    return Target(task, numbers, None)


def of_texts(names: list[str], codes: NDArray[np.int64], task: str | None, param: str) -> Target:
    """names: each text once, in any order. codes: shape (n,), the place of each in `names`. Raises InvalidInput."""
    if task == "regression":
        raise refused(param, "not_a_number", "regression learns numbers, and these are texts")
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return _classes([names[place] for place in order], np.argsort(order)[codes], param)


def _few(values: NDArray[Any]) -> bool:
    return len(np.unique(values)) <= min(FEW, len(values) // ROWS_A_CLASS)


def _classes(names: list[str], codes: NDArray[np.int64], param: str) -> Target:
    if len(names) > MOST_CLASSES:
        message = f"there are more than {MOST_CLASSES:,} classes"
        raise refused(param, "too_many_classes", message, "is it a number? then task=regression")
    if max(map(len, names), default=0) > LONGEST_NAME:
        message = f"the name of a class has more than {LONGEST_NAME} characters"
        raise refused(param, "too_long", message)
    if len(names) < 2:
        message = "there is one class only, and nothing to tell apart"
        raise refused(param, "one_class", message)
    counts = zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True)
    classes = [{"value": value, "name": name, "rows": rows} for value, (name, rows) in enumerate(counts)]
    return Target("classification", codes.astype(np.int64), classes)
