"""Problem details (RFC 9457) for everything that goes wrong, naming the field and never showing the inside."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from headend.authority import BadRequestOfCertificateError
from headend.changes import TooOldError
from headend.enrolling import NotEnrolledError, TooManyTriesError
from headend.fleet import NotAllowedError
from headend.ondemand import TooManyReadsError
from headend.readings import BadRequestError, NotFoundError
from headend.supply.signatures import NotAcceptedError
from metering.errors import (
    AuthError,
    CircuitOpenError,
    FrameError,
    HaltedError,
    LinkDownError,
    MeterError,
    NoAnswerError,
    RefusedError,
    StorageError,
)

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 1000  # characters
RETRY_S = 5  # when a store or log that is down may be asked again
PROBE_S = 60  # when a meter that has been silent for long may be asked again

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Refused by the meter",
    410: "Gone",
    413: "Content too large",
    414: "URI too long",
    422: "Refused",
    423: "Locked",
    429: "Too many requests",
    500: "Internal error",
    502: "Bad answer of the meter",
    503: "Not available",
    504: "No answer of the meter",
}

# What `translate` has an answer for.
_KNOWN = (
    BadRequestError,
    BadRequestOfCertificateError,
    NotAcceptedError,
    NotAllowedError,
    NotEnrolledError,
    NotFoundError,
    StorageError,
    TooManyReadsError,
    TooManyTriesError,
    TooOldError,
)

# Whose fault it is decides the status: the meter's silence 504, the line's noise 502, the meter's no 409, a key 423.
_METER: tuple[tuple[type[MeterError], int, str], ...] = (
    (CircuitOpenError, 503, "meter"),
    (NoAnswerError, 504, "meter"),
    (LinkDownError, 502, "link"),
    (FrameError, 502, "link"),
    (RefusedError, 409, "meter"),
    (AuthError, 423, "key"),
    (HaltedError, 423, "key"),
    (MeterError, 502, "link"),
)

_log = structlog.get_logger(__name__)


class FieldProblem(BaseModel):
    """What is wrong with one parameter."""

    field: str
    message: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None
    fault: str | None = None
    code: int | None = None
    reasons: list[str] | None = None
    snapshot: str | None = None


class ProblemError(Exception):
    """An answer with problem details. `extra` members join the body."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.headers = headers
        self.extra = extra


def body(status: int, kind: str, detail: str, **extra: object) -> bytes:
    """Return the bytes of problem details."""
    title = _TITLES.get(status, "Error")
    problem = {"type": f"urn:metergate:problem:{kind}", "title": title, "status": status, "detail": detail, **extra}
    return msgspec.json.encode(problem)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of problem answers."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def install(app: FastAPI) -> None:
    """Turn every error of the app into problem details."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_crash)
    for known in _KNOWN:
        app.add_exception_handler(known, _on_known)
    app.add_exception_handler(MeterError, _on_meter)


def _answer(problem: ProblemError) -> Response:
    content = body(problem.status, problem.kind, str(problem), **problem.extra)
    return Response(content, problem.status, problem.headers, MEDIA_TYPE)


async def _on_problem(_request: Request, error: Exception) -> Response:
    return _answer(error) if isinstance(error, ProblemError) else _crash()


async def _on_known(_request: Request, error: Exception) -> Response:
    return _answer(translate(error))


async def _on_meter(_request: Request, error: Exception) -> Response:
    return _answer(_of_meter(error)) if isinstance(error, MeterError) else _crash()


async def _on_validation(_request: Request, error: Exception) -> Response:
    raw: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    found = [_fault(each) for each in raw[:20]]
    named = "; ".join(f"{each['field']}: {each['message']}" for each in found)
    return _answer(ProblemError(400, "bad-parameter", named[:MAX_DETAIL], errors=found))


def _fault(each: Mapping[str, Any]) -> dict[str, str]:
    if each["type"] == "json_invalid":
        return {"field": "body", "message": f"it is no JSON: {each['ctx']['error']} (character {each['loc'][-1]})"}
    return {"field": _field(each["loc"]), "message": each["msg"].removeprefix("Value error, ")}


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _crash()
    if error.status_code == 405:
        error.headers = {"Allow": ", ".join(_methods(request))}
    kind = _TITLES.get(error.status_code, "error").lower().replace(" ", "-")
    detail = "there is nothing here" if error.status_code == 404 else str(error.detail)
    return _answer(ProblemError(error.status_code, kind, detail, headers=error.headers))


def _methods(request: Request) -> list[str]:
    """Return what a path can be asked: Starlette names the methods of its first route alone."""
    parts = (getattr(part, "original_router", request.app) for part in request.app.routes)  # as FastAPI includes them
    routes = (route for part in parts for route in part.routes if isinstance(route, Route))
    found = (route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for methods in found for method in methods})


async def _on_crash(_request: Request, _error: Exception) -> Response:
    return _crash()  # uvicorn logs the error itself; the asker learns nothing of the inside


def _crash() -> Response:
    return _answer(ProblemError(500, "internal", "something broke on our side; it has been logged"))


def _field(location: Sequence[object]) -> str:
    """Return the name that the asker used: the last part of a query's, path's or header's location."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def translate(error: Exception) -> ProblemError:  # noqa: PLR0911 - one return for each kind of error
    """Return the problem of an error that the head-end is known to raise."""
    match error:
        case BadRequestError():
            return bad(error.field, str(error))
        case NotFoundError():
            return ProblemError(404, "not-found", str(error))
        case TooOldError():
            return ProblemError(
                410,
                "cursor-too-old",
                f"{error}. Take the snapshot, read the lost range by meter point, and go on without a cursor",
                headers={"Link": '</v1/readings/latest>; rel="snapshot"'},
                snapshot="/v1/readings/latest",
            )
        case NotAcceptedError():
            return ProblemError(422, error.kind, str(error), reasons=error.reasons or [str(error)])
        case BadRequestOfCertificateError():
            return bad("csr", str(error))
        case NotAllowedError() | NotEnrolledError():
            kind = "not-enrolled" if isinstance(error, NotEnrolledError) else "region-not-allowed"
            return ProblemError(403, kind, str(error))
        case TooManyReadsError() | TooManyTriesError():
            kind = "too-many-reads" if isinstance(error, TooManyReadsError) else "too-many-tries"
            return ProblemError(429, kind, str(error), headers={"Retry-After": str(error.retry_s)})
        case StorageError():
            _log.warning("storage failed", error=str(error))
            detail = "the readings store cannot answer now"
            return ProblemError(503, "storage", detail, headers={"Retry-After": str(RETRY_S)})
        case _:
            return ProblemError(500, "internal", "something broke on our side; it has been logged")


def bad(field: str, message: str) -> ProblemError:
    """Return a 400 that names one field."""
    return ProblemError(400, "bad-parameter", f"{field}: {message}", errors=[{"field": field, "message": message}])


def _of_meter(error: MeterError) -> ProblemError:
    status, fault = next((status, fault) for kind, status, fault in _METER if isinstance(error, kind))
    headers = {"Retry-After": str(PROBE_S)} if status == 503 else None
    extra: dict[str, object] = {"code": error.code} if isinstance(error, RefusedError) else {}
    return ProblemError(status, f"meter-{error.kind}", str(error), headers=headers, fault=fault, **extra)
