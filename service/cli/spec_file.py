"""A job spec from a file, JSON or YAML, with single values set on the command line."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from service.cli import screen


class SpecLoader(yaml.SafeLoader):
    """YAML read as JSON would be: `1e-3` is a number, a date is a text, and no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(written)) < len(written):
            raise yaml.constructor.ConstructorError(None, None, "a key comes twice in one mapping", node.start_mark)
        return super().construct_mapping(node, deep=deep)


NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
READ_DIFFERENTLY = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")

SpecLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in READ_DIFFERENTLY]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SpecLoader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def read(path: str) -> dict[str, Any]:
    """The spec in a file, or in what comes in when path is `-`. Raises WrongUse when it is none."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise screen.WrongUse(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise screen.WrongUse(f"{path} is not UTF-8 text") from error
    try:
        spec = json.loads(text, object_pairs_hook=_once) if _is_json(path, text) else yaml.load(text, SpecLoader)  # noqa: S506
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise screen.WrongUse(f"{path} is neither JSON nor YAML: {error}") from error
    if not isinstance(spec, dict):
        raise screen.WrongUse(f"{path} holds no object with fields such as task and dataset")
    try:
        json.dumps(spec)
    except (TypeError, ValueError, RecursionError) as error:  # YAML has sets, bytes and lists that hold themselves
        raise screen.WrongUse(f"{path} holds what JSON cannot say: {error}") from error
    return spec


def put(spec: dict[str, Any], settings: Iterable[str]) -> None:
    """Sets each PARAM=VALUE in place. PARAM is a dotted path; VALUE is JSON, or else a text."""
    for setting in settings:
        param, equals, text = setting.partition("=")
        if not equals or not all(param.split(".")):
            raise screen.WrongUse(f"{setting}: write PARAM=VALUE, as in hyperparameters.learning_rate=0.01")
        *parents, name = param.split(".")
        here = spec
        for parent in parents:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise screen.WrongUse(f"{param}: {parent} is a value and has no fields")
        here[name] = _value(text)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_json(path: str, text: str) -> bool:
    return path.endswith(".json") or (path == "-" and text.lstrip().startswith("{"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key comes twice in one object")
    return made
