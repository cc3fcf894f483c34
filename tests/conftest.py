"""A home of its own for every test, and a real server on it."""

import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import structlog
from boxes import FAULTY, worker
from fastapi import APIRouter

from service import home, projects, schema, users
from service.api.limits import Limits, of
from service.api.server import Server, build
from service.database import Database
from service.settings import Settings
from service.states import Scope

PATIENCE_SECONDS = 60.0
# Files whose few tests take long: begun last, one of them would run alone for a while.
LONGEST = ("test_worker", "test_cli", "test_survival", "test_chaos", "test_checkpoints", "test_schema", "test_page")

# What the fixtures that are functions look like to a test.
Until = Callable[[Callable[[], object]], None]
Serve = Callable[..., Server]
Stand = Callable[..., httpx.Client]
MakeToken = Callable[..., str]


# Servers log from threads of their own. While pytest replaces sys.stdout between two tests, a print to it may touch a
# file that is freed already (CPython before 3.14), and the process dies of it.
LOG = io.StringIO()
structlog.configure(logger_factory=structlog.WriteLoggerFactory(LOG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def until() -> Until:
    """Waits until a condition holds."""
    return _until


@pytest.fixture
def logged() -> Callable[[], str]:
    """What the servers of this process have logged since the test began."""
    before = len(LOG.getvalue())
    return lambda: LOG.getvalue()[before:]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first start, without the built-in data sets: it is copied and never served itself."""
    settings = Settings(home=tmp_path_factory.mktemp("furnished"))
    settings.home.chmod(0o700)
    for path in (settings.datasets_path, settings.uploads_path, settings.jobs_path, settings.run_path):
        path.mkdir(mode=0o700)
    database = Database(settings.database_path)
    schema.migrate(database)
    with database.write() as session:
        projects.ensure_default(session)
    users.ensure_admin(database, settings.token_path)
    database.close()
    return settings.home


@pytest.fixture
def settings(furnished: Path, tmp_path: Path) -> Settings:
    shutil.copytree(furnished, tmp_path / "home")
    return Settings(home=tmp_path / "home", port=0)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A second pair of engines on the served home, for what a test does behind the service's back."""
    opened = Database(settings.database_path)
    yield opened
    opened.close()


@contextmanager
def _serving(settings: Settings, routers: tuple[APIRouter, ...], allowed: Limits | None) -> Iterator[Server]:
    database = Database(settings.database_path)
    server = build(settings, database, allowed=allowed)
    for router in routers:
        server.application.include_router(router)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield server
    finally:
        server.should_exit = True
        thread.join()
        database.close()


@pytest.fixture(scope="session")
def stand(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Starts a server that stays until the last test, and returns the admin's client of it."""
    with ExitStack() as running:

        def start(*routers: APIRouter) -> httpx.Client:
            home = tmp_path_factory.mktemp("standing") / "home"
            shutil.copytree(furnished, home)
            settings = Settings(home=home, port=0)
            server = running.enter_context(_serving(settings, routers, None))
            return running.enter_context(_client(server, settings.token_path.read_text().strip()))

        yield start


@pytest.fixture(scope="session")
def shared(stand: Stand) -> httpx.Client:
    """The admin's client of a server that all tests share: for what leaves nothing behind."""
    return stand()


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Starts a server on the test's home, with further routers and other limits; it is stopped when the test ends."""
    with ExitStack() as running:

        def start(*routers: APIRouter, allowed: Limits | None = None, with_settings: Settings | None = None) -> Server:
            return running.enter_context(_serving(with_settings or settings, routers, allowed))

        yield start


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()


@pytest.fixture
def token(settings: Settings) -> str:
    """The admin's."""
    return settings.token_path.read_text().strip()


@pytest.fixture
def make_token(database: Database) -> MakeToken:
    """Makes a token and returns its text; the user is created when there is none of this name."""

    def make(scope: Scope = Scope.SUBMIT, user: str = "ada") -> str:
        with database.write() as session:
            if not users.is_user(session, user):
                users.create(session, user)
            return users.create_token(session, user, "of a test", scope)[1]

    return make


def _client(server: Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS)


@pytest.fixture
def client(server: Server, token: str) -> Iterator[httpx.Client]:
    """Speaks for the admin."""
    with _client(server, token) as opened:
        yield opened


@pytest.fixture
def anonymous(server: Server) -> Iterator[httpx.Client]:
    """Shows no token."""
    with httpx.Client(base_url=server.url) as opened:
        yield opened


@pytest.fixture
def patient() -> Limits:
    """The limits as delivered, to be changed with `dataclasses.replace`."""
    return of(Settings())


@dataclass(frozen=True)
class Box:
    """A whole service: a server, its home, and the admin's client."""

    server: Server
    settings: Settings
    admin: httpx.Client

    @contextmanager
    def speaking_as(self, user: str, scope: Scope = Scope.SUBMIT) -> Iterator[httpx.Client]:
        """A client for a user, who is created when there is none of this name."""
        database = Database(self.settings.database_path)
        with database.write() as session:
            if not users.is_user(session, user):
                users.create(session, user)
            text = users.create_token(session, user, "of a test", scope)[1]
        database.close()
        with _client(self.server, text) as opened:
            yield opened


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A whole service with the built-in data sets and a real worker, shared by all tests."""
    settings = Settings(home=tmp_path_factory.mktemp("box") / "home", port=0, slots=2)
    token = home.prepare(settings)
    assert token is not None
    beside = worker(settings.home, PYTHONPATH=str(FAULTY))
    with _serving(settings, (), None) as server, beside, _client(server, token) as admin:
        _until(lambda: admin.get("/readyz").status_code == 200)
        yield Box(server, settings, admin)


@pytest.fixture
def admin(box: Box) -> httpx.Client:
    """Speaks for the admin of the shared service."""
    return box.admin
