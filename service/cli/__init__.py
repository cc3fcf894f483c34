"""The command line: what people type, and what it exits with.

0: done. 1: the job failed, or a part of the service did. 2: wrong use. 3: the service cannot be reached, or cannot
answer now.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service import __version__
from service.cli import (
    backups,
    control,
    curves,
    datasets,
    doctor,
    jobs,
    logs,
    predict,
    runs,
    screen,
    server,
    story,
    studies,
    study_kinds,
    tokens,
)
from service.errors import ServiceError, UnsafeBind, WrongFile

if TYPE_CHECKING:
    from service.client import Problem

FAILED, WRONG_USE, NO_SERVICE = 1, 2, 3

app = typer.Typer(
    name="trainbox",
    help="A job queue, trainers and every loss curve of a team's training box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        screen.say(f"trainbox {__version__}")
        raise typer.Exit


JOBS, SERVICE = "Jobs and curves", "The service"

app.command("submit", rich_help_panel=JOBS)(jobs.submit)
app.command("jobs", rich_help_panel=JOBS)(jobs.list_jobs)
app.command("show", rich_help_panel=JOBS)(jobs.show)
app.command("watch", rich_help_panel=JOBS)(jobs.watch)
app.command("logs", rich_help_panel=JOBS)(logs.logs)
app.command("runs", rich_help_panel=JOBS)(runs.list_runs)
app.command("curve", rich_help_panel=JOBS)(curves.curve)
app.command("compare", rich_help_panel=JOBS)(curves.compare)
app.command("diagnose", rich_help_panel=JOBS)(runs.diagnose)
app.command("explain", rich_help_panel=JOBS)(story.explain)
app.command("events", rich_help_panel=JOBS)(story.events)
app.command("cancel", rich_help_panel=JOBS)(control.cancel)
app.command("pause", rich_help_panel=JOBS)(control.pause)
app.command("resume", rich_help_panel=JOBS)(control.resume)
app.command("retry", rich_help_panel=JOBS)(control.retry)
app.command("clone", rich_help_panel=JOBS)(control.clone)
app.command("set", rich_help_panel=JOBS)(control.change)
app.command("delete", rich_help_panel=JOBS)(control.delete)
app.command("predict", rich_help_panel=JOBS)(predict.predict)
app.command("put", rich_help_panel=JOBS)(datasets.put)
app.add_typer(datasets.app, name="datasets", rich_help_panel=JOBS)
app.command("serve", rich_help_panel=SERVICE)(server.serve)
app.command("api", rich_help_panel=SERVICE)(server.api)
app.command("worker", rich_help_panel=SERVICE)(server.worker)
app.command("migrate", rich_help_panel=SERVICE)(server.migrate)
app.command("backup", rich_help_panel=SERVICE)(backups.backup)
app.command("restore", rich_help_panel=SERVICE)(backups.restore)
app.command("doctor", rich_help_panel=SERVICE)(doctor.doctor)
study = typer.Typer(no_args_is_help=True)
study.command("lr-range")(study_kinds.lr_range)
study.command("batch-size")(study_kinds.batch_size)
study.command("grid")(study_kinds.grid)
study.command("search")(study_kinds.search)
study.command("show")(studies.show)
study.command("list")(studies.list_studies)
study.command("cancel")(studies.cancel)
app.add_typer(
    study,
    name="study",
    help="Find a learning rate or a batch size, run a grid or a search, and see what they found.",
    rich_help_panel=JOBS,
)
app.add_typer(
    tokens.app,
    name="token",
    help="Create, list and revoke tokens; needs an admin's token.",
    rich_help_panel=SERVICE,
)


def main() -> None:
    """The entry point of the console command."""
    try:
        app()
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    """Says what went wrong, and returns what to exit with. What nobody foresaw is raised again."""
    from pydantic import ValidationError

    from service.client import Problem, Unreachable

    match error:
        case Unreachable():
            screen.complain(f"{error}; is it running? `trainbox serve` starts it, TRAINBOX_URL says where it is")
            return NO_SERVICE
        case screen.WrongUse():
            screen.complain(str(error))
            return WRONG_USE
        case Problem():
            return _refused(error)
        case ValidationError():
            for each in error.errors(include_input=False, include_url=False):
                screen.complain(f"TRAINBOX_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}")
            return WRONG_USE
        case ServiceError():
            screen.complain(str(error))
            return WRONG_USE if isinstance(error, UnsafeBind | WrongFile) else FAILED
        case _:
            raise error


def _refused(problem: "Problem") -> int:
    """Says what the service found wrong, one field a line."""
    screen.complain(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)
    for error in problem.errors:
        hint = f" ({error.hint})" if error.hint else ""
        screen.complain(f"{error.param}: {error.message}{hint}")
    if problem.status == 401:
        screen.complain("set TRAINBOX_TOKEN, or run as the user whose service wrote admin.token in TRAINBOX_HOME")
    return NO_SERVICE if problem.status >= 500 or problem.status == 429 else WRONG_USE
