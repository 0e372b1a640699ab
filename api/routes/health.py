"""`/healthz`, `/readyz`, `/metrics`: does it live, is it ready, how is it doing. No readings."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api import metrics
from api.auth import local_or_admin
from api.context import ask, office
from api.parameters import no_parameters
from api.problems import RETRY_S, ProblemError, responses
from api.schemas import Health, json_answer

router = APIRouter(tags=["health"], dependencies=[Depends(no_parameters())])

_OK = Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/healthz", responses={200: json_answer(Health, "The process lives.", {"status": "ok"}), **responses(400)})
async def healthz() -> Response:
    """Tell that the process lives. Open to all: it says nothing else."""
    return Response(_OK.body, media_type="application/json")


@router.get("/readyz", responses={200: json_answer(Health, "Ready.", {"status": "ok"}), **responses(400, 503)})
async def readyz(request: Request) -> Response:
    """Tell whether the store can be read and written, the log accepts, and the gateway is well. Open to all."""
    reasons = await ask(request, office(request).problems)
    if reasons:
        # The reasons stay general for those without a token: paths and addresses are for the log file.
        parts = sorted({reason.partition(":")[0] for reason in reasons})
        raise ProblemError(
            503, "not-ready", f"not ready: {', '.join(parts)}", headers={"Retry-After": str(RETRY_S)}, reasons=parts
        )
    return Response(_OK.body, media_type="application/json")


@router.get(
    "/metrics",
    responses={
        200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses(400, 401, 403),
    },
)
async def prometheus(request: Request, _: Annotated[None, Depends(local_or_admin)]) -> Response:
    """Give the numbers of this site to Prometheus: from this machine without a token, else with scope admin."""
    content = await ask(request, metrics.render, office(request).measures)
    return Response(content, media_type=metrics.MEDIA_TYPE)
