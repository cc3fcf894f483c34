"""CSV files: UTF-8, commas, a line of names, and double quotes around what holds a comma, a quote or a line feed.

A mark of byte order is skipped, lines may end in CR LF, empty lines are left out, and spaces around a value are not
part of it. An empty cell is missing; in a column of numbers so are the words in MISSING.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from service.inspection.found import MISSING
from service.inspection.refusals import refused
from service.inspection.tables import Column, Kind, days
from service.inspection.writing import BLOCK_BYTES

ROW_BYTES = 16 << 20  # of a block that is read at a time, and so the longest row
HEAD_BYTES = 4 << 20
LINE_FEED = b"\n"
NUMBERS = {Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64()}


class CsvFile:
    """A `tables.Source`."""

    heading = "line 1: "

    def __init__(self, path: str) -> None:
        """Raises InvalidInput for what no CSV reader should be given."""
        self._path = path
        csv.field_size_limit(ROW_BYTES)
        quotes = self._check_bytes()
        self.columns = [Column(name) for name in self._header()]
        if quotes % 2:
            self._check_rows()  # a quote is not closed, or stands in a place where it says nothing

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        every = [column.name for column in self.columns]
        try:
            yield from arrow_csv.open_csv(
                self._path,
                arrow_csv.ReadOptions(use_threads=False, block_size=ROW_BYTES, column_names=every, skip_rows=1),
                arrow_csv.ParseOptions(newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(every, pa.string()),
                    include_columns=list(names),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            self._check_rows()
            raise refused("body", "damaged", "a row is not as the CSV format has it") from error

    def typed(self, array: Any, kind: Kind) -> Any:
        texts = pc.utf8_trim_whitespace(array)
        if kind is Kind.CATEGORY:
            return pc.if_else(pc.equal(texts, ""), None, texts)
        known = pc.if_else(pc.is_in(texts, value_set=pa.array(MISSING)), None, texts)
        return days(_moments(known)) if kind is Kind.DATE else pc.cast(known, NUMBERS[kind])

    def line(self, row: int) -> str:
        for at, (line, _) in enumerate(self._rows()):
            if at == row:
                return f"line {line}"
        raise IndexError(row)

    def first_text(self, name: str) -> str | None:
        at = [column.name for column in self.columns].index(name)
        return next((f"line {line}" for line, row in self._rows() if not _is_number(row[at])), None)

    def _check_bytes(self) -> int:
        """Refuses what is not UTF-8 or holds NUL, with its line; returns how many quotes there are."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        line, quotes = 1, 0
        with open(self._path, "rb") as file:
            while True:
                block = file.read(BLOCK_BYTES)
                nul = block.find(b"\0")
                if nul >= 0:
                    where = f"line {line + block.count(LINE_FEED, 0, nul)}"
                    raise refused("body", "nul", f"{where}: there is a NUL byte", "write the file as UTF-8 text")
                try:
                    decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    # The bytes of a character that began in the block before are counted in front of this one.
                    at = max(0, error.start - (len(error.object) - len(block)))
                    where = f"line {line + block.count(LINE_FEED, 0, at)}"
                    raise refused("body", "not_utf8", f"{where}: this is not UTF-8") from None
                if not block:
                    return quotes
                line += block.count(LINE_FEED)
                quotes += block.count(b'"')

    def _header(self) -> list[str]:
        with open(self._path, "rb") as file:
            head = file.read(HEAD_BYTES)
        first = re.split("[\r\n]", head.decode("utf-8-sig", "ignore"), maxsplit=1)[0]
        if not first.strip():
            raise refused("body", "no_header", "line 1: the names of the columns belong here, and it is empty")
        if len(first.encode()) > HEAD_BYTES - 4:
            raise refused("body", "too_many_columns", f"line 1: it has more than {HEAD_BYTES >> 20} MiB")
        try:
            return [name.strip() for name in next(csv.reader([first], strict=True))]
        except csv.Error:
            raise refused("body", "quote", "line 1: a quote is not closed before the line ends") from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The slow, careful way: each row below the names, and the line where it begins. Raises InvalidInput."""
        with open(self._path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            next(reader)
            began = reader.line_num + 1
            try:
                for row in reader:
                    if row:
                        yield began, row
                    began = reader.line_num + 1
            except csv.Error as error:
                if "field limit" in str(error):
                    raise refused(
                        "body", "too_long", f"line {began}: a row has more than {ROW_BYTES >> 20} MiB"
                    ) from None
                message = f"line {began}: a quote is not closed, or not doubled inside of quotes"
                raise refused("body", "quote", message) from None

    def _check_rows(self) -> None:
        """Raises InvalidInput at the first row that is not as the format has it."""
        for line, row in self._rows():
            if len(row) != len(self.columns):
                message = f"line {line}: {len(row)} values, and there are {len(self.columns)} columns"
                raise refused("body", "ragged", message)


def _moments(texts: Any) -> Any:
    """Dates and times as ISO 8601 writes them, all with a time zone or all without. Raises ArrowInvalid."""
    try:
        return pc.cast(texts, pa.timestamp("us"))
    except pa.ArrowInvalid:
        return pc.cast(texts, pa.timestamp("us", "UTC"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() in MISSING
    return True
