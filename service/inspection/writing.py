"""Arrays on their way from a file into the working folder, a block at a time."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

BLOCK_BYTES = 4 << 20


class Writer:
    """Writes `<name>.npy` of a shape that is known before, and leaves it on the disk."""

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self._file = open(f"{name}.npy", "xb")  # noqa: SIM115 - closed at the end of the writer's own block
        header: dict[str, Any] = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())


def save(name: str, values: Any) -> None:
    """Writes a whole array."""
    with Writer(name, values.dtype.str, values.shape) as writer:
        writer.write(np.ascontiguousarray(values).data)


def blocks(file: IO[bytes], size: int, unit: int = 1) -> Iterator[bytes]:
    """The next `size` bytes of a file, in blocks of whole units. Raises EOFError when there are fewer."""
    most = max(1, BLOCK_BYTES // unit) * unit
    while size:
        wanted = min(size, most)
        block = file.read(wanted)
        if len(block) != wanted:
            raise EOFError
        yield block
        size -= wanted
