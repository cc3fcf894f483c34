"""Room for arrays: in main memory or, for those that are too large for it, on the disk, read when they are used."""

import os
from collections.abc import Iterator
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_DATA, getrlimit
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

Indices = NDArray[np.int64]

BLOCK_BYTES = 16 << 20


def empty(shape: tuple[int, ...], dtype: DTypeLike, scratch: Path) -> NDArray[Any]:
    """An array to be filled. When it is too large for half of the memory that is free, it is a file without a name in
    the folder `scratch`, mapped.

    Raises OSError when the disk has no room for it either.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= free_bytes() // 2:
        return np.empty(shape, dtype)
    with TemporaryFile(dir=scratch) as file:
        # Without its blocks, a page that finds no room on the disk would end the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.dtype(dtype), "r+", shape=shape)


def gathered(x: NDArray[Any], rows: Indices, scratch: Path) -> NDArray[Any]:
    """A copy of these rows, in their order."""
    out = empty((len(rows), *x.shape[1:]), x.dtype, scratch)
    at_once = max(1, BLOCK_BYTES // max(1, x[:1].nbytes))
    for part in parts(len(rows), at_once):
        out[part] = x[rows[part]]
    return out


def parts(count: int, at_once: int) -> Iterator[slice]:
    """Slices of at most so many, one behind the other."""
    for first in range(0, count, at_once):
        yield slice(first, min(count, first + at_once))


def free_bytes() -> int:
    """Memory that this process may still take."""
    limit = getrlimit(RLIMIT_DATA)[0]
    free = int(psutil.virtual_memory().available)
    return free if limit == RLIM_INFINITY else min(limit, free)
