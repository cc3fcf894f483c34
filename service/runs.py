"""Runs: what was trained, by whom and with what, found by filters. Who may see one stands in every query."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from service import curves
from service.errors import FieldProblem, InvalidInput, NotFound
from service.projects import visible
from service.states import Direction, JobStatus
from service.tables import Dataset, Job, JobEvent, OutsideRun, Run, Series
from service.users import Principal

Query = Select[*tuple[Any, ...]]
Found = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class Filter:
    """What a list may be narrowed to; None and empty mean everything."""

    status: JobStatus | None = None
    project: str | None = None
    user: str | None = None
    task: str | None = None
    dataset: str | None = None
    study: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
INEXACT = "inexact"  # the event that tells what keeps a run from coming out the same again

# A run's place is in the queue, or outside of it: of each pair of columns one is NULL.
STATUS: ColumnElement[JobStatus] = func.coalesce(Job.status, OutsideRun.status, type_=Job.status.type)


def placed(query: Query) -> Query:
    """A query of runs, joined with the job of each, or with what a script has said of it."""
    return query.outerjoin(Job, Job.seq == Run.seq).outerjoin(OutsideRun, OutsideRun.seq == Run.seq)


def matching(
    principal: Principal, wanted: Filter, status: ColumnElement[JobStatus] | InstrumentedAttribute[JobStatus] = STATUS
) -> ColumnElement[bool]:
    """The condition on runs that are `placed`, or joined with their jobs alone if `status` is the jobs'.

    What the principal may not see matches nothing.
    """
    conditions = [visible(principal)]
    if wanted.status is not None:
        conditions.append(status == wanted.status)
    if wanted.project is not None:
        conditions.append(Run.project == wanted.project)
    if wanted.user is not None:
        conditions.append(Run.user == wanted.user)
    if wanted.task is not None:
        conditions.append(Job.task == wanted.task)
    if wanted.dataset is not None:
        name, _, version = wanted.dataset.partition("@")
        of_name = select(Dataset.id).where(Dataset.name == name)
        if version:
            of_name = of_name.where(Dataset.version == (int(version[:9]) if version.isdecimal() else -1))
        conditions.append(Job.dataset_id.in_(of_name))
    if wanted.study is not None:
        conditions.append(Job.study_id == wanted.study)
    conditions += [_tagged(key, value) for key, value in wanted.tags.items()]
    conditions += [_parametrised(name, value) for name, value in wanted.parameters.items()]
    return and_(*conditions)


def _tagged(key: str, value: str) -> ColumnElement[bool]:
    # The key is bound as a value: as a path into the JSON it would need escaping.
    entries = func.json_each(Run.tags).table_valued("key", "value")
    return select(literal(1)).select_from(entries).where(entries.c.key == key, entries.c.value == value).exists()


def _parametrised(name: str, text: str) -> ColumnElement[bool]:
    """A parameter's value as a person writes it: 0.001 and 1e-3 are the same number, and true is not 1."""
    entries = func.json_each(Run.parameters).table_valued("key", "value", "type")
    kind, value = entries.c.type, entries.c.value
    if text in ("true", "false", "null"):
        same = kind == text
    else:
        same = and_(value == text.replace(" ", ""), kind.in_(["text", "array"]))
        if (number := _number(text)) is not None:
            same = or_(same, and_(value == number, kind.in_(["integer", "real"])))
    return select(literal(1)).select_from(entries).where(entries.c.key == name, same).exists()


def _number(text: str) -> int | float | None:
    """A whole number that SQLite can hold is kept to its last digit: as a float it would be another from 2^53 on."""
    if WHOLE.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    try:
        return float(text)
    except ValueError:
        return None


def as_text(column: Any) -> ColumnElement[str]:
    """A JSON column as the text that is stored: answers pass it on without reading it."""
    return type_coerce(column, String)


COLUMNS: tuple[Any, ...] = (
    Run.seq,
    Run.id,
    Run.name,
    Run.project,
    Run.user,
    as_text(Run.tags).label("tags"),
    as_text(Run.parameters).label("parameters"),
    Run.created_at,
    STATUS.label("status"),
    Job.id.label("job_id"),
    func.coalesce(Job.started_at, case((OutsideRun.seq.is_not(None), Run.created_at))).label("started_at"),
    func.coalesce(Job.finished_at, OutsideRun.finished_at).label("finished_at"),
    func.coalesce(Job.active_seconds, OutsideRun.active_seconds).label("active_seconds"),
)


def page(
    session: Session, principal: Principal, wanted: Filter, *, after: str | None, limit: int, sort: str
) -> list[dict[str, Any]]:
    """Views of the runs behind the run `after`.

    sort: `-created_at` (newest first), `created_at`, or `METRIC.best` and `METRIC.last`, best first in the metric's
    own direction; a leading minus turns that around. Runs without the metric are left out.
    Raises InvalidInput for an unknown order.
    """
    query = placed(select(*COLUMNS)).where(matching(principal, wanted)).limit(limit)
    if sort in ("created_at", "-created_at"):
        query = behind(query, principal, after, newest_first=sort == "-created_at")
    else:
        query = _by_metric(session, query, principal, sort, after)
    return views(session, session.execute(query).all())


def behind(query: Query, principal: Principal, after: str | None, *, newest_first: bool = True) -> Query:
    """In order of submission, from behind the run `after`; behind one that the principal cannot see is nothing."""
    if after is not None:
        cursor = select(Run.seq).where(Run.id == after, visible(principal)).scalar_subquery()
        query = query.where(Run.seq < cursor if newest_first else Run.seq > cursor)
    return query.order_by(Run.seq.desc() if newest_first else Run.seq)


def _by_metric(session: Session, query: Query, principal: Principal, sort: str, after: str | None) -> Query:
    metric, _, which = sort.removeprefix("-").rpartition(".")
    if not metric or which not in ("best", "last"):
        known = "-created_at, created_at, METRIC.best or METRIC.last"
        raise InvalidInput([FieldProblem("sort", "unknown_order", f"runs are sorted by {known}")])
    upwards = Series.max if which == "best" else Series.last
    downwards = Series.min if which == "best" else Series.last
    sign = -1 if sort.startswith("-") else 1
    key = case((Series.direction == Direction.MAX, -upwards), else_=downwards) * sign
    query = query.join(Series, and_(Series.run == Run.seq, Series.name == metric)).where(key.is_not(None))
    if after is not None:
        place = session.execute(
            select(key, Run.seq)
            .join(Series, and_(Series.run == Run.seq, Series.name == metric))
            .where(Run.id == after, visible(principal), key.is_not(None))
        ).one_or_none()
        query = query.where(tuple_(key, Run.seq) > tuple_(*place) if place else literal(False))
    return query.order_by(key, Run.seq)


def get(session: Session, principal: Principal, run_id: str) -> dict[str, Any]:
    """The view of one run. Raises NotFound."""
    query = placed(select(*COLUMNS)).where(Run.id == run_id, visible(principal))
    rows = session.execute(query).all()
    if not rows:
        raise NotFound("run")
    return views(session, rows)[0] | {"inexact": doubts(session, rows[0].seq)}


def doubts(session: Session, seq: int) -> list[dict[str, Any]]:
    """What keeps a run from coming out the same again: `{step, message}`, oldest first."""
    query = select(JobEvent).where(JobEvent.job == seq, JobEvent.code == INEXACT).order_by(JobEvent.id)
    return [{"step": event.data["step"], "message": event.message} for event in session.scalars(query)]


def tuples(session: Session, query: Query) -> Sequence[Any]:
    """What a query finds, as the driver has it: SQLAlchemy's rows would take twice the time."""
    result = session.connection().execute(query)
    found = result.cursor.fetchall()
    result.close()
    return found


def views(session: Session, rows: Sequence[Found]) -> list[dict[str, Any]]:
    """What users see of runs; `rows` has COLUMNS."""
    metrics = curves.summaries(session, [row.seq for row in rows])
    return [
        {
            "id": row.id,
            "object": "run",
            "job_id": row.job_id,
            "name": row.name,
            "project": row.project,
            "user": row.user,
            "status": row.status.value,
            "parameters": orjson.Fragment(row.parameters),
            "tags": orjson.Fragment(row.tags),
            "metrics": metrics.get(row.seq, {}),
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "duration_seconds": row.active_seconds if row.started_at else None,
        }
        for row in rows
    ]
