"""Text as it is: any bytes, in one array of them."""

from service.inspection.found import Asked, Found
from service.inspection.refusals import refused
from service.inspection.writing import Writer, blocks

FEWEST_BYTES = 2  # one to read and one to predict


def inspect(path: str, asked: Asked) -> Found:
    """Writes `text.npy`, uint8 of shape (bytes,), unless the file may stay where it is. Raises InvalidInput."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        if size < FEWEST_BYTES:
            raise refused("body", "too_short", f"a text has {FEWEST_BYTES} bytes or more")
        found = Found("text", "language_modeling", [], size)
        if asked.mapped:
            found.places["text"] = {"offset": 0, "dtype": "|u1", "shape": [size]}
            return found
        file.seek(0)
        with Writer("text", "|u1", (size,)) as writer:
            for block in blocks(file, size):
                writer.write(block)
    return found
