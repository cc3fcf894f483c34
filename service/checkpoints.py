"""The checkpoints of a job that count: those the queue points to. Their files are the workers' business."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service import clock, curves
from service.errors import NotFound
from service.projects import visible
from service.queue import tell
from service.tables import Checkpoint, Job, Run
from service.users import Principal


@dataclass(frozen=True)
class Kept:
    """A state of a training on the disk. sha256: of its manifest. active_seconds: of training, up to its step."""

    attempt: int
    step: int
    active_seconds: float
    sha256: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"a{self.attempt}-s{self.step}"


@dataclass(frozen=True)
class Made:
    """A checkpoint just written, and what it holds. metrics: of the validation at its step, if there was one.

    size: bytes of its files.
    """

    kept: Kept
    epoch: float
    size: int
    metrics: Mapping[str, float]


def folder(jobs_path: Path, job_id: str) -> Path:
    """Where a job's checkpoints lie, whichever attempt wrote them."""
    return jobs_path / job_id / "checkpoints"


def of_job(session: Session, seq: int) -> list[Kept]:
    """All that training may go on from, newest first."""
    return [Kept(row.attempt, row.step, row.active_seconds, row.sha256) for row in _rows(session, seq)]


def page(session: Session, principal: Principal, job_id: str, *, after: int | None, limit: int) -> list[dict[str, Any]]:
    """Views of a job's checkpoints before the step `after`, newest first. Raises NotFound."""
    query = select(Job.seq).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    seq = session.scalars(query).one_or_none()
    if seq is None:
        raise NotFound("job")
    found = [row for row in _rows(session, seq) if after is None or row.step < after]
    return [
        {
            "step": row.step,
            "epoch": row.epoch,
            "bytes": row.bytes,
            "sha256": row.sha256,
            "metrics": row.metrics,
            "is_best": row.is_best,
            "created_at": row.created_at,
        }
        for row in found[:limit]
    ]


def point_to(session: Session, seq: int, made: Made, keep: int) -> list[Kept]:
    """From now on training goes on from here; returns those that are no longer kept, whose files may go.

    Only behind `leases.hold`, in the transaction that stores all points up to the checkpoint's step.
    keep: how many of the newest stay; the best by val_loss stays too.
    """
    session.add(
        Checkpoint(
            job=seq,
            step=made.kept.step,
            attempt=made.kept.attempt,
            epoch=made.epoch,
            active_seconds=made.kept.active_seconds,
            bytes=made.size,
            sha256=made.kept.sha256,
            metrics=dict(made.metrics),
            created_at=clock.now(),
        )
    )
    _point(session, seq, made.kept.step)
    session.flush()
    rows = _rows(session, seq)
    best = min((row for row in rows if isfinite(_loss(row))), key=_loss, default=None)
    for row in rows:
        row.is_best = row is best
    dropped = [row for row in rows[keep:] if row is not best]
    gone = [Kept(row.attempt, row.step, row.active_seconds, row.sha256) for row in dropped]
    for row in dropped:
        session.delete(row)
    session.flush()
    return gone


def resumed(session: Session, seq: int, told: Mapping[str, Any]) -> None:
    """Writes down where an attempt goes on. What was newer and could not be used is forgotten, and curves are cut back.

    Only behind `leases.hold`. told: `{step, unusable: [{step, reason}], differs: [sentence]}`, by the trainer.
    """
    step = int(told["step"])
    for lost in told["unusable"]:
        message = f"the checkpoint of step {lost['step']} cannot be used: {lost['reason']}"
        tell(session, seq, "checkpoint_unusable", message, step=lost["step"])
    if told["unusable"]:
        session.execute(delete(Checkpoint).where(Checkpoint.job == seq, Checkpoint.step > step))
        curves.cut(session, seq, step)
        _point(session, seq, step)
    if step:
        tell(session, seq, "resumed", f"training goes on after step {step}", step=step, exact=not told["differs"])
    if step and told["differs"]:
        message = f"from here on the curve may differ from an undisturbed one: {'; '.join(told['differs'])}"
        tell(session, seq, "inexact", message, step=step)


def _point(session: Session, seq: int, step: int) -> None:
    session.execute(
        update(Job).where(Job.seq == seq).values(checkpoint_step=step).execution_options(synchronize_session=False)
    )


def _rows(session: Session, seq: int) -> Sequence[Checkpoint]:
    return session.scalars(select(Checkpoint).where(Checkpoint.job == seq).order_by(Checkpoint.step.desc())).all()


def _loss(row: Checkpoint) -> float:
    return float(row.metrics.get("val_loss", "nan"))
