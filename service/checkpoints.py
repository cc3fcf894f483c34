"""The checkpoints of a job that count: those the queue points to. All but their weights is the workers' business."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service import clock, curves
from service.errors import NotFound
from service.plain_files import open_plain
from service.projects import visible
from service.queue import tell
from service.runs import INEXACT
from service.tables import Checkpoint, Dataset, Job, Run
from service.users import Principal

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Kept:
    """A state of a training on the disk. sha256: of its manifest. active_seconds: of training, up to its step.

    resumable: it holds all that training goes on from, and not the weights alone.
    """

    attempt: int
    step: int
    active_seconds: float
    sha256: str
    resumable: bool = True

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"a{self.attempt}-s{self.step}"


@dataclass(frozen=True)
class Made:
    """A checkpoint just written, and what it holds. metrics: of the validation at its step, if there was one.

    size, sha256: of its weights. is_best: no validation before was better.
    """

    kept: Kept
    epoch: float
    size: int
    sha256: str
    metrics: Mapping[str, float]
    is_best: bool


def folder(jobs_path: Path, job_id: str) -> Path:
    """Where a job's checkpoints lie, whichever attempt wrote them."""
    return jobs_path / job_id / "checkpoints"


def cut(session: Session, seq: int) -> list[Kept]:
    """What a new attempt finds, newest first: weights from behind the step that it goes on from are forgotten."""
    rows = _rows(session, seq)
    step = next((row.step for row in rows if row.resumable), 0)
    session.execute(delete(Checkpoint).where(Checkpoint.job == seq, Checkpoint.step > step))
    return [_kept(row) for row in rows if row.step <= step]


def _kept(row: Checkpoint) -> Kept:
    return Kept(row.attempt, row.step, row.active_seconds, row.sha256, row.resumable)


def weights(session: Session, principal: Principal, job_id: str, which: str, jobs_path: Path) -> tuple[int, Path]:
    """(step, path) of the weights that `which` names: `best`, `last` or a step. Raises NotFound."""
    rows = _rows(session, _seq(session, principal, job_id))
    match which:
        case "last":
            found = rows[:1]
        case "best":
            found = [row for row in rows if row.is_best]
        case _:
            found = [row for row in rows if str(row.step) == which]
    if not found:
        kept = ", ".join(str(row.step) for row in rows)
        raise NotFound("checkpoint", f"kept are those of the steps {kept}" if kept else "this job has kept none")
    return found[0].step, folder(jobs_path, job_id) / _kept(found[0]).name / WEIGHTS


@dataclass(frozen=True)
class Chosen:
    """The weights to predict with, and the names of the classes that they tell apart, if they do."""

    step: int
    path: Path
    classes: list[Any] | None


def for_prediction(
    session: Session, principal: Principal, job_id: str, which: int | str | None, jobs_path: Path
) -> Chosen:
    """which: a step, `best` or `last`; the best that there is when not given. Raises NotFound."""
    if which is None:
        rows = _rows(session, _seq(session, principal, job_id))
        which = "best" if any(row.is_best for row in rows) else "last"
    step, path = weights(session, principal, job_id, str(which), jobs_path)
    query = select(Dataset.classes).join(Job, Job.dataset_id == Dataset.id).where(Job.id == job_id)
    classes = session.scalars(query).one()
    return Chosen(step, path, None if classes is None else [each.get("name", each["value"]) for each in classes])


def opened(path: Path) -> BinaryIO:
    """A file of weights. A trainer may do what it likes in its folder: a link put in its place is not followed.

    Raises NotFound.
    """
    try:
        return os.fdopen(open_plain(path), "rb")
    except OSError:
        raise NotFound("checkpoint") from None


def page(session: Session, principal: Principal, job_id: str, *, after: int | None, limit: int) -> list[dict[str, Any]]:
    """Views of a job's checkpoints before the step `after`, newest first. Raises NotFound."""
    rows = _rows(session, _seq(session, principal, job_id))
    found = [row for row in rows if after is None or row.step < after]
    return [
        {
            "step": row.step,
            "epoch": row.epoch,
            "bytes": row.bytes,
            "sha256": row.weights_sha256,
            "metrics": row.metrics,
            "is_best": row.is_best,
            "created_at": row.created_at,
        }
        for row in found[:limit]
    ]


def point_to(session: Session, seq: int, made: Made, keep: int) -> list[Kept]:
    """From now on training goes on from here; returns those that are no longer kept, whose files may go.

    Only behind `leases.hold`, in the transaction that stores all points up to the checkpoint's step.
    keep: how many of the newest stay; the best stays too. One of weights alone moves no attempt's beginning.
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
            weights_sha256=made.sha256,
            resumable=made.kept.resumable,
            metrics=dict(made.metrics),
            is_best=made.is_best,
            created_at=clock.now(),
        )
    )
    session.flush()
    if made.kept.resumable:
        _point(session, seq, made.kept.step)
    rows = _rows(session, seq)
    for row in rows:
        row.is_best = row.is_best and (row.step == made.kept.step or not made.is_best)
    newest = [row for row in rows if row.resumable][:keep]
    dropped = [row for row in rows if row not in newest and not row.is_best]
    gone = [_kept(row) for row in dropped]
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
        tell(session, seq, INEXACT, message, step=step)


def newest_attempt(session: Session, seq: int) -> int:
    """The number of the attempt that left the checkpoint to go on from; 0 when there is none."""
    return next((row.attempt for row in _rows(session, seq) if row.resumable), 0)


def _point(session: Session, seq: int, step: int) -> None:
    session.execute(
        update(Job).where(Job.seq == seq).values(checkpoint_step=step).execution_options(synchronize_session=False)
    )


def _rows(session: Session, seq: int) -> Sequence[Checkpoint]:
    return session.scalars(select(Checkpoint).where(Checkpoint.job == seq).order_by(Checkpoint.step.desc())).all()


def _seq(session: Session, principal: Principal, job_id: str) -> int:
    query = select(Job.seq).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    seq = session.scalars(query).one_or_none()
    if seq is None:
        raise NotFound("job")
    return seq
