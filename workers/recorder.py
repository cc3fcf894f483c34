"""The recorder: what trainers wrote to their spools becomes curves, exactly once, whatever dies when.

A checkpoint counts from the moment when the queue points to it, in the transaction that stores all points up to it.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import structlog
from sqlalchemy.orm import Session

from service import checkpoints, curves, gates, leases, queue, runs
from service.checkpoints import Kept
from service.database import Database
from service.leases import Lease, Terms
from service.spec import Gate
from workers import checkpoints as files, spool
from workers.spool import Records

FLUSH_SECONDS = 0.2  # a few transactions a second for each run, whatever the speed of its steps
RECENT_STEPS = 32  # whose times tell what is usual
FLUSH_BYTES = 20_000 * spool.RECORD.itemsize  # so that no transaction holds the write lock for 50 ms


log = structlog.get_logger()


@dataclass
class Recording:
    """The reading end of one attempt's spool.

    checkpoints: the folder of the job's. keep: how many of the newest stay. counts: points of each curve, in the
    database. step: the furthest so far. resumed: what the trainer says about where it goes on. gate: None when there is
    nothing to watch for.
    """

    lease: Lease
    path: Path
    checkpoints: Path
    resumed: Path
    keep: int
    gate: Gate | None = None
    names: list[str] = field(default_factory=list)
    offset: int = 0
    step: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    flushed_at: float | None = None
    look_at: int = 0
    _ends: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def note(self, records: Records) -> None:
        """Takes in the times of the steps that were read."""
        if "train_loss" in self.names:
            self._ends.extend(records["time"][records["series"] == self.names.index("train_loss")][-RECENT_STEPS:])

    @property
    def step_seconds(self) -> float:
        """From the end of one of the last steps to that of the next, the median; 0 while there are not two."""
        return float(np.median(np.diff(self._ends))) if len(self._ends) > 1 else 0.0

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
    last = records[np.argmax(records["step"])]
    step = max(recording.step, int(last["step"]))
    with database.write() as session:
        # The mark of a checkpoint that was written beside the training is of a step before the last.
        ahead = last["step"] >= recording.step
        progress = {"step": step, "active_seconds": float(last["time"])} if ahead else {}
        leases.hold(session, recording.lease, terms, **progress)
        leases.note_attempt(session, recording.lease, spool_offset=offset, **facts)
        counts = _resumed(session, recording, records)
        batches = [
            curves.Batch(name, counts.get(name, 0), mine["step"], mine["value"], mine["time"])
            for index, name in enumerate(recording.names)
            if len(mine := records[records["series"] == index])
        ]
        curves.append_all(session, recording.lease.seq, batches)
        gone = _pointed(session, recording, records)
        _doubted(session, recording, records)
        gate, look_at = _watched(session, recording, step)
    # After the commit: what the queue points to is always on the disk.
    files.remove(recording.checkpoints, gone)
    recording.note(records)
    recording.offset, recording.step, recording.gate, recording.look_at = offset, step, gate, look_at
    recording.counts = counts | {batch.metric: batch.position + len(batch.steps) for batch in batches}
    recording.steps = recording.counts.get("train_loss", 0)
    return True


def _watched(session: Session, recording: Recording, step: int) -> tuple[Gate | None, int]:
    """Lets the gate look at the curves when it is time: what is still watched for, and the step of the next look."""
    gate = recording.gate
    if gate is None or step < max(recording.look_at, gate.after_steps):
        return gate, recording.look_at
    going_on = gates.look(session, recording.lease.seq, gate)
    return gate if going_on else None, gates.next_look(gate, step)


def _resumed(session: Session, recording: Recording, records: Records) -> dict[str, int]:
    """Where the curves end, after a trainer has said that it goes on from an older checkpoint than it was to."""
    if not np.any(records["series"] == spool.RESUMED):
        return recording.counts
    seq = recording.lease.seq
    checkpoints.resumed(session, seq, json.loads(recording.resumed.read_text()))
    return {metric: summary.count for metric, summary in curves.find(session, [seq]).get(seq, {}).items()}


def _doubted(session: Session, recording: Recording, records: Records) -> None:
    """Tells what keeps the curves from coming out the same again, each thing once for all attempts."""
    marks = records[records["series"] == spool.INEXACT]
    if not len(marks):
        return
    seq, sentences = recording.lease.seq, spool.doubts(recording.path)
    told = {doubt["message"] for doubt in runs.doubts(session, seq)}
    for mark in marks:
        message = f"the same spec may give another curve: {sentences[int(mark['value'])]}"
        if message not in told:
            queue.tell(session, seq, runs.INEXACT, message, step=int(mark["step"]))


def _pointed(session: Session, recording: Recording, records: Records) -> list[Kept]:
    """Points to the checkpoints that are told of; those that are no longer kept."""
    gone: list[Kept] = []
    lease = recording.lease
    for step in records["step"][records["series"] == spool.CHECKPOINT].tolist():
        try:
            made = files.read(recording.checkpoints, lease.attempt, step)
        except files.Unusable as error:
            log.warning("checkpoint not used", job=lease.job_id, attempt=lease.attempt, step=step, error=str(error))
        else:
            gone += checkpoints.point_to(session, lease.seq, made, recording.keep)
    return gone


def drain(database: Database, recording: Recording, terms: Terms) -> None:
    """Commits all that is left of a spool whose trainer has ended. Raises LeaseLost."""
    while flush(database, recording, terms):
        pass
