"""Where the service is and as whom it is asked; and ids that were cut to a prefix."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from service.cli import screen
from service.ids import is_id

if TYPE_CHECKING:
    from service.client import Client

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or enough of its beginning.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id, or enough of its beginning.")]

RECENT = 1000  # entries of a list that are searched for a prefix
ID_LENGTH = 17
PLURALS = {"study": "studies"}


def connect(*, patience_seconds: float = 1.0) -> "Client":
    """A client for the service that the environment names."""
    from service.client import Client
    from service.settings import ClientSettings

    chosen = ClientSettings()
    if urlsplit(chosen.url).scheme not in ("http", "https") or not urlsplit(chosen.url).hostname:
        raise screen.WrongUse("TRAINBOX_URL must be an address such as http://127.0.0.1:8000")
    token = chosen.token or own_token(chosen.url)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise screen.WrongUse("TRAINBOX_TOKEN is not a token: it has characters that no token has")
    return Client(chosen.url, token, patience_seconds=patience_seconds)


def own_token(url: str) -> str | None:
    """The admin's token of this machine's own service. It is not sent to any other machine."""
    from service.client import is_loopback
    from service.settings import Settings

    return read_token(Settings().token_path) if is_loopback(url) else None


def read_token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def resolve(client: "Client", prefix: str, *, kind: str = "job") -> str:
    """The one recent job, run or study whose id begins so. Raises WrongUse, naming the candidates, if it is not one."""
    if len(prefix) >= ID_LENGTH and is_id(prefix):
        return prefix
    recent = islice(client.pages(f"/v1/{PLURALS.get(kind, f'{kind}s')}", limit=200), RECENT)
    found = [entry for entry in recent if entry["id"].startswith(prefix)] if prefix else []
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise screen.WrongUse(f"no {kind} has an id that begins with {prefix!r}")
    raise screen.WrongUse(f"{prefix!r} is the beginning of several ids: {_candidates(found)}")


def _candidates(found: Iterable[dict[str, Any]]) -> str:
    shown = [f"{entry['id']} ({entry['name']})" for entry in islice(found, 11)]
    return ", ".join([*shown[:10], "…"] if len(shown) > 10 else shown)
