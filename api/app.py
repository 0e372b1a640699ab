"""The HTTP API over the head-end: one FastAPI app for one office. It neither binds a port nor knows the collector.

Serve it with `SERVER`, uvicorn's settings: idle connections are closed and the number of connections is bounded.
"""

import copy
import gc
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems, schemas
from api.context import put
from api.guard import Guard
from api.routes import (
    audit,
    changes,
    clock,
    commands,
    configurations,
    events,
    fleet,
    health,
    keys,
    kpi,
    readings,
    reads,
    region_holds,
    registers,
    registry,
)
from headend.fleet import Fleet
from headend.service import Office

VERSION = "1.0.0"

GC_YOUNG = 50_000  # allocations between collections; Python's 700 are gone after a quarter of a page

SERVER: dict[str, Any] = {
    "loop": "uvloop",
    "http": "httptools",
    "timeout_keep_alive": 15,
    "timeout_graceful_shutdown": 5,
    "limit_concurrency": 256,
    "server_header": False,
    "access_log": False,
}

_DESCRIPTION = (
    "Readings, completeness, events and changes of meters, and reading a meter now. Times are RFC 3339 in UTC, values "
    "exact decimal strings. Errors are problem details (RFC 9457). `/v1` changes only by addition: pass over fields "
    "that you do not know."
)


def settle() -> None:
    """Spare the collector of this process the objects that stay: call it once, when all is imported and open.

    A page of readings is thousands of short-lived objects. With Python's own thresholds they set off full collections
    that walk the whole program, which took half of the time of a month's reading.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 20, 50)


def create_app(office: Office, fleet_of: Fleet | None = None) -> FastAPI:
    """Return the app that answers for an office, and for a head-end's fleet where one is given."""
    app = bare_app()
    put(app, office, fleet_of)
    return app


def bare_app() -> FastAPI:
    """Return the routes without an office: enough to be described.

    Interactive pages are left out: they would load scripts from elsewhere.
    """
    app = FastAPI(
        title="metergate",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    for routes in (
        health,
        registry,
        readings,
        events,
        changes,
        kpi,
        reads,
        clock,
        keys,
        fleet,
        configurations,
        commands,
        audit,
        registers,
        region_holds,
    ):
        app.include_router(routes.router)
    app.add_middleware(Guard)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend its document
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = openapi_of(app)
    return app.openapi_schema


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's, with our schemas and without its own form of validation errors."""
    document = copy.deepcopy(
        get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    )
    for path in document["paths"].values():
        for operation in path.values():
            if problems.MEDIA_TYPE not in operation["responses"].get("422", {}).get("content", {}):
                operation["responses"].pop("422", None)
            # What the guard and the last resort answer, wherever it happens.
            operation["responses"] |= {str(status): each for status, each in problems.responses(413, 414, 500).items()}
            answer = operation["responses"].get("200", {}).get("content", {})
            if answer.get("application/json") == {"schema": {}}:
                del answer["application/json"]
    found = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        found.pop(name, None)
    found.update(schemas.components())
    return document
