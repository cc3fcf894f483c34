"""Whether a trainer gets anywhere: what it writes to its spool is progress, what it prints is not."""

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

STEPS = 20  # as many of the usual length may a trainer take for one
LOOK_SECONDS = 5.0


@dataclass
class Watchdog:
    """Watches one attempt. least: seconds that it may take without a step, however quick its steps are."""

    spool: Path
    least: float
    silent: float = 0.0
    _size: int = -1
    _looked: float = field(default_factory=monotonic)

    def is_stalled(self, step_seconds: float) -> bool:
        """Looks at the attempt, which should be often. step_seconds: of its usual step, 0 while that is not known."""
        now, size = monotonic(), self._spooled()
        # Whoever did not look for long, because it was stopped itself, does not know what happened meanwhile.
        self.silent = 0.0 if size > self._size else self.silent + min(now - self._looked, LOOK_SECONDS)
        self._size, self._looked = size, now
        return self.silent > max(self.least, STEPS * step_seconds)

    def _spooled(self) -> int:
        """Bytes; the trainer makes the file when it has all that its first step needs."""
        try:
            return self.spool.stat().st_size
        except FileNotFoundError:
            return 0
