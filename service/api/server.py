"""The process that answers: one socket, one event loop, and an orderly end."""

import ctypes
import math
import resource
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from service import locks, logs, schema
from service.api import app, limits, listener
from service.api.connections import Connection
from service.api.limits import Limits
from service.api.place import Place
from service.database import Database, sqlite_warning
from service.datasets import arrivals
from service.home import make_private_folders
from service.settings import Settings

log = structlog.get_logger()

GRACEFUL_SECONDS = 10
# Descriptors for what is always open, and for each connection: itself and a database connection's two files.
OPEN_FILES, FILES_PER_CONNECTION = 48, 3
FEWEST_CONNECTIONS = 8
# Of glibc's malloc.h: what each arena keeps back instead of returning it to the system, and how many arenas there are.
KEPT_MEMORY = {"M_TRIM_THRESHOLD": (-1, 16 << 20), "M_MMAP_THRESHOLD": (-3, 16 << 20), "M_ARENA_MAX": (-8, 4)}


class Server(uvicorn.Server):
    """Serves one application on one socket that is bound already; `url` says where."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket, application: FastAPI) -> None:
        super().__init__(config)
        self.listener = bound
        self.application = application
        self.url = listener.url(bound)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self.listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        place: Place = self.application.state.place
        place.stopping.set()
        await super().shutdown(sockets)

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        """The first signal lets requests end, the second does not. Neither is passed on: the exit code is to be 0."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serves until a signal comes.

    Raises AlreadyRunning, SchemaMismatch, UnsafeBind, CannotListen or HomeUnusable when it cannot begin.
    """
    logs.configure(settings.log_level)
    keep_memory()
    make_private_folders(settings)
    with locks.hold_role(settings.run_path, "api"):
        database = Database(settings.database_path)
        schema.require_current(database)
        arrivals.clear(settings.uploads_path)
        warning = sqlite_warning()
        if warning is not None:
            log.warning("sqlite", message=warning)
        server = build(settings, database)
        log.info("listening", url=server.url)
        try:
            server.run()
        finally:
            database.close()


def keep_memory() -> None:
    """Lets the arrays of one answer lie where those of the last one lay.

    A comparison allocates and frees some megabytes. By default these go back to the system each time, and to fetch them
    again takes a thousand page faults: a fifth of the time that the comparison takes.
    """
    with suppress(AttributeError, OSError):  # another C library than glibc
        for option, value in KEPT_MEMORY.values():
            ctypes.CDLL(None).mallopt(option, value)


def build(settings: Settings, database: Database, *, allowed: Limits | None = None) -> Server:
    """A server with its socket bound; it takes connections once it runs. allowed: other limits than the settings'."""
    bound = listener.bound(settings.host, settings.port, allow_remote=settings.allow_remote)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    chosen = affordable(allowed or limits.of(settings), sys.maxsize if files == resource.RLIM_INFINITY else files)
    application = app.create(settings, database, port=bound.getsockname()[1], allowed=chosen)
    config = uvicorn.Config(
        application,
        http=type("Connection", (Connection,), {"limits": chosen}),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=math.ceil(chosen.head_seconds),
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    return Server(config, bound, application)


def affordable(chosen: Limits, files: int) -> Limits:
    """Fewer connections where the process may not open that many files: a failed accept would be tried for ever."""
    most = max(FEWEST_CONNECTIONS, (files - OPEN_FILES) // FILES_PER_CONNECTION)
    return replace(chosen, connections=min(chosen.connections, most))
