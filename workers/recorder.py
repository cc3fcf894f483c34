"""The recorder: what trainers wrote to their spools becomes curves, exactly once, whatever dies when."""

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from service import curves, leases
from service.database import Database
from service.leases import Lease, Terms
from workers import spool

FLUSH_SECONDS = 0.2  # a few transactions a second for each run, whatever the speed of its steps
FLUSH_BYTES = 20_000 * spool.RECORD.itemsize  # so that no transaction holds the write lock for 50 ms


@dataclass
class Recording:
    """The reading end of one attempt's spool."""

    lease: Lease
    path: Path
    names: list[str] = field(default_factory=list)
    offset: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    flushed_at: float | None = None

    def due_in(self) -> float:
        """Seconds until the next flush may come; the first one comes at once."""
        return 0.0 if self.flushed_at is None else self.flushed_at + FLUSH_SECONDS - monotonic()


def flush(database: Database, recording: Recording, terms: Terms, **facts: Any) -> bool:
    """Commits the next part of the spool; whether there was one.

    The offset is stored with the points, under the attempt's guard. facts: of the attempt, noted with it.
    Raises LeaseLost when the attempt is over: then nothing was written.
    """
    recording.flushed_at = monotonic()
    recording.names = recording.names or spool.names(recording.path)
    if not recording.names:
        return False
    records, offset = spool.read(recording.path, recording.offset, FLUSH_BYTES)
    if len(records) == 0:
        return False
    batches = [
        curves.Batch(name, recording.counts.get(name, 0), mine["step"], mine["value"], mine["time"])
        for index, name in enumerate(recording.names)
        if len(mine := records[records["series"] == index])
    ]
    last = records[np.argmax(records["step"])]
    with database.write() as session:
        progress = {"step": int(last["step"]), "active_seconds": float(last["time"])}
        leases.hold(session, recording.lease, terms, **progress)
        leases.note_attempt(session, recording.lease, spool_offset=offset, **facts)
        curves.append_all(session, recording.lease.seq, batches)
    recording.offset = offset
    for batch in batches:
        recording.counts[batch.metric] = batch.position + len(batch.steps)
    recording.steps = recording.counts.get("train_loss", 0)
    return True


def drain(database: Database, recording: Recording, terms: Terms) -> None:
    """Commits all that is left of a spool whose trainer has ended. Raises LeaseLost."""
    while flush(database, recording, terms):
        pass
