"""What pydantic finds wrong, told to people: a sentence for each field, by its dotted name, with a hint for typos."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, get_origin

from pydantic import BaseModel

from service import patterns
from service.errors import FieldProblem


def field_problems(errors: Iterable[Any], raw: Any, model: type[BaseModel]) -> list[FieldProblem]:
    """Pydantic's errors as problems, one for each field, with hints for names that were mistyped.

    errors: as `ValidationError.errors()` gives them. raw: what was validated; never repeated in a message.
    """
    found: dict[str, FieldProblem] = {}
    for error in errors:
        if error["type"] == "default_factory_not_called":
            continue  # what it rests on is wrong, and told
        path, siblings = _path(error["loc"], raw, missing=error["type"] == "missing")
        if error["type"].startswith("union_tag"):
            path.append(error["ctx"]["discriminator"].strip("'"))
        param = ".".join(map(str, path))[:256] or "body"
        problem = FieldProblem(param, str(error["type"]), _message(error))
        if error["type"] == "extra_forbidden":
            problem = _unknown(param, siblings(model))
        earlier = found.get(param)
        if earlier is None:
            found[param] = problem
        elif earlier.message != problem.message:
            # The branches of a union each say what they wanted.
            found[param] = FieldProblem(param, earlier.code, f"{earlier.message}, or: {problem.message}")
    return list(found.values())


def _message(error: Any) -> str:
    """Pydantic's sentence, unless it would repeat the value."""
    if error["type"] == "union_tag_invalid":
        return f"Input should be one of {error['ctx']['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return "Field required"
    if error["type"] in ("model_attributes_type", "model_type", "dict_type"):
        return "Input should be an object"  # Python's words for it would name a class of the service
    if str(error["type"]).startswith(("datetime_", "timezone_aware")):
        return "a time is written as RFC 3339 has it, with its zone: 2026-01-31T12:00:00Z"
    if error["type"] == "string_pattern_mismatch" and (words := patterns.WORDS.get(error["ctx"]["pattern"])):
        return words
    return str(error["msg"]).removeprefix("Value error, ")


def _unknown(param: str, names: list[str]) -> FieldProblem:
    close = difflib.get_close_matches(param.rpartition(".")[2][:64], names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}" if names else None
    return FieldProblem(param, "unknown_field", "there is no such field", hint)


def _path(
    location: tuple[int | str, ...], raw: Any, *, missing: bool
) -> tuple[list[int | str], Callable[[type[BaseModel]], list[str]]]:
    """The part of an error's location that exists in the input: names of union branches are left out.

    Also a function that lists the field names at the last level, for hints.
    """
    path: list[int | str] = []
    here = raw
    tags: list[tuple[int, str]] = []
    for index, part in enumerate(location):
        within = isinstance(here, dict) and part in here
        if within or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
            path.append(part)
        elif part == "[key]":
            continue
        elif missing and index == len(location) - 1:
            path.append(part)
        else:
            tags.append((len(path), str(part)))

    def names(model: type[BaseModel]) -> list[str]:
        return _field_names(model, [part for part in path[:-1] if isinstance(part, str)], dict(tags))

    return path, names


def _field_names(model: type[BaseModel], path: list[str], tags: dict[int, str]) -> list[str]:
    here: Any = model
    free = False  # whether the next name is a key of an object that may have any
    for depth, part in enumerate(path, start=1):
        if free:
            free = False
            continue
        field = getattr(here, "model_fields", {}).get(part)
        if field is None:
            return []
        here = field.annotation
        free = get_origin(here) is dict
        branches = [branch for branch in getattr(here, "__args__", ()) if hasattr(branch, "model_fields")]
        for branch in branches:
            # One alone is a model or null; of several, the tag tells which.
            if len(branches) == 1 or branch.model_fields["type"].default == tags.get(depth):
                here = branch
    return list(getattr(here, "model_fields", {}))
