"""`/v1/registers` and `/v1/collections`: what policy judges by. Writing entries needs `admin`, reading does not."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.auth import Admin, Collector, Overseer
from api.collection_facts import FactsBody
from api.context import ask, registers
from api.parameters import Identity, Instant, Pages, Strict, no_parameters
from api.problems import bad, responses
from api.register_views import EntriesOfPoint, EntriesPage, EntryView, FactsView, entry_view, facts_view, page_view
from api.render import encode
from api.schemas import json_answer
from headend.policy.facts import LATEST, Entry, RegisterKind
from headend.policy.office import actor
from headend.policy.registers import Kept

router = APIRouter(prefix="/v1", tags=["registers"])

_PROBLEMS = responses(400, 401, 403, 404, 503)
_ONE = [Depends(no_parameters())]
_ENTRY = {200: json_answer(EntryView, "The entry as it is now."), **_PROBLEMS}
_FACTS = {200: json_answer(FactsView, "What collections pushed last."), **_PROBLEMS}


def _printable(text: str) -> str:
    if text and not text.isprintable():
        raise ValueError("write printable characters alone")
    return text


def _in_range(instant: int | None) -> int | None:
    if instant is not None and not 0 <= instant < LATEST:
        raise ValueError("it lies beyond 1970 to 2200")
    return instant


When = Annotated[Instant, AfterValidator(_in_range)]
Line = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Word = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class PutEntry(BaseModel):
    """An entry: `name` says what it is (life-support, medical, vulnerable; weather, forecast, manual)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Word
    since: When
    until: When = None
    reason: Line = ""
    source: Line = ""
    detail: dict[Word, Line] = Field(default_factory=dict, max_length=16)

    def starts(self) -> int:
        """Return from when on it counts. Raises `ProblemError`: nobody said."""
        if self.since is None:
            raise bad("since", "say from when on it counts")
        return self.since


class EntryPages(Pages):
    """Which entries, and how many at once."""

    ended: bool = Field(default=False, description="Those that have ended, too.")


class Why(Strict):
    """Why an entry is to end."""

    reason: Line = Field(min_length=1)


@router.get("/registers/{kind}", responses={200: json_answer(EntriesPage, "A page of entries."), **_PROBLEMS})
async def entries(
    request: Request, grant: Overseer, kind: RegisterKind, pages: Annotated[EntryPages, Query()]
) -> Response:
    """List a register's entries in the order of meter points and ids."""
    desk = registers(request)

    def page() -> tuple[list[Kept], str]:
        return desk.page(grant, kind, pages.cursor, pages.limit, ended=pages.ended)

    found, after = await ask(request, page)
    return _json(page_view(found, after, desk.clock()))


@router.get(
    "/registers/{kind}/{point}",
    dependencies=_ONE,
    responses={200: json_answer(EntriesOfPoint, "The entries of a meter point."), **_PROBLEMS},
)
async def entries_of_point(request: Request, grant: Overseer, kind: RegisterKind, point: Identity) -> Response:
    """Give all entries of a meter point in a register, ended ones too."""
    found = await ask(request, registers(request).of_point, grant, kind, point)
    now = registers(request).clock()
    return _json({"entries": [entry_view(each, now) for each in found]})


@router.put("/registers/{kind}/{point}/{entry}", dependencies=_ONE, responses=_ENTRY)
async def put_entry(
    request: Request, grant: Admin, kind: RegisterKind, point: Identity, entry: Identity, body: PutEntry
) -> Response:
    """Add an entry. It does not change: end it, and add another."""
    since, until = body.starts(), body.until
    made = Entry(entry, kind, point, body.name, since, until, body.reason, body.source, actor(grant), body.detail)
    return _entry(request, await ask(request, registers(request).add, grant, made))


@router.delete("/registers/{kind}/{point}/{entry}", responses=_ENTRY)
async def end_entry(
    request: Request, grant: Admin, kind: RegisterKind, point: Identity, entry: Identity, why: Annotated[Why, Query()]
) -> Response:
    """Ask that an entry ends: it counts until another person confirms, and stays in the history."""
    return _entry(request, await ask(request, registers(request).end, grant, kind, point, entry, why.reason))


@router.post("/registers/{kind}/{point}/{entry}/confirm", dependencies=_ONE, responses=_ENTRY)
async def confirm_end(request: Request, grant: Admin, kind: RegisterKind, point: Identity, entry: Identity) -> Response:
    """End an entry whose end another person asked for in the last 24 hours."""
    return _entry(request, await ask(request, registers(request).confirm, grant, kind, point, entry))


@router.get("/collections/{point}/facts", dependencies=_ONE, responses=_FACTS)
async def facts(request: Request, grant: Overseer, point: Identity) -> Response:
    """Give what collections pushed last of a meter point."""
    return _json(facts_view(await ask(request, registers(request).facts, grant, point)))


@router.put("/collections/{point}/facts", dependencies=_ONE, responses=_FACTS)
async def put_facts(request: Request, grant: Collector, point: Identity, body: FactsBody) -> Response:
    """Take what collections knows of a debt as of `at`, in the place of what it said before."""
    said = body.facts()
    await ask(request, registers(request).put_facts, grant, point, said)
    return _json(facts_view(said))


def _entry(request: Request, kept: Kept) -> Response:
    return _json(entry_view(kept, registers(request).clock()))


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")
