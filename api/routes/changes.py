"""`/v1/changes`: all that is new or corrected, at least once, from an opaque cursor on."""

from fastapi import APIRouter, Request, Response

from api.auth import Reader
from api.context import ask, office
from api.parameters import AfterParameters
from api.problems import responses
from api.render import encode
from api.schemas import ChangesPage, json_answer
from api.views import change_view

router = APIRouter(prefix="/v1", tags=["changes"])


@router.get(
    "/changes",
    responses={200: json_answer(ChangesPage, "A page of changes."), **responses(400, 401, 403, 404, 410, 503)},
)
async def changes(request: Request, grant: Reader, ask_for: AfterParameters) -> Response:
    """Give what came after a cursor, in the order of its arrival; from the oldest that is kept where it is left out.

    The same `change_id` may come again and then says the same. What was evicted or unreadable comes as a gap.
    """
    here = office(request)
    rows, after, more = await ask(request, here.changes, grant, ask_for.after, ask_for.limit)
    if not rows and not more and ask_for.wait:
        await here.wait_for_changes(ask_for.wait)
        rows, after, more = await ask(request, here.changes, grant, after, ask_for.limit)
    page = {"changes": [change_view(each) for each in rows], "next": after, "more": more}
    return Response(encode(page), media_type="application/json")
