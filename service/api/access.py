"""What a route asks of the one who calls it: `Reader`, `Submitter` or `Admin`.

That a request has a valid token at all is not decided here: nothing comes past the gate without.
"""

from typing import Annotated

from fastapi import Depends, Request

from service.errors import InsufficientScope
from service.states import Scope
from service.users import Principal


# Not plain functions: FastAPI would send each through a thread.
async def reader(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


async def submitter(request: Request) -> Principal:
    return _with(Scope.SUBMIT, request)


async def admin(request: Request) -> Principal:
    return _with(Scope.ADMIN, request)


def _with(needed: Scope, request: Request) -> Principal:
    principal: Principal = request.state.principal
    if not principal.scope.includes(needed):
        raise InsufficientScope(needed)
    return principal


Reader = Annotated[Principal, Depends(reader)]
Submitter = Annotated[Principal, Depends(submitter)]
Admin = Annotated[Principal, Depends(admin)]
