"""How a file is refused, and the bounds that hold for files of every form."""

from service.errors import FieldProblem, InvalidInput
from service.inspection.found import Asked

MOST_COLUMNS = 10_000
MOST_EXPANSION = 100
HARMLESS_BYTES = 16 << 20  # what a small file may expand to, whatever the ratio


def refused(param: str, code: str, message: str, hint: str | None = None) -> InvalidInput:
    """To be raised for one problem."""
    return InvalidInput([FieldProblem(param, code, message, hint)])


def require_decodable(decoded: int, file_bytes: int, asked: Asked, hint: str) -> None:
    """decoded: bytes that the file's own head speaks of. hint: how it is written without compression."""
    if decoded > asked.decoded_bytes:
        raise refused("body", "too_large", f"it has more than {asked.decoded_bytes >> 20} MiB when it is decoded")
    if decoded > max(MOST_EXPANSION * file_bytes, HARMLESS_BYTES):
        raise refused("body", "too_large", f"decoded it is more than {MOST_EXPANSION} times as large", hint)
