"""`/v1/devices/{id}/keys`: meter keys on their way to a gateway, wrapped. They need `admin`; no answer holds a key."""

import base64

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from api.auth import Admin
from api.context import ask, office
from api.parameters import Identity, no_parameters
from api.problems import ProblemError, responses
from api.render import encode
from api.schemas import KeysPut, json_answer
from headend.key_office import KeyOffice, KeyView
from headend.readings import NotFoundError

MAX_BUNDLE = 4096  # bytes

router = APIRouter(prefix="/v1", tags=["keys"])
_ANSWERS = {200: json_answer(KeyView, "Whose the keys are."), **responses(400, 401, 403, 404, 503)}
_BODY = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/KeysPut"}}}, "required": True}
_ONE = [Depends(no_parameters())]


@router.get("/devices/{device}/keys/lease", dependencies=_ONE, responses=_ANSWERS)
async def keys(request: Request, grant: Admin, device: Identity) -> Response:
    """Say which gateway holds a device's keys, and to which public key they are to be wrapped for the next one."""
    return _json(await ask(request, _keys(request).view, grant, device))


@router.put("/devices/{device}/keys", dependencies=_ONE, responses=_ANSWERS, openapi_extra={"requestBody": _BODY})
async def put_keys(request: Request, grant: Admin, device: Identity) -> Response:
    """Take keys that `metergate key wrap` wrapped for a gateway. They go there when it has the lease of the device."""
    try:
        body = msgspec.json.decode(await request.body(), type=KeysPut)
        bundle = base64.b64decode(body.bundle, validate=True)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProblemError(400, "bad-body", f"not what metergate key wrap writes: {error}") from None
    if len(bundle) > MAX_BUNDLE:
        raise ProblemError(400, "bad-body", f"wrapped keys have at most {MAX_BUNDLE} bytes")
    return _json(await ask(request, _keys(request).put, grant, device, body.gateway, body.version, bundle))


@router.post("/devices/{device}/keys/force", dependencies=_ONE, responses=_ANSWERS)
async def force(request: Request, grant: Admin, device: Identity) -> Response:
    """Vouch that the gateway which was asked to release the keys is gone and will use them no more.

    Only for a gateway that can answer no more: two that use the same keys give them away.
    """
    return _json(await ask(request, _keys(request).force, grant, device))


def _keys(request: Request) -> KeyOffice:
    found = office(request).keys
    if found is None:
        raise NotFoundError("this site has no gateways elsewhere")
    return found


def _json(view: KeyView) -> Response:
    return Response(encode(view), media_type="application/json")
