"""Curves as a Parquet file. NaN stays NaN, and is not null."""

import pyarrow as pa
from pyarrow import parquet

from service.pictures.requests import CurveFile


def write(wanted: CurveFile) -> bytes:
    table = pa.table({name: pa.array(column, from_pandas=False) for name, column in wanted.columns.items()})
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content
