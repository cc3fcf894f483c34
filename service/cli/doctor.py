"""The command that looks for what is wrong with this machine's service. It needs no running one."""

import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.cli import screen, storage
from service.cli.storage import Check

if TYPE_CHECKING:
    from service.settings import Settings

OLDEST_PYTHON = (3, 11)
ENOUGH_FILES = 1024

COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def doctor(as_json: screen.AsJson = False) -> None:
    """Check this machine: Python, disk, database, service, worker, GPUs. Exit 1 when something is wrong."""
    from service.settings import Settings

    settings = Settings()
    found = [
        python(),
        torch(),
        sqlite(),
        open_files(),
        storage.home(settings),
        storage.file_system(settings),
        storage.disk(settings),
        storage.reserve(settings),
        storage.copies(settings),
        database(settings),
        service(),
        *workers(settings),
    ]
    if as_json:
        screen.say_json([asdict(check) for check in found])
    else:
        _show(found)
    raise typer.Exit(1 if any(check.verdict == "bad" for check in found) else 0)


def python() -> Check:
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", "bad", platform.python_version(), "install Python 3.11 or newer")
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def torch() -> Check:
    """Without importing it, which takes over a second."""
    try:
        return Check("torch", "ok", version("torch"))
    except PackageNotFoundError:
        return Check("torch", "bad", "not installed", "install it beside trainbox: pip install torch")


def sqlite() -> Check:
    from service.database import sqlite_module, sqlite_warning

    warning = sqlite_warning()
    if warning is None:
        return Check("sqlite", "ok", str(sqlite_module().sqlite_version))
    finding, _, advice = warning.partition("; ")
    return Check("sqlite", "warn", finding, advice)


def open_files() -> Check:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < ENOUGH_FILES:
        advice = f"ulimit -n {ENOUGH_FILES}, or LimitNOFILE={ENOUGH_FILES} with systemd"
        return Check("open files", "warn", f"{limit} a process: the API takes fewer connections", advice)
    return Check("open files", "ok", "without limit" if limit == resource.RLIM_INFINITY else f"{limit} a process")


def database(settings: "Settings") -> Check:
    from service import schema
    from service.database import Database
    from service.errors import ServiceError

    if not settings.database_path.exists():
        return Check("database", "warn", "not there yet", "trainbox serve makes it")
    opened = Database(settings.database_path)
    try:
        opened.check()
        schema.require_current(opened)
    except ServiceError as error:
        finding, _, advice = str(error).partition(": ")
        return Check("database", "bad", finding, advice)
    finally:
        opened.close()
    return Check("database", "ok", f"whole, at revision {schema.newest()}")


def service() -> Check:
    from service.cli.connection import connect
    from service.client import Problem, Unreachable

    with connect(patience_seconds=0) as client:
        try:
            client.get("/healthz")
            client.get("/readyz")
        except Unreachable:
            return Check("service", "warn", f"nobody answers at {client.url}", "start it with trainbox serve")
        except Problem as problem:
            advice = "set TRAINBOX_TOKEN" if problem.status == 401 else "see the service's own log"
            return Check("service", "warn" if problem.status == 401 else "bad", f"{client.url}: {problem}", advice)
    return Check("service", "ok", f"ready at {client.url}")


def workers(settings: "Settings") -> list[Check]:
    """Whether one is alive, and the GPUs they have: by the workers' own locks, so that it needs no API."""
    from service import crew
    from service.database import Database

    advice = "trainbox serve or trainbox worker starts one"
    if not settings.database_path.exists():
        return [Check("worker", "warn", "none", advice)]
    opened = Database(settings.database_path)
    try:
        with opened.read() as session:
            devices = [each.devices for each in crew.alive(session, settings.run_path)]
    except Exception:  # the check of the database has told what is wrong with it
        return [Check("worker", "warn", "cannot be told without a database in order")]
    finally:
        opened.close()
    if not devices:
        return [Check("worker", "warn", "none is alive", advice)]
    return [
        Check("worker", "ok", "alive"),
        gpus([device["name"] for each in devices for device in each], torch().finding),
    ]


def gpus(names: list[str], build: str, driver: Path = Path("/dev/nvidiactl")) -> Check:
    """names: of what the workers have. build: PyTorch's version. driver: what is there when NVIDIA's driver is."""
    if not names and driver.exists():
        finding = "the workers have none, though there is NVIDIA's driver"
        return Check("GPUs", "warn", finding, "see that nvidia-smi works for this user, and CUDA_VISIBLE_DEVICES")
    if names and build.endswith("+cpu"):
        return Check("GPUs", "bad", f"PyTorch {build} computes on none", "install a build for GPUs, as PyPI has it")
    return Check("GPUs", "ok", ", ".join(names) or "none")


def _show(found: list[Check]) -> None:
    from rich.style import Style
    from rich.text import Text

    made = screen.table(("", "check", "found", "what to do"), [])
    for check in found:
        verdict = Text(check.verdict, Style.parse(COLOURS[check.verdict]))
        made.add_row(verdict, check.name, Text(screen.clean(check.finding)), Text(screen.clean(check.advice)))
    screen.console().print(made)
