"""The command that asks a trained model about the samples in a file."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.connection import JobId, connect, resolve
from service.inspection.found import MISSING


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
                found = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(found, dict) and "inputs" in found:
                    found = found["inputs"]
                if not isinstance(found, list):
                    raise typer.BadParameter(f"{path} holds no list of samples")
                return found
            case ".csv":
                return _rows(path)
            case _:
                return [path.read_text(encoding="utf-8")]
    except (ValueError, OSError, csv.Error) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from None


def _rows(path: Path) -> list[Any]:
    """Lists of cells, or, when the first line names the columns, objects by these names.

    Cells are read as an upload's are: a column in which all that is said are numbers may say NA where it is empty.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    if not numbered:
        return []
    width = len(numbered[0][1])
    for line, row in numbered:
        if len(row) != width:
            raise ValueError(f"line {line} has {screen.counted(len(row), 'value')}, and the first line has {width}")
    rows = [row for _, row in numbered]
    named = any(_number(cell) is None and cell not in MISSING for cell in rows[0])
    columns = [_column(column) for column in zip(*rows[1 if named else 0 :], strict=True)]
    samples = [list(sample) for sample in zip(*columns, strict=True)]
    return [dict(zip(rows[0], sample, strict=True)) for sample in samples] if named else samples


def _column(cells: Sequence[str]) -> list[float | str | None]:
    numeric = all(cell in MISSING or _number(cell) is not None for cell in cells)
    empty = MISSING if numeric else ("",)
    return [None if cell in empty else cell if (number := _number(cell)) is None else number for cell in cells]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def sentence(prediction: dict[str, Any]) -> str:
    if "continuation" in prediction:
        return str(prediction["continuation"])
    if "class" in prediction:
        return f"{prediction['class']}  ({100 * prediction['probability']:.1f} %)"
    return screen.number(prediction["value"])
