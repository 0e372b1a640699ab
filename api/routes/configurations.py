"""`/v1/gateways/{id}/configuration`: what a gateway reads and when, in versions. They need `admin`."""

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Admin
from api.context import ask, office
from api.guard import MAX_CONFIGURATION
from api.parameters import Identity, no_parameters
from api.problems import ProblemError, responses
from api.render import encode
from api.schemas import json_answer
from headend.configurations import ConfigurationOffice, ConfigurationView
from headend.readings import NotFoundError

router = APIRouter(prefix="/v1", tags=["gateways"])
_ANSWERS = {
    200: json_answer(ConfigurationView, "The newest version, and what became of the last ones."),
    **responses(400, 401, 403, 404, 413, 503),
}
_BODY = {"content": {"text/plain": {"schema": {"type": "string"}}}, "required": True}
_ONE = [Depends(no_parameters())]


@router.get("/gateways/{gateway}/configuration", dependencies=_ONE, responses=_ANSWERS)
async def configuration(request: Request, grant: Admin, gateway: Identity) -> Response:
    """Show a gateway's configuration, and what became of its versions."""
    return _json(await ask(request, _configurations(request).view, grant, gateway))


@router.put(
    "/gateways/{gateway}/configuration", dependencies=_ONE, responses=_ANSWERS, openapi_extra={"requestBody": _BODY}
)
async def put_configuration(request: Request, grant: Admin, gateway: Identity) -> Response:
    """Take a new version: schedule, buses, meters, mqtt, push and clock as in a gateway's file, whole.

    The gateway checks it, tries it and goes back by itself where it does not prove itself; its answer is the version's
    state.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_CONFIGURATION:
            raise ProblemError(413, "body-too-large", f"a configuration has at most {MAX_CONFIGURATION} bytes")
    return _json(await ask(request, _configurations(request).put, grant, gateway, bytes(body)))


def _configurations(request: Request) -> ConfigurationOffice:
    found = office(request).configurations
    if found is None:
        raise NotFoundError("this site has no gateways elsewhere")
    return found


def _json(view: ConfigurationView) -> Response:
    return Response(encode(view), media_type="application/json")
