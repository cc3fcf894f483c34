"""Runs as curves, comparisons and diagnoses need them: by their ids, or the newest that match."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from service import plan, runs
from service.curves import Counting
from service.driver import Kept
from service.errors import NotFound
from service.plan import Epoch
from service.projects import visible_to
from service.runs import STATUS, Filter, Query, as_text
from service.states import JobStatus, Scope
from service.tables import Job, OutsideRun, Run
from service.users import Principal


@dataclass(frozen=True)
class Subject:
    """A run as comparisons and curves need it. counting: what its axes follow from."""

    seq: int
    id: str
    name: str
    project: str
    status: JobStatus
    parameters: dict[str, Any]
    counting: Counting
    of_job: bool


class Stored(NamedTuple):
    """COLUMNS of one run: status as its word, parameters and plan as JSON text."""

    seq: int
    id: str
    name: str
    project: str
    status: str
    parameters: str
    plan: str | None
    gpus: float | None
    batch_size: int | None
    train_samples: int | None


COLUMNS: tuple[Any, ...] = (
    Run.seq,
    Run.id,
    Run.name,
    Run.project,
    as_text(STATUS),
    as_text(Run.parameters),
    as_text(Job.plan),
    Job.gpus,
    OutsideRun.batch_size,
    OutsideRun.train_samples,
)
SUBJECTS: Query = runs.placed(select(*COLUMNS))
# The ids are one value, a JSON list: a parameter for each would make another statement for each number of them.
IDS = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
NAMED = Kept(SUBJECTS.where(Run.id.in_(IDS)))
NAMED_VISIBLE = Kept(SUBJECTS.where(Run.id.in_(IDS), visible_to(bindparam("viewer"))))


def named(session: Session, principal: Principal, run_ids: Sequence[str]) -> list[Subject]:
    """The runs in the order asked for. Raises NotFound if one does not exist for the principal; of several, which."""
    query = NAMED if principal.scope is Scope.ADMIN else NAMED_VISIBLE
    rows = query.rows(session, ids=orjson.dumps(run_ids).decode(), viewer=principal.user)
    found = {each.id: each for each in map(_subject, rows)}
    for place, run_id in enumerate(run_ids, start=1):
        if run_id not in found:
            raise NotFound("run", f"number {place} of those named" if len(run_ids) > 1 else "")
    return [found[run_id] for run_id in run_ids]


def newest(session: Session, principal: Principal, wanted: Filter, limit: int) -> list[Subject]:
    """The newest runs that match, at most `limit`."""
    query = runs.behind(SUBJECTS.where(runs.matching(principal, wanted)).limit(limit), principal, None)
    return list(map(_subject, runs.tuples(session, query)))


def _subject(columns: Sequence[Any]) -> Subject:
    row = Stored._make(columns)
    parameters = orjson.loads(row.parameters)
    status, counting = JobStatus(row.status), _counting(row, parameters)
    return Subject(row.seq, row.id, row.name, row.project, status, parameters, counting, row.plan is not None)


def _counting(row: Stored, parameters: dict[str, Any]) -> Counting:
    if row.plan is not None:
        return Counting(plan.stored(row.plan), gpus=row.gpus or 0.0)
    gpus = parameters.get("resources.gpus", 0)
    held = float(gpus) if isinstance(gpus, int | float) else 0.0
    if row.batch_size is None or row.train_samples is None:
        return Counting(None, row.batch_size, held)
    return Counting(Epoch.of(row.train_samples, row.batch_size), gpus=held)
