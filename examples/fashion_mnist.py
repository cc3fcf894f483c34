"""Fashion-MNIST as Debian's package `dataset-fashion-mnist` installs it, made into one NPZ file to be uploaded.

`python examples/fashion_mnist.py fashion_mnist.npz`: 60 000 images of clothes to learn from, 28 x 28 grey values in ten
classes, and the data set's own 10 000 to judge by (Xiao, Rasul & Vollgraf 2017). `--first 10000` takes only the first
ones to learn from.
"""

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def read(path: Path) -> NDArray[np.uint8]:
    """An array in the IDX format (yann.lecun.com/exdb/mnist): two zeros, the type 8 for bytes, the dimensions."""
    content = gzip.decompress(path.read_bytes())
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    if (zeros, kind) != (0, 8):
        raise ValueError(f"{path} holds no bytes in the IDX format")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def arrays(folder: Path, first: int | None = None) -> dict[str, NDArray[np.uint8]]:
    """first: how many images to learn from, in the order of the files, which mixes the classes; None for all."""
    return {
        "x": read(folder / "train-images-idx3-ubyte.gz")[:first],
        "y": read(folder / "train-labels-idx1-ubyte.gz")[:first],
        "x_val": read(folder / "t10k-images-idx3-ubyte.gz"),
        "y_val": read(folder / "t10k-labels-idx1-ubyte.gz"),
    }


def main() -> None:
    asked = argparse.ArgumentParser(description="Makes one NPZ file of Fashion-MNIST.")
    asked.add_argument("target", type=Path, help="the NPZ file to be written")
    asked.add_argument("folder", type=Path, nargs="?", default=INSTALLED, help="where the package has put its files")
    asked.add_argument("--first", type=int, metavar="N", help="so many images to learn from instead of all")
    told = asked.parse_args()
    found = arrays(told.folder, told.first)
    np.savez_compressed(told.target, **found)  # type: ignore[arg-type]
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    print(f"{told.target}: {shapes}")


if __name__ == "__main__":
    main()
