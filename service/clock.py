"""Two clocks: one that people read, and one that leases are measured with."""

import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path


def now() -> str:
    """The wall clock as RFC 3339 in UTC with milliseconds. For display and expiry, never for leases."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC; texts of this form sort by time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_milliseconds() -> int:
    """Milliseconds since this machine booted, suspended time included. No change of the date moves it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@cache
def boot_id() -> str:
    """Names this boot of the machine: readings of `boot_milliseconds` from another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
