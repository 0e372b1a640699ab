"""`/v1/events`: what happened at the devices and gateways in sight."""

from fastapi import APIRouter, Request, Response

from api.auth import Reader
from api.context import ask, office
from api.parameters import EventsParameters
from api.problems import responses
from api.render import encode
from api.schemas import EventsPage, json_answer
from api.views import event_view
from headend.tokens import Grant

router = APIRouter(prefix="/v1", tags=["events"])


@router.get(
    "/events", responses={200: json_answer(EventsPage, "A page of events."), **responses(400, 401, 403, 404, 503)}
)
async def events(request: Request, grant: Reader, ask_for: EventsParameters) -> Response:
    """List events in the order of their time; the last day's where no range is given."""
    return await ask(request, _events, request, grant, ask_for)


def _events(request: Request, grant: Grant, ask_for: EventsParameters) -> Response:
    here = office(request)
    start, end = ask_for.bounds(here.clock())
    named = ask_for.point or ask_for.device or ask_for.region
    devices = here.choose_devices(grant, ask_for.point, ask_for.device, ask_for.region) if named else None
    found, after = here.events(grant, devices, start, end, ask_for.limit, ask_for.cursor)
    return Response(
        encode({"events": [event_view(each) for each in found], "next": after or None}), media_type="application/json"
    )
