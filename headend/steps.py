"""How parts of the head-end do what is due: a step now and then; state or link may be away. It does no work itself."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from metering.errors import LinkDownError, StorageError

Step = Callable[[], Awaitable[object]]

_log = structlog.get_logger(__name__)


async def repeat(step: Step, every_s: float, stop: asyncio.Event, waits: str) -> None:
    """Take a step, then rest `every_s` seconds, until `stop`; a step that `waits` is told once for each reason."""
    ended = asyncio.ensure_future(stop.wait())
    failing = ""
    try:
        while not ended.done():
            failing = await attempt(step, waits, failing)
            await asyncio.wait((ended,), timeout=every_s)
    finally:
        ended.cancel()


async def attempt(step: Step, waits: str, failing: str = "") -> str:
    """Take one step; return why it has to wait, "" where it need not. It is told unless it was `failing` so before."""
    try:
        await step()
    except (StorageError, LinkDownError) as error:
        if str(error) != failing:
            _log.warning(waits, reason=str(error))
        return str(error)
    return ""
