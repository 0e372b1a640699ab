"""`/v1/gateways`, `/v1/enrolments` and the writing half of the registry: for operators of a fleet, with `admin`."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.auth import Admin
from api.context import ask, fleet
from api.fleet_views import EnrolmentView, GatewaysPage, GatewayView, InvitationView, gateway_view
from api.parameters import Identity, Instant, Pages, no_parameters
from api.problems import responses
from api.render import encode
from api.schemas import DeviceView, PointView, json_answer
from api.views import found_view
from headend.fleet import MAX_TOKEN_HOURS
from metering.model import Installation, MeterPoint
from metering.timing import to_rfc3339

router = APIRouter(prefix="/v1", tags=["fleet"])

_PROBLEMS = responses(400, 401, 403, 404, 503)
_NONE = [Depends(no_parameters())]
_ID = r"^[A-Za-z0-9_-]{1,64}$"
_DECIMAL = r"^[0-9]{1,20}(\.[0-9]{1,20})?$"
_OBIS = r"^[0-9]{1,3}-[0-9]{1,3}:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(\*[0-9]{1,3})?$"

Registers = dict[Annotated[str, Field(pattern=_OBIS)], Annotated[str, Field(pattern=_DECIMAL)]]


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write an IANA time zone, for example Europe/Berlin") from None
    return text


class Body(BaseModel):
    """The body of one request: no other fields, no values that would have to be converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewGateway(Body):
    """A gateway that is to enrol."""

    id: str = Field(pattern=_ID)
    hours: int = Field(24, ge=1, le=MAX_TOKEN_HOURS, description="How long its token is good.")


class Enrol(Body):
    """A one-time token and a PKCS#10 request in PEM, for a key on P-256."""

    token: str = Field(min_length=1, max_length=128)
    csr: str = Field(min_length=1, max_length=8192)


class PutPoint(Body):
    """A meter point."""

    region: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,9}$")
    zone: Annotated[str, AfterValidator(_zone)] = Field("UTC", max_length=64, description="An IANA time zone.")
    name: str = Field("", max_length=200)
    customer: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$", description="The customer's class: whose rules judge.")


class PutInstallation(Body):
    """Where a device hangs, and from when to when."""

    point: str = Field(pattern=_ID)
    valid_from: Instant
    valid_to: Instant | None = None
    initial: Registers = Field(default_factory=dict, max_length=64)
    removal: Registers = Field(default_factory=dict, max_length=64)
    ct_ratio: str = Field("1", pattern=_DECIMAL)
    pt_ratio: str = Field("1", pattern=_DECIMAL)
    registers: Literal["primary", "secondary"] = "primary"


class PutDevice(Body):
    """A device, and an installation of it: the one that begins at the same instant is changed, others stay."""

    profile: str = Field(pattern=_ID)
    serial: str = Field("", max_length=64)
    installation: PutInstallation | None = None


class PutAssignment(Body):
    """The gateway that reads a device, from when on; now where that is not said."""

    gateway: str = Field(pattern=_ID)
    since: Instant | None = None


@router.get("/gateways", responses={200: json_answer(GatewaysPage, "A page of gateways."), **_PROBLEMS})
async def gateways(request: Request, grant: Admin, pages: Annotated[Pages, Query()]) -> Response:
    """List gateways in sight in the order of their ids, with what they said of themselves and what is missing."""
    found, after = await ask(request, fleet(request).gateways, grant, pages.limit, pages.cursor)
    return _json({"gateways": [gateway_view(each) for each in found], "next": after or None})


@router.get(
    "/gateways/{gateway}",
    dependencies=_NONE,
    responses={200: json_answer(GatewayView, "A gateway."), **_PROBLEMS},
)
async def gateway(request: Request, grant: Admin, gateway: Identity) -> Response:
    """Give one gateway."""
    return _json(gateway_view(await ask(request, fleet(request).gateway, grant, gateway)))


@router.post(
    "/gateways",
    dependencies=_NONE,
    status_code=201,
    responses={201: json_answer(InvitationView, "The gateway's token, shown this once."), **_PROBLEMS},
)
async def invite(request: Request, grant: Admin, body: NewGateway) -> Response:
    """Make a gateway, or let one enrol anew, and give a one-time token for it."""
    token, until = await ask(request, fleet(request).invite, grant, body.id, body.hours)
    return _json(InvitationView(body.id, token, to_rfc3339(until)), 201)


@router.delete(
    "/gateways/{gateway}",
    dependencies=_NONE,
    responses={200: json_answer(GatewayView, "The gateway, revoked."), **_PROBLEMS},
)
async def revoke(request: Request, grant: Admin, gateway: Identity) -> Response:
    """Revoke a gateway: nothing of it is taken any more. What it has delivered stays."""
    return _json(gateway_view(await ask(request, fleet(request).revoke, grant, gateway)))


@router.post(
    "/enrolments",
    dependencies=_NONE,
    responses={
        200: json_answer(EnrolmentView, "The gateway's certificate."),
        **responses(400, 403, 404, 429, 503),
    },
)
async def enrol(request: Request, body: Enrol) -> Response:
    """Turn a one-time token and a request for a certificate into a certificate. It needs no bearer token.

    The same token with the same key again gives the same answer.
    """
    enrolling = fleet(request).enrolment()
    asker = request.client.host if request.client else ""
    made = await ask(request, enrolling.enrol, body.token, body.csr, asker)
    return _json(EnrolmentView(made.gateway, made.pem, enrolling.authority_pem, to_rfc3339(made.expires_at)))


@router.put(
    "/meter-points/{point}",
    dependencies=_NONE,
    responses={200: json_answer(PointView, "The meter point."), **_PROBLEMS},
)
async def put_point(request: Request, grant: Admin, point: Identity, body: PutPoint) -> Response:
    """Add a meter point, or change it."""
    wanted = MeterPoint(point, body.region, body.zone, body.name, body.customer)
    return _json(found_view(await ask(request, fleet(request).put_point, grant, wanted)))


@router.put(
    "/devices/{device}",
    dependencies=_NONE,
    responses={200: json_answer(DeviceView, "The device."), **_PROBLEMS},
)
async def put_device(request: Request, grant: Admin, device: Identity, body: PutDevice) -> Response:
    """Add a device, or change it, with an installation."""
    where = _installation(device, body.serial, body.installation) if body.installation is not None else None
    found = await ask(request, fleet(request).put_device, grant, device, body.serial, body.profile, where)
    return _json(found_view(found))


@router.put(
    "/devices/{device}/assignment",
    dependencies=_NONE,
    responses={200: json_answer(DeviceView, "The device."), **_PROBLEMS},
)
async def assign(request: Request, grant: Admin, device: Identity, body: PutAssignment) -> Response:
    """Give a device to a gateway. What earlier gateways still bring of it stays welcome."""
    found = await ask(request, fleet(request).assign, grant, device, body.gateway, body.since)
    return _json(found_view(found))


def _installation(device: str, serial: str, put: PutInstallation) -> Installation:
    return Installation(
        put.point,
        device,
        serial,
        put.valid_from or 0,
        put.valid_to,
        dict(put.initial),
        dict(put.removal),
        put.ct_ratio,
        put.pt_ratio,
        put.registers,
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")
