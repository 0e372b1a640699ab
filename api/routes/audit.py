"""`/v1/audit`: who decided what, entry by entry. It needs `audit:read`."""

from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.auth import Auditor
from api.context import ask, office
from api.parameters import AuditParameters
from api.problems import ProblemError, responses
from api.render import Format, choose, encode
from api.schemas import AuditPage, json_answer
from headend.audit.chain import Link, as_json
from headend.audit.desk import AuditDesk, AuditQuery
from headend.readings import NotFoundError
from headend.tokens import Grant

FORMATS: tuple[Format, ...] = ("application/json", "application/x-ndjson")
STREAM_PAGE = 500  # entries in memory at once

_PAGE = json_answer(AuditPage, "Entries: a page of JSON, or all of them as NDJSON.")
_PAGE["content"] |= {"application/x-ndjson": {"schema": {"type": "string"}}}

router = APIRouter(prefix="/v1", tags=["audit"])


@router.get("/audit", responses={200: _PAGE, **responses(400, 401, 403, 404, 406, 503)})
async def audit(request: Request, grant: Auditor, ask_for: AuditParameters) -> Response:
    """List entries of the audit in the order of their chain, each with its hash and the one before.

    Whether the chain is whole, `metergate audit verify` tells: one region's entries do not follow each other.
    """
    desk, query = _desk(request), ask_for.query()
    form = choose(request.headers.get("accept", ""), FORMATS)
    if form is None:
        raise ProblemError(406, "not-acceptable", f"the audit comes as {', '.join(FORMATS)}")
    if form == "application/json":
        links, after = await ask(request, desk.page, grant, query, ask_for.limit, ask_for.cursor)
        return _page(request, links, after)
    first = await ask(request, desk.page, grant, query, STREAM_PAGE, ask_for.cursor)
    return StreamingResponse(_stream(request, grant, query, first), media_type=form, headers={"Vary": "Accept"})


def _page(request: Request, links: list[Link], after: str) -> Response:
    headers = {"Vary": "Accept"}
    if after:
        url = request.url.include_query_params(cursor=after)
        headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    page = {"entries": [msgspec.Raw(as_json(each)) for each in links], "next": after or None}
    return Response(encode(page), headers=headers, media_type="application/json")


async def _stream(
    request: Request, grant: Grant, query: AuditQuery, first: tuple[list[Link], str]
) -> AsyncIterator[bytes]:
    """Yield all entries. An error on the way cuts the answer off: it never ends as if complete."""
    links, cursor = first
    while True:
        yield b"".join(as_json(each) + b"\n" for each in links)
        if not cursor:
            return
        links, cursor = await ask(request, _desk(request).page, grant, query, STREAM_PAGE, cursor)


def _desk(request: Request) -> AuditDesk:
    found = office(request).audit
    if found is None:
        raise NotFoundError("this site keeps no audit")
    return found
