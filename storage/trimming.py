"""Keeps a log within its limits while its process runs. What goes, and what may not, the log decides."""

import asyncio

from storage.log import Log

TRIM_S = 60.0


async def trim_until(stop: asyncio.Event, log: Log) -> None:
    """Let the log give up what its limits no longer hold, now and then. Raises as `Log.trim`."""
    ended = asyncio.ensure_future(stop.wait())
    try:
        while not ended.done():
            await asyncio.to_thread(log.trim)
            await asyncio.wait((ended,), timeout=TRIM_S)
    finally:
        ended.cancel()
