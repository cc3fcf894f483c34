"""Ids in paths: what cannot be an id is not found, like any id that is unknown."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator

from service.errors import NotFound
from service.ids import is_id


def in_form(kind: str) -> Callable[[str], str]:
    """A validator that raises NotFound for a text that no id looks like, before a query or a file is touched."""

    def check(text: str) -> str:
        if not is_id(text):
            raise NotFound(kind)
        return text

    return check


JobId = Annotated[str, Path(), AfterValidator(in_form("job"))]
RunId = Annotated[str, Path(), AfterValidator(in_form("run"))]
