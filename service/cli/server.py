"""Commands that run the service: all of it, its halves, and what makes its home ready."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import __version__
from service.cli import doctor, screen, storage, supervisor
from service.cli.connection import read_token

if TYPE_CHECKING:
    from service.settings import Settings

Host = Annotated[str | None, typer.Option(help="Address to listen on; TRAINBOX_HOST, or else 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="TRAINBOX_PORT, or else 8000; 0 takes a free one.")]
AllowRemote = Annotated[bool, typer.Option("--allow-remote", help="Permit an address that other machines can reach.")]
# `serve` names itself to its parts: they end when it does.
Parent = Annotated[int | None, typer.Option(hidden=True)]

API_STOP_SECONDS = 10.0
READY_LOOK_SECONDS = (0.2, 1.0)  # between looks: at first, and at most
READY_LATE_SECONDS = 30.0
READY_ANSWER_SECONDS = 5.0  # meanwhile no part is started again, and no signal is heard


def serve(host: Host = None, port: Port = None, allow_remote: AllowRemote = False) -> None:
    """Run the whole service here: the API and one worker."""
    from service import home, locks

    settings = read_settings(host, port, allow_remote)
    home.make_private_folders(settings)
    with locks.hold_role(settings.run_path, "serve"):
        with locks.hold_role(settings.run_path, "api"):
            settings = read_settings(host, usable_port(settings), allow_remote)
            token = home.prepare(settings)
        announce(settings, token)
        children = [
            supervisor.Child("the API", _part("api", *_listening(settings))),
            supervisor.Child("the worker", _part("worker")),
        ]
        code = supervisor.run(children, settings.stop_seconds + API_STOP_SECONDS, Readiness(settings).look)
    raise typer.Exit(code)


def api(host: Host = None, port: Port = None, allow_remote: AllowRemote = False, parent: Parent = None) -> None:
    """Run the HTTP half alone; the home must be migrated."""
    if parent is not None:
        supervisor.end_with(parent)
    from service.api import server

    server.run(read_settings(host, port, allow_remote))


def worker(parent: Parent = None) -> None:
    """Run the training half alone; the home must be migrated."""
    if parent is not None:
        supervisor.end_with(parent)
    read_settings()  # what cannot be used is named here, as by all other commands
    # In place of this process, so that signals reach the worker itself.
    os.execv(sys.executable, [sys.executable, "-m", "workers"])  # noqa: S606


def migrate(as_json: screen.AsJson = False) -> None:
    """Make the home ready for this version: folders, database, admin, built-in data sets."""
    from service import home, schema

    settings = read_settings()
    token = home.prepare(settings)
    if as_json:
        screen.say_json({"database": str(settings.database_path), "revision": schema.newest(), "token": token})
        return
    screen.say(f"{settings.database_path} is at this version's revision")
    if token is not None:
        _show_token(settings, token)


def read_settings(host: str | None = None, port: int | None = None, allow_remote: bool = False) -> "Settings":
    """The settings of the environment, with what the command line says instead."""
    from service.settings import Settings

    said: dict[str, Any] = {"host": host, "port": port, "allow_remote": allow_remote or None}
    return Settings(**{name: value for name, value in said.items() if value is not None})


def announce(settings: "Settings", token: str | None) -> None:
    screen.say(f"trainbox {__version__}")
    screen.say(f"  address  {own_url(settings)}")
    screen.say(f"  home     {settings.home}")
    if token is None:
        screen.say(f"  token    in {settings.token_path}")
    else:
        _show_token(settings, token)
    for check in (storage.file_system(settings), doctor.sqlite()):
        if check.verdict != "ok":
            screen.complain(f"warning: {check.finding}: {check.advice}")


def _show_token(settings: "Settings", token: str) -> None:
    screen.say(f"The admin's token, shown this once and kept in {settings.token_path}:")
    screen.say(f"  {token}")


class Readiness:
    """Says once that the service is ready, or after a while what it still waits for."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._next, (self._pause, self._longest) = 0.0, READY_LOOK_SECONDS
        self._ready = self._complained = False

    def look(self) -> None:
        now = time.monotonic()
        if self._ready or now < self._next:
            return
        self._next = now + self._pause
        self._pause = min(1.3 * self._pause, self._longest)
        missing = readiness(own_url(self._settings), read_token(self._settings.token_path))
        if missing is None:
            self._ready = True
            screen.say(f"ready after {screen.duration(now - self._began)}")
        elif not self._complained and now - self._began > READY_LATE_SECONDS:
            self._complained = True
            supervisor.log(f"not ready yet: {missing}")


def readiness(url: str, token: str | None) -> str | None:
    """What keeps the service at the address from being ready, or None."""
    from service.client import Client, Problem, Unreachable

    try:
        with Client(url, token, patience_seconds=0, answer_seconds=READY_ANSWER_SECONDS) as client:
            client.get("/readyz" if token else "/healthz")
    except (Problem, Unreachable) as error:
        return str(error)
    return None


def usable_port(settings: "Settings") -> int:
    """The port to listen on; for 0 a free one. Raises now what the API would otherwise raise at each of its starts."""
    from service.api import listener

    with listener.bound(settings.host, settings.port, allow_remote=settings.allow_remote) as opened:
        return int(opened.getsockname()[1])


def own_url(settings: "Settings") -> str:
    """Where this machine finds the service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _part(*command: str) -> list[str]:
    return [sys.executable, "-m", "service.cli", *command, "--parent", str(os.getpid())]


def _listening(settings: "Settings") -> list[str]:
    remote = ["--allow-remote"] if settings.allow_remote else []
    return ["--host", settings.host, "--port", str(settings.port), *remote]
