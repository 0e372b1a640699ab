"""Looks for Modbus units that the file does not know, with the first read of a meter that is missed."""

from collections.abc import AsyncIterator, Sequence

from collector.exchange import Exchange
from collector.links import Link
from collector.profile import Profile
from gateway.meters import BusMeter
from metering.errors import MeterError, RefusedError

LIKELY_UNITS = (*range(1, 11), 100, 247)
GATEWAYS_OWN = 10  # this exception and the next are a TCP gateway's own words for a unit that it does not reach


async def others(link: Link, missed: BusMeter, known: Sequence[BusMeter]) -> AsyncIterator[str]:
    """Yield unknown units that answer the first request of a meter's plan, with values or with an exception."""
    taken = {meter.settings.unit for meter in known}
    asked = missed.everything.exchanges()[0]
    usual = [missed.profile.serial.unit] if isinstance(missed.profile, Profile) else []
    for unit in dict.fromkeys((*usual, *LIKELY_UNITS)):
        if unit not in taken and await _answers(link, asked._replace(unit=unit)):
            yield f"unit {unit}"


async def here(link: Link, missed: BusMeter) -> str:
    """Return the meter's unit in words where it answers on this link; empty where it does not."""
    asked = missed.everything.exchanges()[0]
    return f"unit {asked.unit}" if await _answers(link, asked) else ""


async def _answers(link: Link, exchange: Exchange) -> bool:
    try:
        await link.exchange(exchange, link.timeout(exchange))
    except RefusedError as error:
        return error.code < GATEWAYS_OWN
    except MeterError:
        return False
    return True
