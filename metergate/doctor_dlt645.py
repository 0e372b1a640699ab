"""Looks for DL/T 645 meters by the wildcard, which every meter answers with its address. It writes nothing."""

from collections.abc import AsyncIterator, Sequence

from collector.dlt645_profile import Dlt645Profile
from collector.drivers.dlt645_discovery import Heard, discover
from collector.exchange import Answer, Exchange
from collector.links import Link
from gateway.meters import BusMeter
from metering.errors import MeterError, TransportError

MAX_REQUESTS = 101  # the wildcard, and where several answer at once each lowest pair of digits


async def others(
    link: Link, missed: BusMeter, known: Sequence[BusMeter], *, collided: bool = False
) -> AsyncIterator[str]:
    """Yield the addresses that are on the line and not in the file; where answers `collided`, one by one."""
    taken = {meter.settings.address for meter in known}
    for address in (await _heard(link, missed, MAX_REQUESTS if collided else 1)).addresses:
        if address not in taken:
            yield f"address {address}"


async def here(link: Link, missed: BusMeter) -> str:
    """Return who answers the wildcard on this link, in words; empty where nobody does.

    The 1997 edition has no wildcard for addresses: there the meter itself is asked.
    """
    addresses = (await _heard(link, missed, 1)).addresses
    if not addresses and isinstance(missed.profile, Dlt645Profile) and missed.profile.edition == "1997":
        asked = missed.everything.exchanges()[0]
        try:
            await link.exchange(asked, link.timeout(asked))
        except MeterError:
            return ""
        return f"address {missed.settings.address}"
    return f"address {', '.join(addresses)}" if addresses else ""


async def _heard(link: Link, missed: BusMeter, requests: int) -> Heard:
    async def transact(exchange: Exchange) -> Answer:
        return Answer(await link.exchange(exchange, link.timeout(exchange)), 0, 0)

    if not isinstance(missed.profile, Dlt645Profile):
        return Heard()
    try:
        return await discover(transact, missed.profile, max_requests=requests)
    except TransportError:
        return Heard()
