"""`/v1/kpi/collection` and `/v1/gaps`: how much came, how soon, and what is missing."""

import csv
import io
from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request, Response

from api.auth import Reader
from api.context import ask, office
from api.kpi_parameters import CollectionParameters, GapsParameters
from api.problems import ProblemError, responses
from api.render import Format, choose, encode
from api.schemas import CollectionPage, GapsPage, json_answer
from headend.kpi.desk import CollectionDesk, CollectionRow, GapRow
from headend.readings import NotFoundError
from headend.tokens import Grant
from metering.timing import to_rfc3339

FORMATS: tuple[Format, ...] = ("application/json", "text/csv")
_TEXT = {"schema": {"type": "string"}}
_FIGURES = json_answer(CollectionPage, "Figures of collection.")
_FIGURES["content"] |= {"text/csv": _TEXT}
_GAPS = json_answer(GapsPage, "Gaps.")
_GAPS["content"] |= {"text/csv": _TEXT}
_PROBLEMS = responses(400, 401, 403, 404, 406, 503)

router = APIRouter(prefix="/v1", tags=["kpi"])


@router.get("/kpi/collection", responses={200: _FIGURES, **_PROBLEMS})
async def collection(request: Request, grant: Reader, ask_for: CollectionParameters) -> Response:
    """Give figures of collection of the days of UTC that begin inside a range; of the last seven judged ones without.

    Late rows change the figures of their day within a minute. A page of CSV names the next one in its Link field.
    """
    return await ask(request, _collection, request, grant, ask_for)


@router.get("/gaps", responses={200: _GAPS, **_PROBLEMS})
async def gaps(request: Request, grant: Reader, ask_for: GapsParameters) -> Response:
    """List gaps of intervals, with who was asked for them, and gaps of the gateways' seqs."""
    return await ask(request, _gaps, request, grant, ask_for)


def _collection(request: Request, grant: Grant, ask_for: CollectionParameters) -> Response:
    desk = _desk(request)
    until = desk.judged_until()
    query = ask_for.query(until)
    rows, after = desk.figures(grant, query, ask_for.on_time_s, ask_for.cursor)
    page = CollectionPage(rows, to_rfc3339(until) if until else None, ask_for.on_time_s, after or None)
    return _answer(request, page, rows, CollectionRow, after)


def _gaps(request: Request, grant: Grant, ask_for: GapsParameters) -> Response:
    query = ask_for.query(office(request).clock())
    rows, after = _desk(request).gaps(grant, query, tuple(sorted(set(ask_for.type))), ask_for.cursor)
    return _answer(request, GapsPage(rows, after or None), rows, GapRow, after)


def _desk(request: Request) -> CollectionDesk:
    desk = office(request).collection
    if desk is None:
        raise NotFoundError("nobody at this site keeps figures of collection")
    return desk


def _answer(
    request: Request, page: object, rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct], after: str
) -> Response:
    form = choose(request.headers.get("accept", ""), FORMATS)
    if form is None:
        raise ProblemError(406, "not-acceptable", f"this comes as {', '.join(FORMATS)}")
    headers = {"Vary": "Accept"}
    if after:
        url = request.url.include_query_params(cursor=after)
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    body = encode(page) if form == "application/json" else _csv(rows, kind)
    return Response(body, headers=headers, media_type=form)


def _csv(rows: Sequence[msgspec.Struct], kind: type[msgspec.Struct]) -> bytes:
    """Return RFC 4180: lists by quarter hours are JSON's alone, reasons stand as `reason=count`, semicolon between."""
    names = [field.encode_name for field in msgspec.structs.fields(kind) if field.name != "intervals"]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        values = msgspec.to_builtins(row)
        writer.writerow([_cell(values[name]) for name in names])
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return ";".join(f"{name}={count}" for name, count in sorted(value.items()))
    return value
