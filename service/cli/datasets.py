"""Commands about data sets: list, show, upload, delete."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import quote

import typer
from typer.core import TyperGroup

from service.cli import screen
from service.cli.connection import connect
from service.inspection.found import MEDIA_TYPES, SUFFIXES

FEW = 12
BLOCK_BYTES = 1 << 20
TYPES = {form: media_type for media_type, form in MEDIA_TYPES.items()}


class Names(TyperGroup):
    """What is no command is the name of a data set, to be shown."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["show", *args])


app = typer.Typer(cls=Names)


@app.callback(invoke_without_command=True, subcommand_metavar="[NAME | COMMAND]")
def datasets(context: typer.Context, as_json: screen.AsJson = False) -> None:
    """List the data sets; with NAME, show one; or delete one."""
    if context.invoked_subcommand is not None:
        return
    with connect() as client:
        answer = client.get("/v1/datasets", limit=200)
    if as_json:
        screen.say_json(answer)
        return
    rows = [
        (
            each["name"],
            each["task"],
            each["rows"],
            each["features"] or "",
            each["target"] or "",
            each["version"],
            each["owner"] or "",
        )
        for each in answer["data"]
    ]
    columns = ("name", "task", "rows", "columns", "target", "version", "owner")
    screen.console().print(screen.table(columns, rows, right=("rows", "columns", "version")))
    if answer["has_more"]:
        screen.complain("there are more than 200: /v1/datasets tells them all")


Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version when none is named.")]


@app.command()
def show(reference: Reference, as_json: screen.AsJson = False) -> None:
    """Show one data set in full."""
    with connect() as client:
        answer = client.get(f"/v1/datasets/{quote(reference, '@')}")
    if as_json:
        screen.say_json(answer)
    else:
        _show(answer)


@app.command()
def delete(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="All versions when none is named.")],
    as_json: screen.AsJson = False,
) -> None:
    """Delete a version, or all versions of a name; not while a job that is not over needs one."""
    with connect() as client:
        client.delete(f"/v1/datasets/{quote(reference, '@')}")
    if as_json:
        screen.say_json({"deleted": reference})
    else:
        screen.say(f"{reference} is deleted")


def put(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the data set is to be called.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV, Parquet, NPZ or text file.")],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to learn, for tables.")] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or regression, where the target leaves it open.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--as", metavar="FORMAT", help="csv, parquet, npz or text; else by the file's ending.")
    ] = None,
    as_json: screen.AsJson = False,
) -> None:
    """Upload a file as a new version of a data set."""
    chosen = form or SUFFIXES.get(file.suffix.lower())
    if chosen not in TYPES:
        raise screen.WrongUse(
            f"what {file.name} holds cannot be told from its name: say --as csv, parquet, npz or text"
        )
    try:
        opened = file.open("rb")
    except OSError as error:
        raise screen.WrongUse(f"{file}: {error.strerror}") from None
    with opened, connect() as client:
        path, size = f"/v1/datasets/{quote(name, '')}", opened.seek(0, 2)
        opened.seek(0)
        answer = client.put(path, _read(opened, size), size, TYPES[chosen], target=target, task=task)
    if as_json:
        screen.say_json(answer)
    else:
        _show(answer)


def _read(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The content in blocks; on a terminal a bar tells how much of it has gone."""
    if not sys.stderr.isatty():
        yield from iter(lambda: file.read(BLOCK_BYTES), b"")
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("uploading", total=size)
        while block := file.read(BLOCK_BYTES):
            yield block
            progress.advance(bar, len(block))
        progress.update(bar, description="uploaded; the service reads it")


def _show(dataset: dict[str, Any]) -> None:
    classes = [f"{each['name']} ({each['rows']})" for each in dataset["classes"] or ()]
    held_back = dataset["validation_rows"]
    screen.facts(
        [
            ("name", f"{dataset['name']}@{dataset['version']}"),
            ("what", dataset["description"]),
            ("task", dataset["task"]),
            ("kind", dataset["kind"]),
            ("rows", screen.count(dataset["rows"])),
            ("validation", None if held_back is None else f"{screen.count(held_back)} rows of its own"),
            ("sample", " x ".join(map(str, dataset["shape"]))),
            ("columns", _few([_column(column) for column in dataset["columns"]])),
            ("target", dataset["target"]),
            ("classes", _few(classes)),
            ("versions", ", ".join(str(each["version"]) for each in dataset["versions"])),
            ("owner", dataset["owner"]),
            ("file", dataset["path"]),
            ("sha256", dataset["sha256"]),
        ]
    )


def _column(column: dict[str, Any]) -> str:
    """Its name, and what is not usual of it."""
    about = [] if column["type"] == "number" else [column["type"]]
    if column["missing"]:
        about.append(f"{screen.count(column['missing'])} missing")
    return f"{column['name']} ({', '.join(about)})" if about else str(column["name"])


def _few(names: list[str]) -> str:
    """The names, or the first of many and how many there are."""
    if len(names) <= FEW:
        return ", ".join(names)
    return f"{len(names)}: {', '.join(names[:FEW])}, …"
