"""What happened to jobs, oldest first, and all that is new of one job since a reader last looked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import curves
from service.curves import Curve, Summary, stored
from service.errors import NotFound
from service.projects import visible
from service.states import JobStatus
from service.tables import Job, JobEvent, Run
from service.users import Principal

EVENTS_AT_ONCE = 200
POINTS_AT_ONCE = 1000  # of each curve
EXACT_POINTS = 10_000  # a reader who is further behind is shown the way there in few points
CUTS = ("started", "checkpoint_unusable")
MOST_CURVES = 64  # the others of a run are not followed: their counts would make every cursor longer


def page(session: Session, principal: Principal, job_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    """The events of a job behind the event `after`, oldest first. Raises NotFound."""
    return _behind(session, _seen(session, principal, job_id)[0], after, limit)


@dataclass(frozen=True)
class Cursor:
    """How far a reader of one job has come: the last event, and how many points of each curve, the oldest curve first.

    As text `EVENT.COUNT.COUNT`, with as many counts as curves have begun. The number of an event alone is a cursor too:
    in front of all points.
    """

    event: int = 0
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        event, *counts = map(int, text.split("."))
        return cls(event, tuple(counts))

    def __str__(self) -> str:
        return ".".join(map(str, (self.event, *self.counts)))


@dataclass(frozen=True)
class Message:
    """One event, or new points of one curve (the code is then `points`); `cursor` stands behind it."""

    cursor: Cursor
    code: str
    data: dict[str, Any]


@dataclass(frozen=True)
class News:
    """What lies behind a cursor, at most so much at once; `more` if that is not yet all."""

    messages: list[Message]
    more: bool
    status: JobStatus


def news(session: Session, principal: Principal, job_id: str, cursor: Cursor) -> News:
    """Events first, then points. Raises NotFound."""
    seq, status = _seen(session, principal, job_id)
    happened = _behind(session, seq, cursor.event, EVENTS_AT_ONCE)
    messages: list[Message] = []
    for event in happened:
        # Whoever did this has cut the curves back, and nobody knows any more to where: they are sent anew.
        cursor = Cursor(event["id"], () if event["code"] in CUTS else cursor.counts)
        messages.append(Message(cursor, event["code"], event))
    if len(happened) == EVENTS_AT_ONCE:
        return News(messages, True, status)
    followed = list(curves.find(session, [seq]).get(seq, {}).values())[:MOST_CURVES]
    messages += _growth(session, followed, cursor)
    counts = messages[-1].cursor.counts if messages else cursor.counts
    more = any(count < summary.count for count, summary in zip(counts, followed, strict=False))
    return News(messages, more, status)


def _growth(session: Session, followed: list[Summary], cursor: Cursor) -> Iterator[Message]:
    counts = list(cursor.counts)
    for place, summary in enumerate(followed):
        position = counts[place] if place < len(counts) else 0
        if position < summary.count:
            data = _points(session, summary, position)
            counts[place : place + 1] = [position + data["count"]]
            yield Message(Cursor(cursor.event, tuple(counts)), "points", data)


def _points(session: Session, summary: Summary, position: int) -> dict[str, Any]:
    """The next points of a curve from `position` on: `count` of them, or fewer that stand for so many."""
    behind = summary.count - position
    thinned = behind > EXACT_POINTS
    if thinned:
        first = stored.points(session, summary.series, position, position + 1)
        curve = curves.read(session, summary, POINTS_AT_ONCE, int(first.steps[0]) if position else None)
    else:
        end = position + min(behind, POINTS_AT_ONCE)
        curve = Curve.of_points(stored.points(session, summary.series, position, end))
    columns = {"step": curve.step, "value": curve.value, "time": curve.time}
    if thinned:
        columns |= {"min": curve.min, "max": curve.max}
    return {
        "metric": summary.metric,
        "position": position,
        "count": behind if thinned else len(curve.step),
        "downsampled": thinned,
        "points": columns,
    }


def _seen(session: Session, principal: Principal, job_id: str) -> tuple[int, JobStatus]:
    query = select(Job.seq, Job.status).join(Run, Run.seq == Job.seq).where(Run.id == job_id, visible(principal))
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound("job")
    return row.seq, row.status


def _behind(session: Session, seq: int, after: int, limit: int) -> list[dict[str, Any]]:
    query = select(JobEvent).where(JobEvent.job == seq, JobEvent.id > after).order_by(JobEvent.id).limit(limit)
    return [
        {"id": event.id, "at": event.at, "code": event.code, "message": event.message, "data": event.data}
        for event in session.scalars(query)
    ]
