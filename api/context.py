"""What routes find on the app: the office, and the bound on how many of them work in threads at once."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, cast

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request

from headend.fleet import Fleet
from headend.policy.office import RegisterOffice
from headend.readings import NotFoundError
from headend.service import Office

THREADS = 8  # blocking questions to stores and tokens at once; more wait their turn

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


def put(app: FastAPI, office: Office, fleet: Fleet | None = None) -> None:
    """Give the app its office, and the fleet where it is a head-end's."""
    app.state.office = office
    app.state.fleet = fleet
    app.state.limiter = CapacityLimiter(THREADS)


def office(request: Request) -> Office:
    """Return the office of this app."""
    return cast("Office", request.app.state.office)


def fleet(request: Request) -> Fleet:
    """Return the fleet of this app; `NotFoundError` where it is no head-end's."""
    found = cast("Fleet | None", request.app.state.fleet)
    if found is None:
        raise NotFoundError("this site has no fleet: gateways belong to a head-end")
    return found


def registers(request: Request) -> RegisterOffice:
    """Return the registers of this app; `NotFoundError` where it has none."""
    found = office(request).registers
    if found is None:
        raise NotFoundError("this site has no registers: they belong to a head-end")
    return found


def limiter(request: Request) -> CapacityLimiter:
    """Return the bound on threads."""
    return cast("CapacityLimiter", request.app.state.limiter)


async def ask(request: Request, question: Callable[[*_Args], _T], *args: *_Args) -> _T:
    """Run a blocking question in a thread, so that the event loop stays free."""
    return await to_thread.run_sync(question, *args, limiter=limiter(request))
