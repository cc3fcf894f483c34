"""Identifiers that sort by creation and serve as file names."""

import re
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
ID_PATTERN = r"^[a-z0-9][a-z0-9-]{7,35}$"

_last_millisecond = 0
_lock = threading.Lock()


def new_id() -> str:
    """Nine characters of time and seven of chance, such as `01jd3k5v7-x4q2m8z`.

    Within a process no id sorts before an earlier one, also when the clock is set back.
    """
    global _last_millisecond
    with _lock:
        _last_millisecond = max(_last_millisecond + 1, time.time_ns() // 1_000_000)
        moment = _last_millisecond
    return f"{_base32(moment, 9)}-{_base32(secrets.randbits(35), 7)}"


def is_id(text: str) -> bool:
    return re.match(ID_PATTERN, text) is not None and not text.endswith("\n")


def _base32(number: int, width: int) -> str:
    return "".join(ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(width)))
