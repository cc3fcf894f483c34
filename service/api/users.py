"""Routes for who may use the service: users, their tokens, and whom the caller is taken for."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import AwareDatetime, Field

from service import patterns, users
from service.api.access import Admin, Reader
from service.api.answers import Json
from service.api.formats import Wanted, Width, listing
from service.api.listings import After, AfterName, Limit
from service.api.once import Repeatable
from service.api.place import Here
from service.api.strict_route import StrictRoute
from service.api.views import View
from service.errors import FieldProblem, InvalidInput
from service.ids import ID_PATTERN
from service.spec import Name, Part
from service.states import Scope
from service.tables import Token, User

router = APIRouter(prefix="/v1", tags=["users"], route_class=StrictRoute)

TEN_YEARS = 315_360_000
LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)  # in another zone it may be past the last day that can be told in UTC

UserName = Annotated[str, Path(pattern=patterns.NAME)]
TokenId = Annotated[str, Path(pattern=ID_PATTERN)]


class Me(View):
    user: str
    scope: str
    token_id: str


class UserView(View):
    """`id` is the name."""

    id: str
    object: str
    name: str
    created_at: str


class UserList(View):
    data: list[UserView]
    has_more: bool
    next_after: str | None


class NewUser(Part):
    name: Name = Field(description="never given to another, also when the user has left")


class TokenView(View):
    id: str
    object: str
    user: str
    name: str
    scope: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewTokenView(TokenView):
    """`token` is shown this once; a repeated request with the same Idempotency-Key is answered without it."""

    token: str


class TokenList(View):
    data: list[TokenView]
    has_more: bool
    next_after: str | None


class NewToken(Part):
    user: Name = Field(description="whom it speaks for")
    scope: Literal["read", "submit", "admin"] = Field(description="each includes the ones before it")
    name: Annotated[str, Field(max_length=200)] = Field(default="", description="what it is for, to tell tokens apart")
    expires_in_seconds: Annotated[int, Field(ge=1, le=TEN_YEARS)] | None = Field(
        default=None, description="how long it is valid; for ever when neither this nor expires_at is given"
    )
    # Not strict: JSON has no times, only texts of them.
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(
        default=None, description="instead of expires_in_seconds: until when, RFC 3339"
    )


@router.get("/whoami", responses={200: {"model": Me}})
def whoami(principal: Reader) -> Json:
    """Whom the service takes you for, and what the token may do."""
    return Json({"user": principal.user, "scope": principal.scope.value, "token_id": principal.token_id})


@router.get("/users", responses={200: {"model": UserList}})
def list_users(
    _: Admin, here: Here, form: Wanted, after: AfterName = None, limit: Limit = 50, width: Width = 100
) -> Response:
    """Users by name, without those who have left."""
    with here.database.read() as session:
        found = [user_view(user) for user in users.page(session, after, limit + 1)]
    rows = [(each["name"], each["created_at"]) for each in found]
    return listing(found, limit, form, ("name", "created_at"), rows, width)


@router.post("/users", status_code=201, responses={200: {"model": UserView}, 201: {"model": UserView}})
def create_user(body: NewUser, _: Admin, here: Here, once: Repeatable) -> Json:
    """Create a user. A token for them is a second step."""
    with here.database.write() as session:
        earlier = once.earlier(session)
        user = users.create(session, body.name) if earlier is None else users.user(session, earlier)
        if earlier is None:
            once.remember(session, user.name)
    return Json(user_view(user), 200 if earlier else 201)


@router.delete("/users/{name}", status_code=204)
def remove_user(name: UserName, _: Admin, here: Here) -> Response:
    """Remove a user. No token of theirs is valid from now on; their runs stay, and so does their name."""
    with here.database.write() as session:
        users.remove(session, name)
    return Response(status_code=204)


@router.get("/tokens", responses={200: {"model": TokenList}})
def list_tokens(
    _: Admin, here: Here, form: Wanted, after: After = None, limit: Limit = 50, width: Width = 100
) -> Response:
    """Tokens, the newest first, without their secrets; those that are revoked or have expired are among them."""
    with here.database.read() as session:
        found = [token_view(token) for token in users.token_page(session, after, limit + 1)]
    headers = ("id", "user", "scope", "name", "created_at", "expires_at", "revoked_at")
    return listing(found, limit, form, headers, [[each[name] for name in headers] for each in found], width)


@router.post("/tokens", status_code=201, responses={200: {"model": TokenView}, 201: {"model": NewTokenView}})
def create_token(body: NewToken, _: Admin, here: Here, once: Repeatable) -> Json:
    """Create a token. Its text is shown this once: only a hash is kept.

    A repeated request with the same Idempotency-Key is answered 200 and without the text.
    """
    expires_at = expiry(body)
    with here.database.write() as session:
        earlier = once.earlier(session)
        if earlier is not None:
            return Json(token_view(users.token(session, earlier)))
        token, text = users.create_token(session, body.user, body.name, Scope(body.scope), expires_at)
        once.remember(session, token.id)
    return Json({**token_view(token), "token": text}, 201)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: TokenId, _: Admin, here: Here) -> Response:
    """Revoke a token: from now on it opens nothing."""
    with here.database.write() as session:
        users.revoke(session, token_id)
    return Response(status_code=204)


def expiry(body: NewToken) -> datetime | None:
    """Raises InvalidInput for a time that is past or beyond all calendars, or for one that is told twice."""
    if body.expires_in_seconds is not None:
        if body.expires_at is not None:
            message = "give expires_in_seconds or expires_at, not both"
            raise InvalidInput([FieldProblem("expires_at", "exclusive", message)])
        return users.seconds_from_now(body.expires_in_seconds)
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise InvalidInput([FieldProblem("expires_at", "past", "must lie in the future")])
    if body.expires_at is not None and body.expires_at >= LAST_DAY:
        raise InvalidInput([FieldProblem("expires_at", "too_late", "must lie before the last day of the year 9999")])
    return body.expires_at


def user_view(user: User) -> dict[str, Any]:
    return {"id": user.name, "object": "user", "name": user.name, "created_at": user.created_at}


def token_view(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "object": "token",
        "user": token.user,
        "name": token.name,
        "scope": token.scope.value,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }
