"""`/v1/meter-points` and `/v1/devices`: who is supplied where by which meter, and when."""

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Reader
from api.context import office
from api.parameters import Identity, RegionParameters, no_parameters
from api.problems import responses
from api.render import encode
from api.schemas import DevicesPage, DeviceView, PointsPage, PointView, json_answer
from api.views import found_view

router = APIRouter(prefix="/v1", tags=["registry"])

_PROBLEMS = responses(400, 401, 403, 503)
_ONE = [Depends(no_parameters())]


@router.get("/meter-points", responses={200: json_answer(PointsPage, "A page of meter points."), **_PROBLEMS})
async def meter_points(request: Request, grant: Reader, ask_for: RegionParameters) -> Response:
    """List meter points in the order of their ids."""
    found, after = office(request).points(grant, ask_for.region, ask_for.limit, ask_for.cursor)
    return _json({"meter_points": [found_view(each) for each in found], "next": after or None})


@router.get(
    "/meter-points/{point}",
    dependencies=_ONE,
    responses={200: json_answer(PointView, "A meter point."), **_PROBLEMS, **responses(404)},
)
async def meter_point(request: Request, grant: Reader, point: Identity) -> Response:
    """Give one meter point with its installations."""
    return _json(found_view(office(request).point(grant, point)))


@router.get("/devices", responses={200: json_answer(DevicesPage, "A page of devices."), **_PROBLEMS})
async def devices(request: Request, grant: Reader, ask_for: RegionParameters) -> Response:
    """List devices that are or were installed in sight, in the order of their ids."""
    found, after = office(request).devices(grant, ask_for.region, ask_for.limit, ask_for.cursor)
    return _json({"devices": [found_view(each) for each in found], "next": after or None})


@router.get(
    "/devices/{device}",
    dependencies=_ONE,
    responses={200: json_answer(DeviceView, "A device."), **_PROBLEMS, **responses(404)},
)
async def device(request: Request, grant: Reader, device: Identity) -> Response:
    """Give one device with its installations."""
    return _json(found_view(office(request).device(grant, device)))


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")
