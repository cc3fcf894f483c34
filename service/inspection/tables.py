"""Tables: what each column holds, and all of them as numbers. The file is read in batches, as often as needed.

Three times: for the kinds of the columns, for the values of categories, and for the numbers that are written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.errors import InvalidInput
from service.inspection import targets
from service.inspection.found import Asked, Found
from service.inspection.refusals import MOST_COLUMNS, refused
from service.inspection.writing import Writer, save

USUAL_TARGETS = ("target", "label", "class", "y")
MOST_CATEGORIES = 1000  # of a column
MOST_INPUTS = 100_000  # that the categories of all columns become
LONGEST_VALUE = 256
LONGEST_COLUMN_NAME = 128
SHOWN = 20
DAY_MICROSECONDS = 86_400_000_000


class Kind(Enum):
    """What a column may hold, the narrowest first."""

    INTEGER = "integer"
    NUMBER = "number"
    DATE = "date"
    CATEGORY = "category"


@dataclass
class Column:
    """One column, and what is known of it so far.

    possible: the kinds that every value up to now was of. missing, met: cells without and with a value.
    """

    name: str
    possible: list[Kind] = field(default_factory=lambda: list(Kind))
    missing: int = 0
    met: int = 0
    values: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return self.possible[0]

    def view(self) -> dict[str, Any]:
        kind = Kind.NUMBER if self.kind is Kind.INTEGER else self.kind
        values = {"values": self.values} if kind is Kind.CATEGORY else {}
        return {"name": self.name, "type": kind.value, "missing": self.missing, **values}


class Source(Protocol):
    """A file of a table. `columns` are in its order; `heading` says where their names stand."""

    heading: str
    columns: list[Column]

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, these columns of them. Raises InvalidInput where the file is malformed."""

    def typed(self, array: Any, kind: Kind) -> Any:
        """Values as int64, float64, days or texts, null where missing. Raises ArrowInvalid for one of another kind."""

    def line(self, row: int) -> str:
        """Where a row, counted from 0, is for a person, as in `line 7`."""

    def first_text(self, name: str) -> str | None:
        """Where the first value of a column is that is no number, if that was to be found out at all."""


def inspect(path: str, asked: Asked) -> Found:
    """Writes `x.npy`, float32 of shape (rows, columns), NaN where missing, and `y.npy`. Raises InvalidInput."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if asked.format == "csv":
        from service.inspection.csv_files import CsvFile

        source: Source = CsvFile(path)
    else:
        from service.inspection.parquet_files import ParquetFile

        source = ParquetFile(path, asked)
    _check_names([column.name for column in source.columns], source.heading)
    target = source.columns[_target(source, asked.target)]
    rows = _determine(source)
    inputs = [column for column in source.columns if column is not target]
    _check_size(rows, len(inputs), asked)
    _collect(source, [column for column in inputs if column.kind is Kind.CATEGORY])
    learned = _learn(source, target, asked.task)
    with Writer("x", "<f4", (rows, len(inputs))) as writer:
        row = 0
        for batch in source.batches([column.name for column in inputs]):
            writer.write(_numbers(source, batch, inputs, row).data)
            row += batch.num_rows
    save("y", learned.y)
    return Found(
        kind="table",
        task=learned.task,
        shape=[len(inputs)],
        rows=rows,
        columns=[column.view() for column in inputs],
        classes=learned.classes,
        target=target.name,
    )


def days(moments: Any) -> Any:
    """Moments as days since 1970, fractions for the time of day."""
    return pc.divide(pc.cast(pc.cast(moments, pa.int64()), pa.float64()), float(DAY_MICROSECONDS))


def _check_names(names: Sequence[str], heading: str) -> None:
    if len(names) > MOST_COLUMNS:
        raise refused("body", "too_many_columns", f"{heading}a table may have {MOST_COLUMNS:,} columns")
    if len(names) < 2:
        message = f"{heading}a table has a target and one column more, at least"
        raise refused("body", "too_few_columns", message, "the separator of a CSV file is a comma")
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            hint = "was it the index? pandas leaves it out with index=False" if number == 1 else None
            raise refused("body", "unnamed_column", f"{heading}column {number} has no name", hint)
        if len(name) > LONGEST_COLUMN_NAME or not name.isprintable():
            form = f"1 to {LONGEST_COLUMN_NAME} printable characters"
            raise refused("body", "column_name", f"{heading}the name of column {number} is not made of {form}")
        if (earlier := first.setdefault(name, number)) != number:
            raise refused("body", "repeated_column", f"{heading}columns {earlier} and {number} have the same name")


def _target(source: Source, wanted: str | None) -> int:
    """The number of the target's column: the one that was named, or the only one with a usual name."""
    names = [column.name for column in source.columns]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    if wanted is not None:
        if wanted not in names:
            raise refused("target", "unknown_column", "there is no such column", f"known here: {shown}")
        return names.index(wanted)
    usual = [at for at, name in enumerate(names) if name.lower() in USUAL_TARGETS]
    if len(usual) != 1:
        message = "say which column is to be learned: none, or more than one, is called target, label, class or y"
        raise refused("target", "missing", message, f"known here: {shown}")
    return usual[0]


def _determine(source: Source) -> int:
    """Narrows the kinds of all columns, and counts what is missing; returns the number of rows."""
    rows = 0
    for batch in source.batches([column.name for column in source.columns]):
        for column, array in zip(source.columns, batch.columns, strict=True):
            _narrow(source, column, array)
        rows += batch.num_rows
    if rows == 0:
        raise refused("body", "no_rows", "there are names of columns, and no row below them")
    return rows


def _narrow(source: Source, column: Column, array: Any) -> None:
    while True:
        try:
            missing = source.typed(array, column.kind).null_count
        except pa.ArrowInvalid:
            column.possible = column.possible[1:]
            if column.kind is Kind.DATE and column.met:
                column.possible = [Kind.CATEGORY]  # what came before were numbers, and no dates
        else:
            column.missing += missing
            column.met += len(array) - missing
            return


def _check_size(rows: int, columns: int, asked: Asked) -> None:
    if rows * columns * 4 > asked.decoded_bytes:
        message = f"the numbers would take more than {asked.decoded_bytes >> 20} MiB"
        raise refused("body", "too_large", message)


def _collect(source: Source, columns: Sequence[Column]) -> None:
    """Finds the values of categories, in ascending order, and counts again what is missing."""
    if not columns:
        return
    values: dict[str, set[str]] = {column.name: set() for column in columns}
    for column in columns:
        column.missing = 0  # while it might have held numbers, more counted as missing
    row = 0
    for batch in source.batches([column.name for column in columns]):
        for column, array in zip(columns, batch.columns, strict=True):
            texts = source.typed(array, Kind.CATEGORY)
            column.missing += texts.null_count
            _check_lengths(source, column, texts, row)
            values[column.name].update(pc.unique(texts).drop_null().to_pylist())
            if len(values[column.name]) > MOST_CATEGORIES:
                raise _too_many(source, column)
        row += batch.num_rows
    for column in columns:
        column.values = sorted(values[column.name])
    if sum(map(len, values.values())) > MOST_INPUTS:
        message = f"the texts of all columns would be more than {MOST_INPUTS:,} inputs"
        raise refused("body", "too_many_categories", message, "leave some of the columns out")


def _check_lengths(source: Source, column: Column, texts: Any, row: int) -> None:
    long = pc.index(pc.greater(pc.utf8_length(texts), LONGEST_VALUE), True).as_py()
    if long >= 0:
        message = f"{source.line(row + long)}: a value of {column.name} has more than {LONGEST_VALUE} characters"
        raise refused("body", "too_long", message)


def _too_many(source: Source, column: Column) -> InvalidInput:
    message = f"{column.name} has more than {MOST_CATEGORIES:,} different texts, and each would be an input of its own"
    where = source.first_text(column.name)
    hint = f"the first that is no number is in {where}" if where else "leave the column out"
    return refused("body", "too_many_categories", message, hint)


def _learn(source: Source, target: Column, task: str | None) -> targets.Target:
    numbers: list[NDArray[Any]] = []
    known: dict[str, int] = {}
    row = 0
    for batch in source.batches([target.name]):
        values = source.typed(batch.column(0), target.kind)
        empty = pc.index(pc.is_null(values), True).as_py()
        if empty >= 0:
            message = f"{source.line(row + empty)}: {target.name} is empty, and a row without it cannot be learned from"
            raise refused("target", "missing_values", message)
        if target.kind is Kind.CATEGORY:
            _check_lengths(source, target, values, row)
            different = pc.unique(values)
            codes = np.array([known.setdefault(text, len(known)) for text in different.to_pylist()], np.int64)
            values = codes[pc.index_in(values, value_set=different).to_numpy()]
        else:
            values = values.to_numpy()
        numbers.append(values)
        row += batch.num_rows
    together = np.concatenate(numbers)
    if target.kind is Kind.CATEGORY:
        return targets.of_texts(list(known), together, task, "target")
    return targets.of(together, task, "target")


def _numbers(source: Source, batch: Any, columns: Sequence[Column], row: int) -> NDArray[np.float32]:
    """The rows of a batch, the first of them `row` of the file: shape (rows, columns)."""
    matrix = np.empty((batch.num_rows, len(columns)), np.float32)
    for at, (column, array) in enumerate(zip(columns, batch.columns, strict=True)):
        values = source.typed(array, column.kind)
        if column.kind is Kind.CATEGORY:
            values = pc.index_in(values, value_set=pa.array(column.values, pa.string()))
        with np.errstate(over="ignore"):  # told in the next lines
            matrix[:, at] = values.to_numpy(zero_copy_only=False)
        infinite = np.flatnonzero(np.isinf(matrix[:, at]))
        if len(infinite):
            where = source.line(row + int(infinite[0]))
            message = f"{where}: a number of {column.name} is infinite, or too large for float32"
            raise refused("body", "not_finite", message)
    return matrix
