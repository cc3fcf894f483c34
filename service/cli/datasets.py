"""The command about data sets."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from service.cli import screen
from service.cli.connection import connect

FEW = 12


def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one in full.")] = None,
    as_json: screen.AsJson = False,
) -> None:
    """List the data sets, or show one."""
    with connect() as client:
        answer = (
            client.get("/v1/datasets", limit=200) if name is None else client.get(f"/v1/datasets/{quote(name, '')}")
        )
    if as_json:
        screen.say_json(answer)
    elif name is None:
        rows = [
            (each["name"], each["task"], each["rows"], len(each["columns"]), each["target"]) for each in answer["data"]
        ]
        screen.console().print(
            screen.table(("name", "task", "rows", "columns", "target"), rows, right=("rows", "columns"))
        )
    else:
        _show(answer)


def _show(dataset: dict[str, Any]) -> None:
    classes = [f"{each['name']} ({each['rows']})" for each in dataset["classes"] or ()]
    screen.facts(
        [
            ("name", f"{dataset['name']}@{dataset['version']}"),
            ("what", dataset["description"]),
            ("task", dataset["task"]),
            ("rows", screen.count(dataset["rows"])),
            ("columns", _few([column["name"] for column in dataset["columns"]])),
            ("target", dataset["target"]),
            ("classes", _few(classes)),
            ("versions", ", ".join(str(each["version"]) for each in dataset["versions"])),
            ("sha256", dataset["sha256"]),
        ]
    )


def _few(names: list[str]) -> str:
    """The names, or the first of many and how many there are."""
    if len(names) <= FEW:
        return ", ".join(names)
    return f"{len(names)}: {', '.join(names[:FEW])}, …"
