"""Who asks: bearer tokens, their scopes, and the one question that a local monitor may ask without a token."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.context import limiter, office
from api.problems import ProblemError
from headend.tokens import Grant
from metering.errors import StorageError
from metering.hosts import is_loopback

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token of this site: `metergate token create`."
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

_CHALLENGE = 'Bearer realm="metergate"'


async def _verify(request: Request, credentials: HTTPAuthorizationCredentials | None) -> Grant:
    if credentials is None:
        raise ProblemError(
            401, "no-token", "send Authorization: Bearer mg_...", headers={"WWW-Authenticate": _CHALLENGE}
        )
    tokens = office(request).tokens
    grant = await to_thread.run_sync(tokens.verify, credentials.credentials, limiter=limiter(request))
    if grant is None:
        raise ProblemError(
            401,
            "invalid-token",
            "the token is unknown, expired or revoked",
            headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
        )
    return grant


def needs(*scopes: str, remembered: bool = False) -> Callable[[Request, Credentials], Awaitable[Grant]]:
    """Return a dependency that gives the grant of an asker who has one of these scopes, or answers 401 or 403.

    `remembered`: a token will do that was verified before, while the state does not answer; otherwise that is 503.
    """

    async def dependency(request: Request, credentials: Credentials) -> Grant:
        grant = await _verify(request, credentials)
        if grant.remembered and not remembered:
            raise StorageError("tokens cannot be verified now", retry=True)
        if not grant.scopes.intersection(scopes):
            raise ProblemError(
                403,
                "missing-scope",
                f"this needs the scope {' or '.join(scopes)}",
                headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{" ".join(scopes)}"'},
            )
        return grant

    return dependency


Reader = Annotated[Grant, Depends(needs("readings:read"))]
Auditor = Annotated[Grant, Depends(needs("audit:read"))]
Admin = Annotated[Grant, Depends(needs("admin"))]
Collector = Annotated[Grant, Depends(needs("commands:request", "admin"))]
Overseer = Annotated[Grant, Depends(needs("commands:request", "audit:read"))]


async def local_or_admin(request: Request, credentials: Credentials) -> None:
    """Let a monitor on this machine pass without a token, and an admin from anywhere.

    A request that a proxy on this machine forwards is not local, whatever its address.
    """
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    if credentials is None and not forwarded and is_loopback(request.client.host if request.client else ""):
        return
    await needs("admin")(request, credentials)
