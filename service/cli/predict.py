"""The command that asks a trained model about the samples in a file."""

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.connection import JobId, connect, resolve


def predict(
    job_id: JobId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Samples: .json (a list), .csv or .txt.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="best, last or a step; the best that there is when not given.")
    ] = None,
    length: Annotated[int, typer.Option(min=1, max=1000, help="Bytes that a text is continued by.")] = 100,
    as_json: screen.AsJson = False,
) -> None:
    """Ask a job's trained model about a few samples."""
    which: int | str | None = int(checkpoint) if checkpoint is not None and checkpoint.isdigit() else checkpoint
    body = {"inputs": read(file), "checkpoint": which, "length": length}
    with connect() as client:
        answer = client.post(f"/v1/jobs/{resolve(client, job_id)}/predictions", body)
    if as_json:
        screen.say_json(answer)
        return
    for prediction in answer["data"]:
        screen.say(sentence(prediction))


def read(path: Path) -> list[Any]:
    """The samples in a file. The first line of a CSV file may name the columns; a text file is one sample."""
    try:
        match path.suffix.lower():
            case ".json":
                found = json.loads(path.read_text())
                if isinstance(found, dict) and "inputs" in found:
                    found = found["inputs"]
                if not isinstance(found, list):
                    raise typer.BadParameter(f"{path} holds no list of samples")
                return found
            case ".csv":
                return _rows(path)
            case _:
                return [path.read_text()]
    except (ValueError, OSError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from None


def _rows(path: Path) -> list[Any]:
    """Lists of cells, or, when the first line names the columns, objects by these names."""
    with path.open(newline="") as file:
        first, *others = [line for line in csv.reader(file) if line] or [[]]
    if any(isinstance(_cell(text), str) for text in first):
        return [dict(zip(first, map(_cell, line), strict=False)) for line in others]
    return [[_cell(text) for text in line] for line in (first, *others)]


def _cell(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def sentence(prediction: dict[str, Any]) -> str:
    if "continuation" in prediction:
        return str(prediction["continuation"])
    if "class" in prediction:
        return f"{prediction['class']}  ({100 * prediction['probability']:.1f} %)"
    return screen.number(prediction["value"])
