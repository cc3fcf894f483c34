"""Runs without a job: a script that trains somewhere else begins one, sends its points, and says how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service import clock, curves, projects
from service.curves.merging import Logged
from service.curves.rollups import Integers
from service.errors import FieldProblem, InvalidInput, NotFound, NotNow, NotOwner, RunOver
from service.ids import new_id
from service.sent import Sent
from service.spec import MOST_TAGS, Label, Name, Part, TagKey, Text
from service.states import TERMINAL, JobStatus, Scope
from service.tables import OutsideRun, Run
from service.users import Principal

MOST_METRICS = 1_000
MOST_PARAMETERS = 256
SILENT_SECONDS = 86_400.0


class NewRun(Part):
    """What a script says of a run when it begins."""

    name: Label = Field(description="a label for people")
    project: Name = Field(default="default", description="what the run is filed under")
    parameters: dict[TagKey, Any] = Field(
        default={}, max_length=MOST_PARAMETERS, description="what it is trained with, flat or nested"
    )
    tags: dict[TagKey, Text] = Field(default={}, max_length=MOST_TAGS, description="free labels")
    batch_size: Annotated[int, Field(ge=1, le=2**40)] | None = Field(
        default=None, description="samples per step; with train_samples it tells the epochs"
    )
    train_samples: Annotated[int, Field(ge=1, le=2**40)] | None = Field(
        default=None, description="samples of the training split"
    )


class Finish(Part):
    """How a run ended."""

    status: Literal["succeeded", "failed", "cancelled"]


def begin(session: Session, principal: Principal, wanted: NewRun) -> str:
    """The id of a new run. Raises NotFound for a private project of others, or InvalidInput."""
    parameters = dict(_flat(wanted.parameters, ""))
    _require_sensible(parameters)
    projects.use(session, principal, wanted.project)
    run = Run(
        id=new_id(),
        name=wanted.name,
        project=wanted.project,
        user=principal.user,
        tags=dict(wanted.tags),
        parameters=parameters,
        created_at=clock.now(),
    )
    session.add(run)
    session.flush()
    session.add(
        OutsideRun(
            seq=run.seq,
            status=JobStatus.RUNNING,
            batch_size=wanted.batch_size,
            train_samples=wanted.train_samples,
            zero=(now := time()),
            heard=now,
        )
    )
    session.flush()
    return run.id


def _flat(tree: Mapping[str, Any], prefix: str) -> Any:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _require_sensible(parameters: Mapping[str, Any]) -> None:
    """Raises InvalidInput for what no list or comparison could show."""
    found = []
    if len(parameters) > MOST_PARAMETERS:
        found.append(FieldProblem("parameters", "too_many_parameters", f"at most {MOST_PARAMETERS}, nested ones too"))
    for name, value in parameters.items():
        texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
        if len(name) > 128:
            found.append(
                FieldProblem("parameters", "name_too_long", "a name has at most 128 characters, dots included")
            )
        elif isinstance(value, list) and len(value) > MOST_PARAMETERS:
            found.append(FieldProblem(f"parameters.{name}", "too_long", f"at most {MOST_PARAMETERS} entries"))
        elif any(len(text) > 4096 for text in texts):
            found.append(FieldProblem(f"parameters.{name}", "too_long", "at most 4096 characters"))
    if found:
        raise InvalidInput(found)


def add_points(session: Session, principal: Principal, run_id: str, sent: Sent) -> None:
    """Merges points into the curves of a run that goes on; sending the same ones again changes nothing.

    Raises NotFound, NotOwner, RunOver, or InvalidInput.
    """
    run, outside = _going(session, principal, run_id)
    now = outside.heard = time()
    if not len(sent.metrics):
        session.flush()
        return
    moments = np.where(np.isnan(sent.moments), now, sent.moments)
    recorded = curves.find(session, [run.seq]).get(run.seq, {})
    if not recorded:
        outside.zero = min(outside.zero, float(moments.min()))
    names = dict.fromkeys(sent.metrics)
    _require_room(len(recorded.keys() | names.keys()))
    times = moments - outside.zero
    curves.merge(
        session,
        run.seq,
        [
            Logged(name, sent.steps[places], sent.values[places], times[places])
            for name, places in _places(sent.metrics, list(names))
        ],
    )
    outside.active_seconds = max(outside.active_seconds, float(times.max()))
    session.flush()


def _places(metrics: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, Integers]]:
    """Where the points of each metric stand, rising."""
    number = {name: place for place, name in enumerate(names)}
    numbers = np.fromiter(map(number.__getitem__, metrics), np.int64, len(metrics))
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(names)))
    return zip(names, np.split(order, ends[:-1]), strict=True)


def _require_room(metrics: int) -> None:
    if metrics > MOST_METRICS:
        raise InvalidInput([FieldProblem("points", "too_many_metrics", f"a run has at most {MOST_METRICS} metrics")])


def finish(session: Session, principal: Principal, run_id: str, status: str) -> None:
    """Ends a run; again with the same status changes nothing. Raises NotFound, NotOwner or RunOver."""
    _, outside = _owned(session, principal, run_id)
    if outside.status is JobStatus(status):
        return
    if outside.status is not JobStatus.RUNNING:
        raise RunOver(run_id, outside.status)
    outside.status = JobStatus(status)
    outside.finished_at = clock.now()
    session.flush()


def remove(session: Session, principal: Principal, run_id: str) -> None:
    """Deletes a run that is over, with its curves. Raises NotFound, NotOwner, NotNow, or RunOver for that of a job."""
    run, outside = _owned(session, principal, run_id)
    if outside.status not in TERMINAL:
        raise NotNow(run_id, outside.status, "be deleted", "when it is over", "run")
    session.execute(delete(Run).where(Run.seq == run.seq))


def give_up(session: Session, now: float) -> int:
    """Fails the runs whose scripts have not been heard of for a day; how many. They have ended, and nobody said so."""
    silent = update(OutsideRun).where(OutsideRun.status == JobStatus.RUNNING, OutsideRun.heard < now - SILENT_SECONDS)
    failed = session.execute(silent.values(status=JobStatus.FAILED, finished_at=clock.now()))
    return int(failed.rowcount)  # type: ignore[attr-defined]


def _going(session: Session, principal: Principal, run_id: str) -> tuple[Run, OutsideRun]:
    run, outside = _owned(session, principal, run_id)
    if outside.status is not JobStatus.RUNNING:
        raise RunOver(run_id, outside.status)
    return run, outside


def _owned(session: Session, principal: Principal, run_id: str) -> tuple[Run, OutsideRun]:
    """A run that the principal may write to. That of a job is the trainer's alone."""
    query = select(Run, OutsideRun).outerjoin(OutsideRun, OutsideRun.seq == Run.seq)
    row = session.execute(query.where(Run.id == run_id, projects.visible(principal))).one_or_none()
    if row is None:
        raise NotFound("run")
    run, outside = row
    if run.user != principal.user and principal.scope is not Scope.ADMIN:
        raise NotOwner("run")
    if outside is None:
        raise RunOver(run_id, None)
    return run, outside
