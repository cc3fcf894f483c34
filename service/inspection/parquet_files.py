"""Parquet files: numbers, truth values, dates and texts. Their own heads say how large they are."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.errors import FieldProblem, InvalidInput
from service.inspection.found import Asked
from service.inspection.refusals import MOST_COLUMNS, refused, require_decodable
from service.inspection.tables import Column, Kind, days

ROWS_AT_ONCE = 65_536
CELLS_AT_ONCE = 1 << 22
EXTENSION = b"ARROW:extension:name"


class ParquetFile:
    """A `tables.Source`."""

    heading = ""

    def __init__(self, path: str, asked: Asked) -> None:
        """Raises InvalidInput for a file that is none, is too large when decoded, or holds what no table has."""
        try:
            with open(path, "rb") as file:
                self._bytes = file.seek(0, 2)
            self._file = pq.ParquetFile(path)
            self._check_size(asked)
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise refused("body", "damaged", "this is no Parquet file, or it is damaged") from error
        problems = [problem for column in schema if (problem := _misfit(column)) is not None]
        if problems:
            raise InvalidInput(problems)
        self.columns = [Column(column.name, [_kind(column.type)]) for column in schema]

    def _check_size(self, asked: Asked) -> None:
        about = self._file.metadata
        if about.num_columns > MOST_COLUMNS:
            raise refused("body", "too_many_columns", f"a table may have {MOST_COLUMNS:,} columns")
        groups = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
        decoded = max(groups, 4 * about.num_rows * about.num_columns)
        require_decodable(decoded, self._bytes, asked, "write it without compression")

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        size = max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // max(1, len(names))))
        try:
            yield from self._file.iter_batches(size, columns=list(names), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise refused("body", "damaged", "the file ends too early, or is damaged") from error

    def typed(self, array: Any, kind: Kind) -> Any:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if kind is Kind.CATEGORY:
            texts = pc.cast(array, pa.string())
            return pc.if_else(pc.equal(texts, ""), None, texts)
        if kind is Kind.DATE:
            return days(pc.cast(array, pa.timestamp("us"), safe=False))
        numbers = pc.cast(array, pa.int64() if kind is Kind.INTEGER else pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(numbers), None, numbers) if kind is Kind.NUMBER else numbers

    def line(self, row: int) -> str:
        return f"row {row + 1}"

    def first_text(self, _name: str) -> str | None:
        return None


def _kind(type_: Any) -> Kind:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_integer(type_) and not pa.types.is_uint64(type_):
        return Kind.INTEGER
    if (
        pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_null(type_)
        or pa.types.is_uint64(type_)
    ):
        return Kind.NUMBER
    return Kind.DATE if pa.types.is_date(type_) or pa.types.is_timestamp(type_) else Kind.CATEGORY


def _misfit(column: Any) -> FieldProblem | None:
    """What cannot be a column of a table; types that somebody registered are never asked to make something of bytes."""
    type_ = column.type
    if isinstance(type_, pa.BaseExtensionType) or EXTENSION in (column.metadata or {}):
        return FieldProblem("body", "extension_type", f"the column {column.name[:128]} is of an extension type")
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_date,
        pa.types.is_timestamp,
        pa.types.is_null,
    )
    if any(test(type_) for test in tests):
        return None
    return FieldProblem("body", "wrong_type", f"the column {column.name[:128]} holds no numbers, dates or texts")
