"""Commands about runs, those of jobs and those of scripts: their list, and what is wrong with one."""

from typing import Annotated

import typer

from service.cli import screen
from service.cli.connection import RunId, connect, resolve
from service.states import JobStatus


def list_runs(
    sort: Annotated[
        str, typer.Option(metavar="ORDER", help="-created_at, created_at, METRIC.best or METRIC.last.")
    ] = "-created_at",
    status: Annotated[JobStatus | None, typer.Option(help="Only runs of this status.")] = None,
    project: Annotated[str | None, typer.Option(help="Only runs of this project.")] = None,
    user: Annotated[str | None, typer.Option(help="Only runs of this user.")] = None,
    study: Annotated[str | None, typer.Option(metavar="ID", help="Only runs of this study.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many of them.")] = 20,
    as_json: screen.AsJson = False,
) -> None:
    """List runs with the best value of each metric, the newest first or by a metric; those of scripts too."""
    with connect() as client:
        wanted = {
            "sort": sort,
            "status": status.value if status else None,
            "project": project,
            "user": user,
            "study": study and resolve(client, study, kind="study"),
            "limit": limit,
        }
        if as_json:
            screen.say_json(client.get("/v1/runs", **wanted))
        else:
            screen.say(client.text("/v1/runs", format="text", width=screen.width(), **wanted))


def diagnose(run_id: RunId, as_json: screen.AsJson = False) -> None:
    """Tell what the curves of a run say about its training, and what to try instead."""
    with connect() as client:
        path = f"/v1/runs/{resolve(client, run_id, kind='run')}/diagnosis"
        if as_json:
            screen.say_json(client.get(path))
        else:
            screen.say(client.text(path, format="text", width=screen.width()))
