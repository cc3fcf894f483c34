"""The command that looks for what is wrong with this machine's service. It needs no running one."""

import platform
import shutil
import stat
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from service.cli import screen

if TYPE_CHECKING:
    from service.settings import Settings

# SQLite's locks and its shared memory do not work there: commits are lost, or take seconds.
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "ncpfs", "ocfs2",
}  # fmt: skip
DOUBTFUL_FILE_SYSTEMS = {"9p", "virtiofs", "vboxsf"}
LEAST_FREE_BYTES = 2 << 30
LEAST_FREE_SHARE = 0.05
OLDEST_PYTHON = (3, 11)

COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red"}


@dataclass(frozen=True)
class Check:
    """One thing looked at, and what to do about it."""

    name: str
    verdict: Literal["ok", "warn", "bad"]
    finding: str
    advice: str = ""


def doctor(as_json: screen.AsJson = False) -> None:
    """Check this machine: Python, disk, database, service, worker. Exit 1 when something is wrong."""
    from service.settings import Settings

    settings = Settings()
    found = [
        python(),
        torch(),
        sqlite(),
        home(settings),
        file_system(settings),
        disk(settings),
        database(settings),
        service(),
        worker(settings),
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


def home(settings: "Settings") -> Check:
    try:
        facts = settings.home.stat()
    except FileNotFoundError:
        return Check("home", "warn", f"{settings.home} is not there yet", "trainbox serve makes it")
    except OSError as error:
        return Check("home", "bad", f"{settings.home}: {error.strerror}", "set TRAINBOX_HOME to a folder of your own")
    if not stat.S_ISDIR(facts.st_mode):
        return Check("home", "bad", f"{settings.home} is no folder", "set TRAINBOX_HOME to a folder")
    open_to_others = [path for path in (settings.home, settings.token_path) if _open_to_others(path)]
    if open_to_others:
        names = ", ".join(map(str, open_to_others))
        return Check("home", "bad", f"other users can open {names}", f"chmod go-rwx {names}")
    if not _writable(settings.home):
        return Check("home", "bad", f"{settings.home} cannot be written", "run as the user of the service")
    return Check("home", "ok", str(settings.home))


def file_system(settings: "Settings") -> Check:
    kind = file_system_type(settings.home)
    advice = "set TRAINBOX_HOME to a folder on a local disk"
    if kind in NETWORK_FILE_SYSTEMS:
        return Check("file system", "bad", f"{kind} is a network file system: SQLite can lose data on it", advice)
    if kind in DOUBTFUL_FILE_SYSTEMS or kind.startswith("fuse"):
        return Check("file system", "warn", f"{kind} may not keep SQLite's locks", advice)
    return Check("file system", "ok", kind)


def file_system_type(path: Path) -> str:
    """The type of the mount that the path, or the folder that will hold it, lies on."""
    import psutil

    existing = _existing(path).resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if existing.is_relative_to(Path(mount.mountpoint))]
    # Of two mounts on the same place, the later one is seen.
    nearest = max(enumerate(mounts), key=lambda each: (len(Path(each[1].mountpoint).parts), each[0]), default=None)
    return "unknown" if nearest is None else str(nearest[1].fstype)


def disk(settings: "Settings") -> Check:
    usage = shutil.disk_usage(_existing(settings.home))
    finding = f"{usage.free / 2**30:.1f} GiB free, {usage.free / usage.total:.0%}"
    if usage.free < LEAST_FREE_BYTES or usage.free < LEAST_FREE_SHARE * usage.total:
        return Check("disk", "bad", finding, "free some space: under 2 GiB or 5 % nothing new is taken in")
    return Check("disk", "ok", finding)


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


def worker(settings: "Settings") -> Check:
    """By the worker's own lock, so that it needs no API."""
    from service import box
    from service.database import Database

    advice = "trainbox serve or trainbox worker starts one"
    if not settings.database_path.exists():
        return Check("worker", "warn", "none", advice)
    opened = Database(settings.database_path)
    try:
        with opened.read() as session:
            alive = box.has_worker(session, settings.run_path)
    except Exception:  # the check of the database has told what is wrong with it
        return Check("worker", "warn", "cannot be told without a database in order")
    finally:
        opened.close()
    return Check("worker", "ok", "alive") if alive else Check("worker", "warn", "none is alive", advice)


def _open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def _writable(folder: Path) -> bool:
    import os

    return os.access(folder, os.W_OK | os.X_OK)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _show(found: list[Check]) -> None:
    from rich.style import Style
    from rich.text import Text

    made = screen.table(("", "check", "found", "what to do"), [])
    for check in found:
        verdict = Text(check.verdict, Style.parse(COLOURS[check.verdict]))
        made.add_row(verdict, check.name, Text(screen.clean(check.finding)), Text(screen.clean(check.advice)))
    screen.console().print(made)
