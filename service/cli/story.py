"""Commands that tell why a job waits, and what happened to it."""

import time
from typing import Annotated, Any

import typer

from service.cli import progress, screen
from service.cli.connection import JobId, connect, resolve
from service.states import TERMINAL, JobStatus

FOLLOW_SECONDS = 0.5


def explain(job_id: JobId, as_json: screen.AsJson = False) -> None:
    """Tell why a job waits, when it is expected to start, and what would start it now."""
    with connect() as client:
        found = resolve(client, job_id)
        told = client.get(f"/v1/jobs/{found}/explain")
    if as_json:
        screen.say_json(told)
        return
    screen.facts(
        [
            ("id", found),
            ("position", told["position"]),
            ("expected", told["estimated_start_at"]),
            ("basis", told["basis"]),
        ]
    )
    for cause in told["blocked_by"]:
        screen.say(f"waits: {cause['message']} ({cause['code']})")
    for wish in told["would_start_now_if"]:
        screen.say(f"would start now if {wish}")


def events(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an event.")] = False,
) -> None:
    """Tell what happened to a job, oldest first."""
    with connect(patience_seconds=progress.PATIENCE_SECONDS if follow else 1.0) as client:
        found = resolve(client, job_id)
        after: int | None = None
        while True:
            # Looked at before the events: those of a job's end are there when it has ended.
            over = JobStatus(client.job(found)["status"]) in TERMINAL
            for event in client.pages(f"/v1/jobs/{found}/events", after=after, limit=200):
                after = event["id"]
                _show(event, as_json)
            if not follow or over:
                return
            time.sleep(FOLLOW_SECONDS)


def _show(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.say_json(event, lines=True)
    else:
        screen.say(f"{event['at']}  {event['code']:<20}  {event['message']}")
