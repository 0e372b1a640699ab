"""`POST /v1/devices/{id}/clock`: set a meter's clock. It needs `admin`, and leaves an event."""

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Admin
from api.context import office
from api.parameters import Identity, no_parameters
from api.problems import responses
from api.render import encode
from api.schemas import ClockSet, json_answer

router = APIRouter(prefix="/v1", tags=["devices"])


@router.post(
    "/devices/{device}/clock",
    dependencies=[Depends(no_parameters())],
    responses={
        200: json_answer(ClockSet, "How far the clock was ahead before and after."),
        **responses(400, 401, 403, 404, 409, 413, 423, 502, 503, 504),
    },
)
async def set_clock(request: Request, grant: Admin, device: Identity) -> Response:
    """Set a meter's clock by the gateway's, after the rows of its own profiles that this touches were read.

    The event `meter-clock-corrected` tells it, and the intervals that it touches carry `clock-adjusted`. 409: the
    meter's clock cannot be set, or not now; other errors are those of a read.
    """
    return Response(encode(await office(request).set_clock(grant, device)), media_type="application/json")
