"""Fashion-MNIST as Debian's package `dataset-fashion-mnist` installs it, made into one NPZ file to be uploaded.

`python examples/fashion_mnist.py fashion_mnist.npz [FOLDER]`: 60 000 images of clothes to learn from, 28 x 28 grey
values in ten classes, and the data set's own 10 000 to judge by (Xiao, Rasul & Vollgraf 2017).
"""

import gzip
import struct
import sys
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


def arrays(folder: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        "x": read(folder / "train-images-idx3-ubyte.gz"),
        "y": read(folder / "train-labels-idx1-ubyte.gz"),
        "x_val": read(folder / "t10k-images-idx3-ubyte.gz"),
        "y_val": read(folder / "t10k-labels-idx1-ubyte.gz"),
    }


def main() -> None:
    target, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else INSTALLED
    found = arrays(folder)
    np.savez_compressed(target, **found)  # type: ignore[arg-type]
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    print(f"{target}: {shapes}")


if __name__ == "__main__":
    main()
