"""Commands about tokens. They ask the service, so they need an admin's token themselves."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from service import clock
from service.cli import screen
from service.cli.connection import connect
from service.client import Problem, segment
from service.states import Scope

CONFLICT = 409

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whom the token speaks for.")],
    scope: Annotated[Scope, typer.Option(help="What it may do; each includes the ones before it.")] = Scope.SUBMIT,
    name: Annotated[str | None, typer.Option(help="What it is for, to tell tokens apart.")] = None,
    expires_in: Annotated[int | None, typer.Option(min=1, max=3650, metavar="DAYS", help="By default never.")] = None,
    create_user: Annotated[bool, typer.Option("--create-user", help="Create the user too, if there is none.")] = False,
    as_json: screen.AsJson = False,
) -> None:
    """Create a token. It is shown this once: only its hash is kept."""
    asked: dict[str, Any] = {"user": user, "scope": scope.value}
    if name is not None:
        asked["name"] = name
    if expires_in is not None:
        asked["expires_at"] = clock.rfc3339(datetime.now(UTC) + timedelta(days=expires_in))
    with connect() as client:
        if create_user:
            try:
                client.post("/v1/users", {"name": user})
            except Problem as problem:
                if problem.status != CONFLICT:
                    raise
        answer = client.post("/v1/tokens", asked)
    if as_json:
        screen.say_json(answer)
    else:
        screen.say(answer["token"])
        screen.complain(f"{answer['id']}: {scope.value} for {user}, shown this once")


@app.command("list")
def list_tokens(as_json: screen.AsJson = False) -> None:
    """List the tokens, without their secrets."""
    with connect() as client:
        answer = client.get("/v1/tokens", limit=200)
    if as_json:
        screen.say_json(answer)
        return
    rows = [
        (each["id"], each["user"], each["scope"], each["name"], each["created_at"][:10], _end(each))
        for each in answer["data"]
    ]
    screen.console().print(screen.table(("id", "user", "scope", "name", "created", "ends"), rows))


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    as_json: screen.AsJson = False,
) -> None:
    """Revoke a token: from now on it opens nothing."""
    with connect() as client:
        client.delete(f"/v1/tokens/{segment(token_id)}")
    if as_json:
        screen.say_json({"id": token_id, "revoked": True})
    else:
        screen.say(f"{token_id} is revoked")


def _end(token: dict[str, Any]) -> str:
    if token["revoked_at"]:
        return f"revoked {token['revoked_at'][:10]}"
    return str(token["expires_at"] or "never")[:10]
