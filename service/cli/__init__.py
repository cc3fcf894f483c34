"""The command line: what people type, and what it exits with.

0: done. 1: the job failed, or a part of the service did. 2: wrong use. 3: the service cannot be reached, or cannot
answer now.
"""

import sys
from typing import Annotated, NoReturn

import typer

from service import __version__
from service.cli import curves, datasets, doctor, jobs, screen, server, tokens
from service.errors import ServiceError, UnsafeBind

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


for name, command in {
    "submit": jobs.submit,
    "jobs": jobs.list_jobs,
    "show": jobs.show,
    "watch": jobs.watch,
    "logs": jobs.logs,
    "curve": curves.curve,
    "compare": curves.compare,
    "cancel": jobs.cancel,
    "datasets": datasets.datasets,
}.items():
    app.command(name, rich_help_panel="Jobs and curves")(command)

app.add_typer(
    tokens.app,
    name="token",
    help="Create, list and revoke tokens; needs an admin's token.",
    rich_help_panel="The service",
)
for name, command in {
    "serve": server.serve,
    "api": server.api,
    "worker": server.worker,
    "migrate": server.migrate,
    "doctor": doctor.doctor,
}.items():
    app.command(name, rich_help_panel="The service")(command)


def main() -> None:
    """The entry point of the console command."""
    from pydantic import ValidationError

    from service.client import Problem, Unreachable

    try:
        app()
    except Unreachable as error:
        screen.complain(f"{error}; is it running? `trainbox serve` starts it, TRAINBOX_URL says where it is")
        sys.exit(NO_SERVICE)
    except Problem as error:
        _refused(error)
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            screen.complain(f"TRAINBOX_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}")
        sys.exit(WRONG_USE)
    except ServiceError as error:
        screen.complain(str(error))
        sys.exit(WRONG_USE if isinstance(error, UnsafeBind) else FAILED)


def _refused(problem: "Problem") -> NoReturn:
    """Says what the service found wrong, one field a line."""
    screen.complain(f"{problem.status} {problem.title}: {problem.detail}" if problem.detail else problem.title)
    for error in problem.errors:
        hint = f" ({error.hint})" if error.hint else ""
        screen.complain(f"{error.param}: {error.message}{hint}")
    if problem.status == 401:
        screen.complain("set TRAINBOX_TOKEN, or run as the user whose service wrote admin.token in TRAINBOX_HOME")
    sys.exit(NO_SERVICE if problem.status >= 500 or problem.status == 429 else WRONG_USE)
