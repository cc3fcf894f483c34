"""What a trained model says about a small batch of samples, given as JSON. Its weights say how to read them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import FieldProblem, InvalidInput
from workers.training import tasks, weights
from workers.training.preprocessing import Preprocessing
from workers.training.tasks import About
from workers.training.weights import Trained

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_SECONDS = 86_400


@torch.no_grad()
def predict(path: Path, inputs: Sequence[Any], length: int, classes: Sequence[Any] | None) -> list[dict[str, Any]]:
    """One answer for each sample: see `docs/api.md`.

    length: bytes that a text is continued by. classes: their names, in the order of the outputs.
    Raises InvalidInput that names the samples that do not fit.
    """
    trained = weights.load(path)
    torch.set_num_threads(1)
    kind = trained.description["preprocessing"]["kind"]
    if kind == "text":
        return [_continued(trained, text, length) for text in _each(inputs, _bytes)]
    samples = _pictures(trained, inputs) if kind == "images" else _table(trained, inputs)
    outputs = trained.model(torch.from_numpy(samples))
    return tasks.named(trained.spec.task).answers(outputs, About(trained.description["target"], classes))


def _continued(trained: Trained, text: bytes, length: int) -> dict[str, Any]:
    """The text that follows when each time the likeliest byte is taken, and what might come first."""
    context = trained.description["preprocessing"]["context"]
    written = list(text)
    first: dict[str, Any] = {}
    for _ in range(length):
        logits = trained.model(torch.tensor([written[-context:]], dtype=torch.uint8))[0, -1]
        if not first:
            [first] = tasks.named(trained.spec.task).answers(logits[None], About(None, None))
        written.append(int(logits.argmax()))
    return {"continuation": bytes(written[len(text) :]).decode(errors="replace"), **first}


class _Misfit(ValueError):
    """What is wrong with one sample; key: of what in it, if it is an object."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def _each(inputs: Sequence[Any], read: Any) -> list[Any]:
    """Every sample read; all that cannot be are told of at once."""
    found, problems = [], []
    for place, given in enumerate(inputs):
        try:
            found.append(read(given))
        except _Misfit as error:
            param = f"inputs.{place}" if error.key is None else f"inputs.{place}.{error.key}"[:256]
            problems.append(FieldProblem(param, "does_not_fit", str(error)))
    if problems:
        raise InvalidInput(problems)
    return found


def _bytes(given: Any) -> bytes:
    if not isinstance(given, str) or not given:
        raise _Misfit("the model reads a text that is not empty")
    return given.encode()


def _pictures(trained: Trained, inputs: Sequence[Any]) -> NDArray[Any]:
    shape = tuple(trained.description["shape"])
    kind = np.dtype(trained.description["preprocessing"]["type"])

    def read(given: Any) -> NDArray[Any]:
        image = _numbers(given)
        if image.shape not in ({shape, shape[1:]} if shape[0] == 1 else {shape}):
            raise _Misfit(f"the model sees images of shape {list(shape)}")
        if kind == np.uint8 and (image.min() < 0 or image.max() > 255 or np.any(image % 1)):
            raise _Misfit("the model was trained on whole numbers from 0 to 255")
        return image.reshape(shape).astype(kind)

    return np.stack(_each(inputs, read))


def _table(trained: Trained, inputs: Sequence[Any]) -> NDArray[np.float32]:
    fitted = Preprocessing.from_json(trained.description["preprocessing"])

    def read(given: Any) -> list[float]:
        if isinstance(given, dict):
            if unknown := sorted(given.keys() - set(fitted.names)):
                raise _Misfit("the model was trained without a column of this name", unknown[0])
            given = [given.get(name) for name in fitted.names]
        if not isinstance(given, list) or len(given) != len(fitted.names):
            named = ", ".join(fitted.names[:20]) + (" and more" if len(fitted.names) > 20 else "")
            raise _Misfit(f"the model reads rows of {len(fitted.names)} columns: {named}")
        return [_cell(fitted, column, cell) for column, cell in enumerate(given)]

    return fitted.transform(np.array(_each(inputs, read), np.float32))


def _cell(fitted: Preprocessing, column: int, cell: Any) -> float:
    """A number, the days since 1970 of a date, the code of a category's value, or NaN for an empty cell."""
    name, values = fitted.names[column], fitted.values[column]
    if cell is None:
        if fitted.missing == "refuse":
            raise _Misfit(f"the column {name} is empty, and the model was trained without empty cells")
        return math.nan
    if values is not None:
        return float(_code(name, values, cell))
    if isinstance(cell, str) and name in fitted.dates:
        return _days(name, cell)
    # What float32 cannot hold would be an infinity to the model.
    if not _is_number(cell) or not abs(cell) <= np.finfo(np.float32).max:
        kind = "a date such as 2026-01-31, or days since 1970" if name in fitted.dates else "a finite number"
        raise _Misfit(f"the column {name} wants {kind}")
    return float(cell)


def _code(name: str, values: Sequence[str], cell: Any) -> int:
    """The place of a value. Values are texts; one of them that says the number or the truth value is meant by it."""
    if isinstance(cell, str) and cell in values:
        return values.index(cell)
    if isinstance(cell, bool | str) and (truth := str(cell).lower()) in ("true", "false"):
        # CSV files have them as somebody wrote them, and Parquet in lower case.
        said = [place for place, value in enumerate(values) if value.lower() == truth]
    else:
        said = [place for place, value in enumerate(values) if _is_number(cell) and _as_number(value) == cell]
    if len(said) != 1:
        shown = ", ".join(values[:20]) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
        raise _Misfit(f"the column {name} had no such value in training: it has {shown}")
    return said[0]


def _days(name: str, text: str) -> float:
    """Of a date or a moment as ISO 8601 writes it; without a zone it is taken as UTC, as in the data set."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Misfit(f"the column {name} wants a date such as 2026-01-31, or days since 1970") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH).total_seconds() / DAY_SECONDS


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(given: Any) -> NDArray[np.float64]:
    try:
        found = np.array(given)
    except ValueError:
        raise _Misfit("it is not an even list of numbers") from None
    if found.dtype.kind not in "iuf" or not found.size or not np.isfinite(found).all():
        raise _Misfit("it is not an even list of finite numbers")
    return found.astype(np.float64)
