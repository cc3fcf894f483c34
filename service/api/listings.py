"""What every list takes: where to go on, how many, and what to narrow it to."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from service import patterns
from service.api.strict_route import open_ended
from service.ids import ID_PATTERN
from service.runs import Filter
from service.states import JobStatus

Limit = Annotated[int, Query(ge=1, le=200, description="items on a page")]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="the last id of the page before")]
AfterName = Annotated[str | None, Query(pattern=patterns.NAME, description="the last name of the page before")]
Word = Annotated[str | None, Query(max_length=200)]


@dataclass(frozen=True)
class Listing:
    """A page of runs or jobs. One item more than `limit` is fetched, to know whether there is another page."""

    filter: Filter
    after: str | None
    limit: int

    @property
    def fetched(self) -> int:
        return self.limit + 1


@open_ended("tag", "param")
async def wanted_filter(
    request: Request,
    status: JobStatus | None = None,
    project: Word = None,
    user: Word = None,
    task: Word = None,
    dataset: Word = None,
    study: Word = None,
) -> Filter:
    """The filters shared by jobs, runs and comparisons; `tag.KEY=VALUE` and `param.NAME=VALUE` may be repeated."""
    found: dict[str, dict[str, str]] = {"tag": {}, "param": {}}
    for name, value in request.query_params.multi_items():
        kind, _, key = name.partition(".")
        if key and kind in found:
            found[kind][key[:256]] = value[:4096]
    return Filter(status, project, user, task, dataset, study, found["tag"], found["param"])


Filtered = Annotated[Filter, Depends(wanted_filter)]


async def wanted_page(filtered: Filtered, after: After = None, limit: Limit = 50) -> Listing:
    return Listing(filtered, after, limit)


Page = Annotated[Listing, Depends(wanted_page)]
