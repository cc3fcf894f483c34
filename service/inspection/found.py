"""What is asked of an inspection and what it finds: the words that the service and its limited child exchange.

The command line reads this module too: it imports nothing that takes time.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

MEDIA_TYPES = {
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-npz": "npz",
    "text/plain": "text",
}
SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz", ".txt": "text"}
# What says in a CSV file that a number is not there.
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


@dataclass(frozen=True)
class Asked:
    """What a file is said to be, and how much the child may take.

    target: the column to learn, for tables. task: `classification` or `regression` where the target leaves it open.
    mapped: arrays that can be read where they are stay there. copies_bytes: most bytes written. memory_bytes,
    cpu_seconds: of the process.
    """

    format: str
    target: str | None
    task: str | None
    mapped: bool
    copies_bytes: int
    decoded_bytes: int
    memory_bytes: int
    cpu_seconds: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Asked":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Found:
    """What a file holds.

    kind: `table`, `images` or `text`. shape: of one sample, [columns], [channels, height, width], or [] for text.
    rows: samples, or bytes of text; validation_rows: those that the file itself holds back, None when it does not.
    columns: `{name, type, missing, values?}` of each input column of a table. classes: `{value, name, rows}`.
    places: arrays that stay in the file, as `{"x": {offset, dtype, shape}}`; all others were written to the folder.
    """

    kind: str
    task: str
    shape: list[int]
    rows: int
    validation_rows: int | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)
    classes: list[dict[str, Any]] | None = None
    target: str | None = None
    places: dict[str, dict[str, Any]] = field(default_factory=dict)
