"""A reader of JSON objects that takes nothing on trust: bytes in, a tree and everything wrong with it out.

What is well formed but refused (NaN, a key twice, too deep) stands in the tree as a mark that no validator accepts,
so that its problem is told together with those of the other fields.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from service.errors import FieldProblem, InvalidInput, ServiceError

DEEPEST = 32
LONGEST_NUMBER = 400  # characters; a double needs 24, and what is longer only costs time
LONGEST_PATH = 256
INT64 = range(-(2**63), 2**63)
PLAIN = frozenset({str, int, float, bool, type(None)})
WHOLE = "body"


class MalformedJson(ServiceError):
    """Not JSON at all; the sentence says where the reading ended, never what stands there."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the body is not JSON: {reason}")


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in the tree where a value stood that is not accepted."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A JSON object and the problems met while reading it; where there is one, the tree holds a `Refused`."""

    tree: dict[str, Any]
    problems: list[FieldProblem]


NOT_FINITE = Refused("not_finite", "NaN and infinities are no JSON")
TOO_LARGE = Refused("number_too_large", "the number is too large")
TOO_LONG = Refused("number_too_long", f"a number has at most {LONGEST_NUMBER} characters")
TOO_DEEP = Refused("too_deep", f"objects and lists may be nested {DEEPEST} deep")
DUPLICATE = Refused("duplicate_key", "the key occurs twice in its object")
BAD_TEXT = Refused("invalid_text", "a text may hold neither NUL nor half of a surrogate pair")
BAD_KEY = Refused("invalid_key", "a key may hold neither NUL nor half of a surrogate pair")


def parse(body: bytes) -> Parsed:
    """Reads one JSON object.

    Raises MalformedJson for what is no JSON in UTF-8, and InvalidInput for JSON that is no object or far too deep.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedJson(f"byte {error.start} is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise MalformedJson("it begins with a byte order mark")
    if not text.strip(" \t\r\n"):
        raise MalformedJson("it is empty")
    try:
        tree = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InvalidInput([FieldProblem(WHOLE, TOO_DEEP.code, TOO_DEEP.message)]) from None
    if not isinstance(tree, dict):
        raise InvalidInput([FieldProblem(WHOLE, "not_an_object", "the body must be a JSON object")])
    return Parsed(tree, list(_inspect(tree, look_at_texts="\\u" in text)))


def merged(first: Iterable[FieldProblem], further: Iterable[FieldProblem]) -> list[FieldProblem]:
    """Both, without what `further` says about a field, or a part of it, that `first` has spoken of already."""
    told = list(first)
    params = {problem.param for problem in told}
    return told + [problem for problem in further if not any(param in params for param in _above(problem.param))]


def _above(param: str) -> Iterator[str]:
    while param:
        yield param
        param = param.rpartition(".")[0]


def _float(text: str) -> float | Refused:
    if len(text) > LONGEST_NUMBER:
        return TOO_LONG
    value = float(text)
    return value if isfinite(value) else TOO_LARGE


def _integer(text: str) -> int | Refused:
    # The length first: the time to read a number grows with the square of its digits.
    if len(text) > LONGEST_NUMBER:
        return TOO_LONG
    value = int(text)
    return value if value in INT64 else TOO_LARGE


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found[key] = DUPLICATE
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_float,
    parse_int=_integer,
    parse_constant=lambda _name: NOT_FINITE,
)


def _inspect(tree: dict[str, Any], *, look_at_texts: bool) -> Iterator[FieldProblem]:
    """Finds the marks and their paths, and marks what is too deep or holds a bad text. Changes the tree.

    look_at_texts: whether a text may be bad at all, which takes an escape to write.
    """
    waiting: list[tuple[dict[str, Any] | list[Any], tuple[Any, ...]]] = [(tree, ())]
    while waiting:
        here, path = waiting.pop()
        entries: Iterable[tuple[Any, Any]] = here.items() if isinstance(here, dict) else enumerate(here)
        bad: list[tuple[Any, Refused]] = []
        for key, value in entries:
            kind = type(value)
            if not look_at_texts and kind in PLAIN:
                continue
            if look_at_texts and type(key) is str and _is_bad(key):
                bad.append((key, BAD_KEY))
            elif kind is dict or kind is list:
                if len(path) + 1 >= DEEPEST:
                    bad.append((key, TOO_DEEP))
                else:
                    waiting.append((value, (*path, key)))
            elif kind is Refused:
                bad.append((key, value))
            elif look_at_texts and kind is str and _is_bad(value):
                bad.append((key, BAD_TEXT))
        for key, refused in bad:
            if refused is BAD_KEY:
                del here[key]  # no answer could name it
                yield FieldProblem(_param(path), refused.code, refused.message)
            else:
                here[key] = refused
                yield FieldProblem(_param((*path, key)), refused.code, refused.message)


def _is_bad(text: str) -> bool:
    try:
        return b"\0" in text.encode()
    except UnicodeEncodeError:
        return True


def _param(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))[:LONGEST_PATH] or WHOLE
