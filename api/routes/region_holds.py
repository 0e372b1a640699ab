"""`/v1/region-holds`: holds and forecasts for all meter points of a region. What they do to commands is policy's."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from api.auth import Admin, Overseer
from api.context import ask, registers
from api.parameters import Identity, no_parameters
from api.problems import responses
from api.register_views import EntriesPage, EntryView, entry_view, page_view
from api.render import encode
from api.routes.registers import EntryPages, PutEntry, Why
from api.schemas import json_answer
from headend.policy.facts import Entry
from headend.policy.office import actor
from headend.policy.registers import Kept

router = APIRouter(prefix="/v1/region-holds", tags=["registers"])

_PROBLEMS = responses(400, 401, 403, 404, 503)
_ONE = [Depends(no_parameters())]
_HOLD = {200: json_answer(EntryView, "The hold as it is now."), **_PROBLEMS}


class PutRegionHold(PutEntry):
    """A hold for all meter points whose region is this one or lies in it."""

    region: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,9}$")


@router.get("", responses={200: json_answer(EntriesPage, "A page of holds."), **_PROBLEMS})
async def holds(request: Request, grant: Overseer, pages: Annotated[EntryPages, Query()]) -> Response:
    """List holds of regions in the order of their ids."""
    desk = registers(request)

    def page() -> tuple[list[Kept], str]:
        return desk.holds_of_regions(grant, pages.cursor, pages.limit, ended=pages.ended)

    found, after = await ask(request, page)
    return Response(encode(page_view(found, after, desk.clock())), media_type="application/json")


@router.put("/{hold}", dependencies=_ONE, responses=_HOLD)
async def put_hold(request: Request, grant: Admin, hold: Identity, body: PutRegionHold) -> Response:
    """Add a hold for a region. It does not change: end it, and add another."""
    made = Entry(
        hold,
        "hold",
        "",
        body.name,
        body.starts(),
        body.until,
        body.reason,
        body.source,
        actor(grant),
        body.detail,
        body.region,
    )
    return _hold(request, await ask(request, registers(request).hold_region, grant, made))


@router.delete("/{hold}", responses=_HOLD)
async def end_hold(request: Request, grant: Admin, hold: Identity, why: Annotated[Why, Query()]) -> Response:
    """Ask that a hold ends; it ends when another person confirms, and stays in the history."""
    return _hold(request, await ask(request, registers(request).end_of_region, grant, hold, why.reason))


@router.post("/{hold}/confirm", dependencies=_ONE, responses=_HOLD)
async def confirm_end(request: Request, grant: Admin, hold: Identity) -> Response:
    """End a hold whose end another person asked for in the last 24 hours."""
    return _hold(request, await ask(request, registers(request).confirm_of_region, grant, hold))


def _hold(request: Request, kept: Kept) -> Response:
    return Response(encode(entry_view(kept, registers(request).clock())), media_type="application/json")
