"""`POST /v1/devices/{id}/reads`: read a meter now. It needs `readings:read`; its rate is limited for each token."""

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Reader
from api.context import office
from api.parameters import Identity, no_parameters
from api.problems import responses
from api.render import encode
from api.schemas import ReadNow, json_answer

router = APIRouter(prefix="/v1", tags=["readings"])


@router.post(
    "/devices/{device}/reads",
    dependencies=[Depends(no_parameters())],
    responses={
        200: json_answer(ReadNow, "What the meter says now."),
        **responses(400, 401, 403, 404, 409, 413, 423, 429, 502, 503, 504),
    },
)
async def read_now(request: Request, grant: Reader, device: Identity) -> Response:
    """Read a meter now and give its values with their quality. Repeating it is harmless.

    An error says whose fault it is (`fault`: meter, link or key): 504 no answer, 503 silent for long and probed now and
    then, 502 link down or a frame that is no answer, 409 the meter refused (`code`), 423 a wrong key or password.
    """
    rows = await office(request).read_now(grant, device)
    return Response(encode({"device": device, "readings": rows}), media_type="application/json")
