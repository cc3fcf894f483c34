"""The command about data sets."""

from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.connection import connect
from service.client import segment


def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one in full.")] = None,
    as_json: screen.AsJson = False,
) -> None:
    """List the data sets, or show one."""
    with connect() as client:
        answer = client.get("/v1/datasets", limit=200) if name is None else client.get(f"/v1/datasets/{segment(name)}")
    if as_json:
        screen.say_json(answer)
    elif name is None:
        rows = [(each["name"], each["task"], each["rows"], len(each["columns"]), each["target"]) for each in answer["data"]]
        screen.console().print(
            screen.table(("name", "task", "rows", "columns", "target"), rows, right=("rows", "columns"))
        )
    else:
        _show(answer)


def _show(dataset: dict[str, Any]) -> None:
    screen.say_json(dataset)
