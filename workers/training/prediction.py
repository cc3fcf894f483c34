"""What a trained model says about a small batch of samples, given as JSON. Its weights say how to read them."""

import math
from collections.abc import Sequence
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
    """What is wrong with one sample."""


def _each(inputs: Sequence[Any], read: Any) -> list[Any]:
    """Every sample read; all that cannot be are told of at once."""
    found, problems = [], []
    for place, given in enumerate(inputs):
        try:
            found.append(read(given))
        except _Misfit as error:
            problems.append(FieldProblem(f"inputs.{place}", "does_not_fit", str(error)))
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
        if isinstance(given, dict) and not given.keys() - set(fitted.names):
            given = [given.get(name) for name in fitted.names]
        if not isinstance(given, list) or len(given) != len(fitted.names):
            named = ", ".join(fitted.names[:20])
            raise _Misfit(f"the model reads rows of {len(fitted.names)} columns: {named}")
        return [_cell(fitted, column, cell) for column, cell in enumerate(given)]

    return fitted.transform(np.array(_each(inputs, read), np.float32))


def _cell(fitted: Preprocessing, column: int, cell: Any) -> float:
    """A number, the code of a category's value, or NaN for an empty cell."""
    name, values = fitted.names[column], fitted.values[column]
    if cell is None and fitted.missing != "refuse":
        return math.nan
    number = isinstance(cell, int | float) and not isinstance(cell, bool)
    if values is None:
        # What float32 cannot hold would be an infinity to the model.
        if not number or not abs(cell) <= np.finfo(np.float32).max:
            raise _Misfit(f"the column {name} wants a finite number")
        return float(cell)
    text = f"{cell:g}" if number else cell
    if text not in values:
        raise _Misfit(f"the column {name} had no such value in training: it has {', '.join(values[:20])}")
    return float(values.index(text))


def _numbers(given: Any) -> NDArray[np.float64]:
    try:
        found = np.array(given, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise _Misfit("it is not an even list of numbers") from None
    if not found.size or not all(map(math.isfinite, found.flat)):
        raise _Misfit("it is not a list of finite numbers")
    return found
