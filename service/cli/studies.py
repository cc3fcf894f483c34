"""Commands about studies that were begun: how far they are, what they found, their list, and their end."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import progress, saving, screen
from service.cli.connection import connect, resolve
from service.states import TERMINAL, JobStatus, StudyKind

if TYPE_CHECKING:
    from service.client import Client

LOOK_SECONDS = 1
LINES = 20  # that tell how far a study is, where no terminal shows a bar
WIDEST = 120  # characters of a report, also where nobody looks
SAVED = ("png", "svg", "csv")

StudyId = Annotated[str, typer.Argument(metavar="ID", help="The study's id, or enough of its beginning.")]
Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Also write the report as a picture or a table: .png, .svg or .csv."),
]


def follow(client: "Client", study_id: str, *, quiet: bool) -> dict[str, Any]:
    """The study when it is over; until then a bar on a terminal, and lines elsewhere."""
    looks = _looks(client, study_id)
    if quiet:
        return list(looks)[-1]
    return _as_bar(looks) if sys.stdout.isatty() else _as_lines(looks)


def _looks(client: "Client", study_id: str) -> Iterator[dict[str, Any]]:
    """The study again and again; the last time it is over."""
    while True:
        study: dict[str, Any] = client.get(f"/v1/studies/{study_id}", wait=LOOK_SECONDS)
        yield study
        if JobStatus(study["status"]) in TERMINAL:
            return
        time.sleep(0.1)


def _as_lines(looks: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """A line when the study changes its state, and at each twentieth of its jobs."""
    study: dict[str, Any] = {}
    told: tuple[Any, ...] = ()
    for study in looks:
        done = study["progress"]
        news = study["status"], done["finished"] * LINES // done["total_jobs"]
        if news != told:
            told = news
            screen.say(_state(study))
    return study


def _as_bar(looks: Iterator[dict[str, Any]]) -> dict[str, Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("jobs"),
        TimeElapsedColumn(),
    )
    study: dict[str, Any] = {}
    with Progress(*columns, console=screen.console()) as shown:
        bar = None
        for study in looks:
            done = study["progress"]
            bar = shown.add_task("", total=done["total_jobs"]) if bar is None else bar
            shown.update(bar, completed=done["finished"], description=study["status"])
    return study


def _state(study: dict[str, Any]) -> str:
    return f"{study['status']}: {_progress(study)}"


def _progress(study: dict[str, Any]) -> str:
    done = study["progress"]
    return f"{done['finished']} of {screen.counted(done['total_jobs'], 'job')}"


def report(client: "Client", study: dict[str, Any], save: Path | None, *, as_json: bool) -> None:
    """Shows what the study says, so far or in the end, and writes it to a file."""
    path = f"/v1/studies/{study['id']}"
    if as_json:
        screen.say_json(study)
    else:
        screen.say("")
        screen.say(client.text(path, format="text", width=min(screen.console().width, WIDEST)))
    if save is not None:
        saving.write(save, client.content(path, format=form_of(save)))
        if not as_json:
            screen.say(f"\nwritten to {save}")


def form_of(file: Path) -> str:
    """Raises WrongUse for a file that cannot be a report's."""
    return saving.form_of(file, SAVED)


def show(
    study_id: StudyId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the study.")] = False,
    save: Save = None,
    as_json: screen.AsJson = False,
) -> None:
    """Show a study: how far it is, and its report, also the one so far."""
    if save is not None:
        form_of(save)
    with connect(patience_seconds=progress.PATIENCE_SECONDS if wait else 1.0) as client:
        found = resolve(client, study_id, kind="study")
        study = follow(client, found, quiet=as_json) if wait else client.get(f"/v1/studies/{found}")
        if not as_json:
            screen.facts(
                [
                    ("id", study["id"]),
                    ("name", study["name"]),
                    ("kind", study["kind"]),
                    ("status", f"{study['status']}: {study['status_reason']['message']}"),
                    ("jobs", _progress(study)),
                ]
            )
        report(client, study, save, as_json=as_json)


def cancel(study_id: StudyId, as_json: screen.AsJson = False) -> None:
    """Stop a study and all its jobs."""
    with connect() as client:
        study = client.post(f"/v1/studies/{resolve(client, study_id, kind='study')}/cancel")
    if as_json:
        screen.say_json(study)
    else:
        screen.say(f"{study['id']} is {study['status']}: {study['status_reason']['message']}")


def list_studies(
    status: Annotated[JobStatus | None, typer.Option(help="Only studies of this status.")] = None,
    kind: Annotated[StudyKind | None, typer.Option(help="Only studies of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The newest so many.")] = 20,
    as_json: screen.AsJson = False,
) -> None:
    """List studies, newest first."""
    wanted = {"status": status.value if status else None, "kind": kind.value if kind else None, "limit": limit}
    with connect() as client:
        answer = client.get("/v1/studies", **wanted)
    if as_json:
        screen.say_json(answer)
        return
    if not answer["data"]:
        screen.say("no studies")
        return
    rows = [
        (
            study["id"],
            study["kind"],
            study["name"],
            study["status"],
            study["user"],
            f"{study['progress']['finished']}/{study['progress']['total_jobs']}",
            screen.age(study["created_at"]),
        )
        for study in answer["data"]
    ]
    columns = ("id", "kind", "name", "status", "user", "jobs", "age")
    screen.console().print(screen.table(columns, rows, right=("jobs", "age")))
