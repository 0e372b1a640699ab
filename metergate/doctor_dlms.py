"""Looks for DLMS meters at other addresses, speeds and framings. It opens links and public associations, no others.

On HDLC nothing is sent but what opens and closes a link (SNRM, DISC); over the wrapper the public client knocks, who
has no password: none of that counts as an attempt at a meter.
"""

from collections.abc import AsyncIterator, Iterator, Sequence

from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_access import DlmsAccess
from collector.drivers.dlms_carrier import (
    IDENTIFICATION_BYTES,
    SIGN_ON,
    DlmsLine,
    HdlcCarrier,
    WrapperCarrier,
    drive,
)
from collector.exchange import Answer, Exchange, Transact
from collector.keys import MeterKeys
from collector.links import Link
from collector.protocols.dlms.hdlc import ServerAddress
from collector.protocols.dlms.mode_e import IdentificationReceiver, identify_request, parse_identification
from collector.protocols.dlms.session import Session
from gateway.meters import BusMeter
from metering.errors import AuthError, MeterError, RefusedError

USUAL_SERVERS = (1, 2)
USUAL_PHYSICAL = (17, 16, 1)
SMALL = 0x7F  # the highest part of an address of two bytes
THINKS_S = 0.2  # how long a meter may think about a link before it counts as silent (see `turnaround_limit`)
MAX_PDU = 1024
MAX_REPLY = 2048


async def others(link: Link, missed: BusMeter, known: Sequence[BusMeter]) -> AsyncIterator[str]:
    """Yield the first unknown address at which a meter answers."""
    driver = missed.driver
    if not isinstance(driver, DlmsDriver):
        return
    if driver.line.transport == "wrapper":
        async for found in _other_servers(link, driver.access, known):
            yield found
        return
    if driver.line.start == "mode-e" and not await identification(link):
        return
    taken = {meter.driver.access.hdlc_address for meter in known if isinstance(meter.driver, DlmsDriver)}
    for address in _addresses(driver.access, missed.settings.serial):
        if address not in taken and await _takes_link(link, driver.line, driver.access.client, address):
            yield words(address)
            return


async def here(link: Link, missed: BusMeter, line: DlmsLine) -> str:
    """Return who answers when a meter is spoken to in this way on this link, in words; empty where nobody does."""
    driver = missed.driver
    if not isinstance(driver, DlmsDriver):
        return ""
    access = driver.access
    if line.transport == "wrapper":
        for server in dict.fromkeys((access.server, *USUAL_SERVERS)):
            if await _takes_public(link, server):
                return f"server {server}"
        return ""
    if line.start == "mode-e":
        return await identification(link)
    addresses = (access.hdlc_address, *_addresses(access, missed.settings.serial)) if not link.parameters.baud else ()
    for address in dict.fromkeys(addresses or (access.hdlc_address,)):
        if await _takes_link(link, line, access.client, address):
            return words(address)
    return ""


async def identification(link: Link) -> str:
    """Return who identifies himself at 300 baud 7E1, as IEC 62056-21 begins, in words; empty where nobody does."""
    asked = Exchange(
        0, identify_request(), IDENTIFICATION_BYTES, THINKS_S, IdentificationReceiver(), once=True, speed=SIGN_ON
    )
    try:
        found = parse_identification((await _transact(link)(asked)).pdu)
    except MeterError:
        return ""
    return f"a {found.maker} meter" if found.mode_e else f"a {found.maker} meter without mode E"


def words(address: ServerAddress) -> str:
    """Return an HDLC address as settings say it."""
    physical = f", physical {address.lower}" if address.size > 1 else ""
    return f"server {address.upper}{physical} (address_bytes {address.size})"


def _addresses(access: DlmsAccess, serial: str) -> Iterator[ServerAddress]:
    """Yield where meters usually are, what lies nearest to the settings first."""
    own = access.hdlc_address
    digits = "".join(digit for digit in serial if digit.isdigit())
    made = (int(digits[-4:]) + 1000, int(digits[-2:]) + 16) if len(digits) >= 4 else ()
    sizes = dict.fromkeys((own.size, 1, 2, 4))
    seen = {own}
    for server in dict.fromkeys((own.upper, 1)):
        for size in sizes:
            for physical in (0,) if size == 1 else dict.fromkeys((own.lower or 17, *USUAL_PHYSICAL, *made)):
                address = ServerAddress(server, physical, size)
                fits = max(server, physical) <= SMALL or size == 4
                if fits and address not in seen:
                    seen.add(address)
                    yield address


async def _takes_link(link: Link, line: DlmsLine, client: int, address: ServerAddress) -> bool:
    """Tell whether a meter opens a link there, or says that it does not just now (DM). It is closed again."""
    carrier = HdlcCarrier(_transact(link), line, client, address, THINKS_S, MAX_REPLY, info=128, window=1)
    try:
        await carrier.open()
        await carrier.close()
    except RefusedError:
        return True
    except MeterError:
        return False
    return True


async def _other_servers(link: Link, access: DlmsAccess, known: Sequence[BusMeter]) -> AsyncIterator[str]:
    taken = {meter.driver.access.server for meter in known if isinstance(meter.driver, DlmsDriver)}
    for server in USUAL_SERVERS:
        if server not in taken | {access.server} and await _takes_public(link, server):
            yield f"server {server}"


async def _takes_public(link: Link, server: int) -> bool:
    """Tell whether a logical device answers the public client, with a yes or a no."""
    access = DlmsAccess(server=server)
    carrier = WrapperCarrier(_transact(link), access.client, server, THINKS_S, MAX_REPLY, fresh=True)
    session = Session(access.association(MAX_PDU), MeterKeys(), None)

    async def send(apdu: bytes) -> bytes:
        return (await carrier.carry(apdu)).pdu

    try:
        await drive(session.associate(), send)
        await drive(session.release(), send)
    except (RefusedError, AuthError):
        return True
    except MeterError:
        return False
    return True


def _transact(link: Link) -> Transact:
    async def transact(exchange: Exchange) -> Answer:
        return Answer(await link.exchange(exchange, link.timeout(exchange)), 0, 0)

    return transact
