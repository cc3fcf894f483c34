"""Commands about curves: one run's, and several compared. The service draws them as text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import saving, screen
from service.cli.connection import RunId, connect, resolve

SAVED = ("png", "svg", "parquet", "csv")

Width = Annotated[int | None, typer.Option(min=40, max=400, help="Characters in a line; by default the terminal's.")]
Axis = Annotated[str, typer.Option("--x", help="step, epoch, samples, time or gpu_seconds.")]
Points = Annotated[
    int | None, typer.Option(min=10, max=10_000, help="The most points of a curve; longer ones are thinned to 1000.")
]
Save = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Write a picture or a file: .png, .svg, .parquet or .csv.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]


def curve(
    run_id: RunId,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Which curve; may be repeated. By default train_loss.")
    ] = None,
    x: Axis = "step",
    points: Points = None,
    width: Width = None,
    save: Save = None,
    as_csv: AsCsv = False,
    as_json: screen.AsJson = False,
) -> None:
    """Draw the curves of one run."""
    with connect() as client:
        found = resolve(client, run_id, kind="run")
        query = {"metric": metrics or ["train_loss"], "x": x, "points": points}
        _answer(client, f"/v1/runs/{found}/curves", query, width, save, as_csv=as_csv, as_json=as_json)


def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="ID ID...", help="Two runs or more.")],
    metric: Annotated[str, typer.Option(help="What is compared.")] = "val_loss",
    x: Axis = "step",
    target: Annotated[float | None, typer.Option(help="Also tell when each run first reaches this value.")] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="PARAM", help="Average the runs with one value of a parameter, over seeds.")
    ] = None,
    points: Points = None,
    width: Width = None,
    save: Save = None,
    as_csv: AsCsv = False,
    as_json: screen.AsJson = False,
) -> None:
    """Compare runs: what differs, who is better, and the curves."""
    with connect() as client:
        found = list(dict.fromkeys(resolve(client, run_id, kind="run") for run_id in run_ids))
        if len(found) < 2:
            raise screen.WrongUse("give the ids of two runs or more")
        query = {"runs": ",".join(found), "metric": metric, "x": x, "points": points, "target": target}
        query["group_by"] = group_by
        _answer(client, "/v1/compare", query, width, save, as_csv=as_csv, as_json=as_json)


def _save(client: Any, path: str, query: dict[str, Any], file: Path) -> None:
    saving.write(file, client.content(path, format=saving.form_of(file, SAVED), **query))
    screen.say(str(file))


def _answer(
    client: Any, path: str, query: dict[str, Any], width: int | None, save: Path | None, *, as_csv: bool, as_json: bool
) -> None:
    if save is not None:
        _save(client, path, query, save)
        return
    if as_json and as_csv:
        raise screen.WrongUse("--json and --csv exclude each other")
    if as_json:
        screen.say_json(client.get(path, **query))
    elif as_csv:
        screen.say(client.text(path, format="csv", **query).replace("\r\n", "\n"))
    else:
        screen.say(client.text(path, format="text", width=width or screen.width(), **query))
