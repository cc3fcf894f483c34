"""The example that makes an NPZ file of Fashion-MNIST, on a few images in the same format."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "fashion_mnist.py"


def idx(path: Path, array: Any) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.mark.parametrize(("more", "rows"), [([], 5), (["--first", "3"], 3)])
def test_images_are_taken_in_their_order_and_no_more_than_asked_for(tmp_path: Path, more: list[str], rows: int) -> None:
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    for name, count in (("train", 5), ("t10k", 2)):
        idx(tmp_path / f"{name}-images-idx3-ubyte.gz", images[:count])
        idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8))
    target = tmp_path / "made.npz"
    subprocess.run([sys.executable, SCRIPT, target, tmp_path, *more], check=True, stdout=subprocess.DEVNULL)
    made = np.load(target)
    assert (made["x"] == images[:rows]).all()
    assert made["y"].tolist() == list(range(rows))
    assert made["x_val"].shape == (2, 2, 2)
