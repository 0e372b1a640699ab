"""Readings of a meter point or a device by range, and latest values: JSON in pages, CSV and NDJSON as streams."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.auth import Reader
from api.context import ask, office
from api.parameters import Identity, LatestParameters, ReadingsParameters
from api.problems import ProblemError, responses
from api.render import FORMATS, Format, ReadingsPage, choose, completeness_field, csv_header, csv_lines, encode, ndjson
from api.schemas import LatestPage, json_answer
from headend.readings import Question
from headend.rows import Row
from headend.tokens import Grant
from metering.timing import to_rfc3339

STREAM_PAGE = 2_000  # rows in memory at once

router = APIRouter(prefix="/v1", tags=["readings"])

_TEXT = {"schema": {"type": "string"}}
_HEADERS = {
    "Link": {"description": "The next page (RFC 8288).", "schema": {"type": "string"}},
    "Completeness": {"description": "Counts of a stream (RFC 8941 dictionary).", "schema": {"type": "string"}},
}
_PAGE = json_answer(ReadingsPage, "Readings: a page of JSON, or all of the range as CSV or NDJSON.")
_PAGE["content"] |= {"text/csv": _TEXT, "application/x-ndjson": _TEXT}
_PROBLEMS = responses(400, 401, 403, 404, 406, 503)
_RESPONSES = {200: {**_PAGE, "headers": _HEADERS}, **_PROBLEMS}


@router.get("/meter-points/{point}/readings", responses=_RESPONSES)
async def readings_of_point(request: Request, grant: Reader, point: Identity, ask_for: ReadingsParameters) -> Response:
    """Give a meter point's readings, of whichever device hung there; both at the register and in primary values.

    `source=derived` computes consumption per interval from register snapshots (1.8.0 gives 1.29.0).
    """
    question = ask_for.question(office(request).clock(), point=point)
    return await _answer(request, grant, question, ask_for.limit, ask_for.cursor)


@router.get("/devices/{device}/readings", responses=_RESPONSES)
async def readings_of_device(
    request: Request, grant: Reader, device: Identity, ask_for: ReadingsParameters
) -> Response:
    """Give a device's readings, of the times when it hung in sight."""
    question = ask_for.question(office(request).clock(), device=device)
    return await _answer(request, grant, question, ask_for.limit, ask_for.cursor)


@router.get(
    "/readings/latest", responses={200: json_answer(LatestPage, "Latest values."), **responses(400, 401, 403, 404, 503)}
)
async def latest(request: Request, grant: Reader, ask_for: LatestParameters) -> Response:
    """Give the latest current value of each channel of a point, a device, a region, or of all in sight."""
    rows, after = await ask(request, _latest, request, grant, ask_for)
    return Response(encode({"readings": rows, "next": after or None}), media_type="application/json")


def _latest(request: Request, grant: Grant, ask_for: LatestParameters) -> tuple[object, str]:
    here = office(request)
    devices = here.choose_devices(grant, ask_for.point, ask_for.device, ask_for.region)
    return here.latest(grant, devices, tuple(sorted(set(ask_for.kind))), ask_for.limit, ask_for.cursor)


async def _answer(request: Request, grant: Grant, question: Question, limit: int, cursor: str) -> Response:
    office(request).check(grant, question)
    form = choose(request.headers.get("accept", ""))
    if form is None:
        raise ProblemError(406, "not-acceptable", f"readings come as {', '.join(FORMATS)}")
    if form == "application/json":
        return await ask(request, _page, request, grant, question, limit, cursor)
    found = await ask(request, lambda: office(request).completeness(grant, question, again=bool(cursor)))
    first = await ask(request, office(request).readings, grant, question, STREAM_PAGE, cursor)
    stream = _stream(request, grant, question, form, first)
    return StreamingResponse(
        stream, media_type=form, headers={"Completeness": completeness_field(found), "Vary": "Accept"}
    )


def _page(request: Request, grant: Grant, question: Question, limit: int, cursor: str) -> Response:
    """Build a whole page in the thread that asked the store: encoding is work too."""
    here = office(request)
    rows, after = here.readings(grant, question, limit, cursor)
    found = here.completeness(grant, question, again=bool(cursor))
    headers = {"Vary": "Accept"}
    if after:
        # The range goes along, so that a default of "until now" does not move between pages.
        url = request.url.include_query_params(
            cursor=after, **{"from": to_rfc3339(question.start), "to": to_rfc3339(question.end)}
        )
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return Response(encode(ReadingsPage(rows, found, after or None)), headers=headers, media_type="application/json")


async def _stream(
    request: Request, grant: Grant, question: Question, form: Format, first: tuple[list[Row], str]
) -> AsyncIterator[bytes]:
    """Yield the whole range page by page. An error on the way cuts the answer off: it never ends as if complete."""
    lines = csv_lines if form == "text/csv" else ndjson
    if form == "text/csv":
        yield csv_header()
    rows, cursor = first
    while True:
        if rows:
            yield await ask(request, lines, rows)
        if not cursor:
            return
        rows, cursor = await ask(request, office(request).readings, grant, question, STREAM_PAGE, cursor)
