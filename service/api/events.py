"""The route for what happens to a job: its events as a list, or events and points as they come."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from service import events
from service.api import formats
from service.api.access import Reader
from service.api.answers import encode
from service.api.formats import MEDIA_TYPES, Format, Width, preferred, wanted_format
from service.api.listings import Limit
from service.api.paths import JobId
from service.api.place import Here
from service.api.streams import Look, Manners, Stream
from service.api.strict_route import StrictRoute
from service.api.views import View
from service.events import MOST_CURVES, Cursor
from service.states import TERMINAL
from service.users import Principal

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

EVENT_STREAM = "text/event-stream"
CURSOR = rf"[0-9]{{1,18}}(\.[0-9]{{1,18}}){{0,{MOST_CURVES}}}"


def _cursor(text: str) -> str:
    if re.fullmatch(CURSOR, text) is None:
        raise PydanticCustomError("invalid_cursor", "write the id of an event, or that of a message of the stream")
    return text


CursorText = Annotated[str, AfterValidator(_cursor)]
After = Annotated[CursorText | None, Query(description="the last event, or the id of the last message")]
LastEventId = Annotated[
    CursorText | None,
    Header(alias="Last-Event-ID", description="the id of the last message: a stream goes on behind it"),
]
TABLE = ["id", "at", "code", "message"]
# A line that begins with a colon is a comment, and an empty one ends a message (html.spec.whatwg.org, 9.2.6).
MANNERS = Manners(alive=b":\n\n", farewell=b"event: shutdown\ndata: {}\n\n")


class EventView(View):
    id: int
    at: str
    code: str
    message: str
    data: dict[str, Any]


class EventList(View):
    data: list[EventView]
    has_more: bool
    next_after: int | None


async def wanted_form(
    request: Request,
    given: Annotated[
        Literal["json", "csv", "ndjson", "text", "sse"] | None,
        Query(alias="format", description="instead of the header Accept"),
    ] = None,
) -> Format | None:
    """The form of a list; None for a stream."""
    if given is not None:
        return None if given == "sse" else Format(given)
    if next((name for name in preferred(request) if name == EVENT_STREAM or name in MEDIA_TYPES), None) == EVENT_STREAM:
        return None
    return await wanted_format(request)


@router.get("/{job_id}/events", responses={200: {"model": EventList, "content": {EVENT_STREAM: {}}}})
def list_events(
    here: Here,
    principal: Reader,
    job_id: JobId,
    form: Annotated[Format | None, Depends(wanted_form)],
    after: After = None,
    limit: Limit = 50,
    last_event_id: LastEventId = None,
    width: Width = 120,
) -> Response:
    """What happened to a job, oldest first; as `text/event-stream`, what happens, with the new points of its curves.

    The stream ends with the event `end` when the job is over and all has been sent, or with `shutdown` when the
    service stops. The id of a message, sent as `Last-Event-ID` or `after`, goes on exactly behind it.
    """
    cursor = Cursor.of((last_event_id if form is None else None) or after or "0")
    with here.database.read() as session:
        found = events.page(session, principal, job_id, after=cursor.event, limit=limit + 1)
    if form is None:
        return Stream(here, principal, Following(principal, job_id, cursor).look, MANNERS, EVENT_STREAM)
    return formats.listing(found, limit, form, TABLE, [[event[name] for name in TABLE] for event in found], width)


class Following:
    """One reader's way through a job."""

    def __init__(self, principal: Principal, job_id: str, cursor: Cursor) -> None:
        self._principal, self._job_id, self._cursor = principal, job_id, cursor

    def look(self, session: Session) -> Look:
        news = events.news(session, self._principal, self._job_id, self._cursor)
        written = [_message(message.cursor, message.code, message.data) for message in news.messages]
        if news.messages:
            self._cursor = news.messages[-1].cursor
        over = news.status in TERMINAL and not news.more
        if over:
            written.append(_message(self._cursor, "end", {"status": news.status.value}))
        return Look(b"".join(written), news.more, over)


def _message(cursor: Cursor, code: str, data: dict[str, Any]) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(cursor).encode(), code.encode(), encode(data))
