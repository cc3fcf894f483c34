"""How much of everything one client may have, and the buckets that count requests."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from service.settings import Settings


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds and numbers; what an operator may want to change comes from the settings."""

    connections: int = 256
    head_bytes: int = 16 << 10
    head_seconds: float = 10.0
    body_bytes: int = 1 << 20
    body_seconds: float = 30.0
    body_bytes_per_second: int = 1 << 10  # after the first `body_seconds`
    unread_seconds: float = 30.0  # for the rest of a body that nobody reads
    write_seconds: float = 30.0  # in which a client must take something of an answer
    requests_per_second: float = 200.0
    failed_logins_per_minute: float = 10.0


def of(settings: Settings) -> Limits:
    return Limits(connections=settings.max_connections, requests_per_second=float(settings.requests_per_second))


class Buckets:
    """A token bucket for each key: `burst` at once, `rate` a second over time. For one thread."""

    def __init__(self, rate: float, burst: float, most: int = 10_000, seconds: Callable[[], float] = monotonic) -> None:
        """most: keys remembered; beyond it the one that was not used for the longest is as if never seen."""
        self._cost = 1 / rate
        self._room = burst / rate
        self._most = most
        self._seconds = seconds
        # When each bucket will be full again: one number says all (Turner's virtual scheduling, ITU-T I.371).
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> float:
        """0 when there was one to take, else the seconds until there is."""
        now = self._seconds()
        full_at = max(self._full_at.get(key, now), now) + self._cost
        wait = full_at - now - self._room
        if wait > 1e-9:
            return wait
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return 0.0
