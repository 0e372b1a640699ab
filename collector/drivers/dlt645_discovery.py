"""Finds the addresses of the DL/T 645 meters on a line by the wildcard; where they collide, pair by pair of digits.

For the person who installs: it sends many requests that nobody answers, and is not for a bus in service.
"""

import contextlib

from collector.dlt645_profile import Dlt645Profile
from collector.exchange import Exchange, Transact
from collector.protocols.dlt645.frame import WILDCARD, station
from collector.protocols.dlt645.identifiers import READ_ADDRESS
from collector.protocols.dlt645.reading import answer_length
from collector.protocols.dlt645.receiver import Listener
from collector.protocols.dlt645.writes import address_request
from metering.errors import FrameError, NoAnswerError

MAX_REQUESTS = 1_300  # of one search: three pairs of digits for four meters whose addresses differ late
_ADDRESS = 6  # bytes, each a pair of digits


class Heard:
    """What a search found: the meters' addresses, and whether it ended before all was told apart."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.requests = 0
        self.complete = True


async def discover(transact: Transact, profile: Dlt645Profile, *, max_requests: int = MAX_REQUESTS) -> Heard:
    """Return the addresses on a line.

    The wildcard is asked first. Where what comes is damaged (several meters spoke at once) the lowest pair of digits
    is tried from 00 to 99, and so on pair by pair where they still collide.

    Raises:
        TransportError: the line cannot be reached.

    """
    heard = Heard()
    waiting = [""]  # the low pairs, as shown, that meters are still looked for under
    while waiting:
        if heard.requests >= max_requests:
            heard.complete = False
            break
        low = waiting.pop(0)
        listener = await _listen(transact, profile, WILDCARD[: 12 - len(low)] + low)
        heard.requests += 1
        heard.addresses += [address for address in listener.addresses if address not in heard.addresses]
        if listener.damaged and len(low) < 2 * _ADDRESS:
            waiting += [f"{pair:02d}{low}" for pair in range(100)]
    heard.addresses.sort()
    return heard


async def _listen(transact: Transact, profile: Dlt645Profile, address: str) -> Listener:
    """Ask for addresses and hear everything until the time is over."""
    listener = Listener(READ_ADDRESS)
    pdu = address_request(address).to_bytes(profile.wake)
    length = answer_length(_ADDRESS, wake=profile.wake)
    exchange = Exchange(station(address), pdu, length, profile.turnaround, receiver=listener, once=True)
    # The listener is never content: the end of the time is the end of the answers.
    with contextlib.suppress(NoAnswerError, FrameError):
        await transact(exchange)
    return listener
