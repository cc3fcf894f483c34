"""Answers in JSON, in which NaN and the infinities are words and nothing is silently null."""

from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from math import isfinite, isnan
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from pydantic import BaseModel

OPTIONS = orjson.OPT_SERIALIZE_NUMPY
# What is said as it is. Fragments were checked when they were encoded.
PLAIN = frozenset({str, int, bool, type(None), orjson.Fragment})


class Json(Response):
    """Plain values, models, enumerations and numpy arrays as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


def encode(content: Any) -> bytes:
    return orjson.dumps(spelled(content), option=OPTIONS)


def columns_once(columns: dict[str, Any]) -> orjson.Fragment:
    """Columns as JSON, each array written once: x is often the step; y, min and max are one in a curve of points."""
    arrays = {id(column): column for column in columns.values()}
    written = {place: orjson.Fragment(encode(column)) for place, column in arrays.items()}
    return orjson.Fragment(orjson.dumps({name: written[id(column)] for name, column in columns.items()}))


def spelled(value: Any) -> Any:
    """The same value with "NaN", "Infinity" and "-Infinity" for what JSON cannot say; orjson would write null.

    Containers without such a number are returned as they are, and lists and arrays of numbers are checked at once.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is float:
        return value if isfinite(value) else _word(value)
    if kind is dict:
        return _spelled_dict(value)
    if kind is list or kind is tuple:
        return _spelled_list(value)
    return _spelled_other(value)


def _spelled_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    changed: dict[Any, Any] = {}
    for key, entry in value.items():
        if type(entry) not in PLAIN and (said := spelled(entry)) is not entry:
            changed[key] = said
    return {**value, **changed} if changed else value


def _spelled_list(value: list[Any] | tuple[Any, ...]) -> Any:
    if value and type(value[0]) in (float, int):
        try:
            # One pass in C: a sum is finite only if every part is. One that overflows is merely looked at again.
            if isfinite(sum(value)):
                return value
        except (TypeError, OverflowError):
            pass
    said = [spelled(entry) for entry in value]
    return said if any(new is not old for new, old in zip(said, value, strict=True)) else value


def _spelled_other(value: Any) -> Any:
    kind: type = type(value)
    if isinstance(value, np.ndarray):
        return _spelled_array(value)
    if isinstance(value, Enum):
        return value.value
    if (names := _field_names(kind)) is not None:
        return _spelled_dict({name: getattr(value, name) for name in names})
    if isinstance(value, BaseModel):
        return _spelled_dict(value.model_dump())
    if isinstance(value, dict):
        return _spelled_dict(dict(value))
    if isinstance(value, list | tuple):
        return _spelled_list(list(value))
    if isinstance(value, float | np.floating):
        return spelled(float(value))
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return value


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Of a dataclass. Asked once for each class: to find them takes longer than to read them."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def _spelled_array(value: np.ndarray[Any, Any]) -> Any:
    if value.ndim == 1 and value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
        said = value.tolist()
        for place in np.flatnonzero(~finite).tolist():
            said[place] = _word(said[place])
        return said
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return spelled(value.tolist())
    return np.ascontiguousarray(value)  # orjson takes no other


def _word(value: float) -> str:
    if isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
