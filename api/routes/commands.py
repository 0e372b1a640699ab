"""`/v1/commands`: supply commands are requested, approved, followed and called off. Gateways judge them anew."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Reader, needs
from api.collection_facts import FactsBody
from api.context import ask, office
from api.guard import MAX_BODY
from api.parameters import Cursor, Identity, Instant, OptionalId, Strict, no_parameters
from api.problems import ProblemError, responses
from api.render import encode
from api.schemas import json_answer
from headend.readings import NotFoundError
from headend.supply.desk import SupplyDesk
from headend.supply.making import Order
from headend.supply.making import Request as Wanted
from headend.supply.views import CommandsMade, CommandsPage, CommandView, SupplyView
from headend.tokens import Grant
from metering.supply import MAX_COMMANDS, Action, Reason
from metering.supply_states import State
from trust.sheet import Sheet

router = APIRouter(prefix="/v1", tags=["supply"])

Requester = Annotated[Grant, Depends(needs("commands:request"))]
Approver = Annotated[Grant, Depends(needs("commands:approve"))]
# What gives back goes on while the state does not answer, so that those who ask for it are known still.
Restorer = Annotated[Grant, Depends(needs("commands:request", remembered=True))]
RestoreApprover = Annotated[Grant, Depends(needs("commands:approve", remembered=True))]
Follower = Annotated[Grant, Depends(needs("readings:read", remembered=True))]
_NONE = [Depends(no_parameters())]
_PROBLEMS = responses(400, 401, 403, 404, 422, 503)
_SIGNED = {"content": {"application/jose+json": {"schema": {"type": "object"}}}, "required": True}
_MADE = json_answer(CommandsMade, "The commands, and what they wait for.")
_ONE = json_answer(CommandView, "The command.")
_ID = r"^[A-Za-z0-9_-]{1,64}$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OrderBody(_Body):
    """One meter point."""

    point: str = Field(pattern=_ID)
    case: str = Field("", max_length=200)
    facts: FactsBody | None = None


class CommandBody(_Body):
    """A request: for one meter point, or a campaign of several that is approved as one."""

    action: Action
    reason: Reason
    orders: list[OrderBody] = Field(min_length=1, max_length=MAX_COMMANDS)
    not_before: Instant = None
    expires_at: Instant = None
    limit_w: int | None = Field(None, ge=0, le=10_000_000)
    limit_until: Instant = None
    spread_s: int = Field(
        0,
        ge=0,
        le=86_400,
        description="Act at a time of chance within it; a campaign at least as its gateway's trust document says.",
    )

    def wanted(self) -> Wanted:
        """Return it as the desk takes it."""
        orders = [Order(each.point, each.case, each.facts.facts() if each.facts else None) for each in self.orders]
        return Wanted(
            self.action,
            self.reason,
            orders,
            self.not_before,
            self.expires_at,
            self.limit_w,
            self.limit_until,
            self.spread_s,
        )


class Listed(Strict):
    """Which commands."""

    point: OptionalId = ""
    state: State | None = None
    limit: int = Field(100, ge=1, le=1000)
    cursor: Cursor = ""


@router.post("/commands", dependencies=_NONE, status_code=201, responses={201: _MADE, **_PROBLEMS})
async def request_commands(
    request: Request,
    grant: Restorer,
    body: CommandBody,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=128)],
) -> Response:
    """Request a supply command, or a campaign. The same Idempotency-Key with the same body gives the same answer."""
    raw = msgspec.json.encode(body.model_dump(mode="json"), order="deterministic")
    made = await ask(request, _desk(request).request, grant, idempotency_key, raw, body.wanted())
    return _json(made, 201)


@router.get("/commands", responses={200: json_answer(CommandsPage, "A page of commands."), **_PROBLEMS})
async def list_commands(request: Request, grant: Reader, listed: Annotated[Listed, Query()]) -> Response:
    """List commands in the order in which they were requested."""
    state = str(listed.state) if listed.state is not None else ""
    page = await ask(request, _desk(request).page, grant, listed.limit, listed.cursor, listed.point, state)
    return _json(page)


@router.get("/commands/{command}", dependencies=_NONE, responses={200: _ONE, **_PROBLEMS})
async def command(request: Request, grant: Follower, command: Identity) -> Response:
    """Give one command: where it stands, why, and what it waits for."""
    return _json(await ask(request, _desk(request).view, grant, command))


@router.get(
    "/commands/{command}/signing",
    dependencies=_NONE,
    responses={200: json_answer(Sheet, "Canonical bytes in base64, for `metergate key sign`."), **_PROBLEMS},
)
async def signing(request: Request, grant: RestoreApprover, command: Identity) -> Response:
    """Give what approvers sign: a command, or its campaign's manifest with its commands."""
    return _json(await ask(request, _desk(request).signing, grant, command))


@router.post(
    "/commands/{command}/approvals",
    dependencies=_NONE,
    responses={200: _MADE, **_PROBLEMS, **responses(413)},
    openapi_extra={"requestBody": _SIGNED},
)
async def approve(request: Request, grant: RestoreApprover, command: Identity) -> Response:
    """Take approvers' signatures: JWS in general JSON serialisation. A campaign is approved by any of its commands."""
    return _json(await ask(request, _desk(request).approve, grant, command, await _signed(request)))


@router.post(
    "/commands/{command}/cancel",
    dependencies=_NONE,
    responses={200: _ONE, **_PROBLEMS, **responses(413)},
    openapi_extra={"requestBody": _SIGNED | {"required": False}},
)
async def cancel(request: Request, grant: Requester, command: Identity) -> Response:
    """Call off a command that has not been sent. What gives back needs k approvers' signatures of the cancellation."""
    return _json(await ask(request, _desk(request).cancel, grant, command, await _signed(request)))


@router.post("/commands/{command}/release", dependencies=_NONE, responses={200: _MADE, **_PROBLEMS})
async def release(request: Request, grant: Approver, command: Identity) -> Response:
    """Let a quarantined command (its whole campaign) go on: by another person than its requester."""
    return _json(await ask(request, _desk(request).release, grant, command))


@router.post("/commands/{command}/delete", dependencies=_NONE, responses={200: _MADE, **_PROBLEMS})
async def delete(request: Request, grant: Approver, command: Identity) -> Response:
    """Delete a quarantined command (its whole campaign): by another person than its requester."""
    return _json(await ask(request, _desk(request).delete, grant, command))


@router.get(
    "/meter-points/{point}/supply",
    dependencies=_NONE,
    responses={200: json_answer(SupplyView, "The supply there now."), **_PROBLEMS},
)
async def supply(request: Request, grant: Reader, point: Identity) -> Response:
    """Say how the supply stands: since when, why, by which case, and what must happen until it comes back."""
    return _json(await ask(request, _desk(request).supply, grant, point))


async def _signed(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ProblemError(413, "body-too-large", f"signatures have at most {MAX_BODY} bytes")
    return bytes(body)


def _desk(request: Request) -> SupplyDesk:
    found = office(request).supply
    if found is None:
        raise NotFoundError("no supply is controlled from here: a head-end with [supply] does")
    return found


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
