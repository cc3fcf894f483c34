"""Commands about tokens. They ask the service, so they need an admin's token themselves."""

from typing import Annotated, Any

import typer

from service.cli import screen
from service.cli.connection import connect, resolve
from service.states import Scope

CONFLICT = 409
SECONDS_A_DAY = 86_400

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whom the token speaks for.")],
    scope: Annotated[Scope, typer.Option(help="What it may do; each includes the ones before it.")] = Scope.SUBMIT,
    name: Annotated[str, typer.Option(help="What it is for, to tell tokens apart.")] = "",
    expires_in: Annotated[int | None, typer.Option(min=1, max=3650, metavar="DAYS", help="By default never.")] = None,
    create_user: Annotated[bool, typer.Option("--create-user", help="Create the user too, if there is none.")] = False,
    as_json: screen.AsJson = False,
) -> None:
    """Create a token. It is shown this once: only its hash is kept."""
    from service.client import Problem

    asked: dict[str, Any] = {"user": user, "scope": scope.value, "name": name}
    if expires_in is not None:
        asked["expires_in_seconds"] = expires_in * SECONDS_A_DAY
    taken: Problem | None = None
    with connect() as client:
        if create_user:
            try:
                client.post("/v1/users", {"name": user})
            except Problem as problem:
                if problem.status != CONFLICT:
                    raise
                taken = problem
        try:
            answer = client.post("/v1/tokens", asked)
        except Problem as problem:
            if not any(error.code == "unknown_user" for error in problem.errors):
                raise
            why = taken.detail if taken else f"there is no user {user}: --create-user creates one"
            raise screen.WrongUse(why) from problem
    if "token" not in answer:  # the first answer was lost, and the second does not repeat the secret
        raise screen.WrongUse(f"token {answer['id']} was made, but its text was lost: revoke it and create another")
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
    if answer["has_more"]:
        screen.complain("there are more than 200: /v1/tokens tells them all")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it, or its beginning.")],
    as_json: screen.AsJson = False,
) -> None:
    """Revoke a token: from now on it opens nothing."""
    with connect() as client:
        found = resolve(client, token_id, kind="token")
        client.delete(f"/v1/tokens/{found}")
    if as_json:
        screen.say_json({"id": found, "revoked": True})
    else:
        screen.say(f"{found} is revoked")


def _end(token: dict[str, Any]) -> str:
    if token["revoked_at"]:
        return f"revoked {token['revoked_at'][:10]}"
    return str(token["expires_at"] or "never")[:10]
