"""A conversation with one DL/T 645 meter: identifiers read and written over a `Transact`. Knows no points.

The protocol has no association: a conversation is the meter's address and what its profile says about frames.
"""

from typing import NamedTuple

from collector.capabilities import Talk
from collector.dlt645_profile import Dlt645Profile
from collector.exchange import Answer, Exchange, Transact
from collector.keys import MeterKeys
from collector.protocols.dlt645.frame import OVERHEAD, Frame
from collector.protocols.dlt645.identifiers import EDITIONS
from collector.protocols.dlt645.reading import Request, answer_length, checked, read
from collector.protocols.dlt645.writes import write_request
from collector.protocols.modbus_times import character_time
from metering.errors import AuthError, MeterError


class Reply(NamedTuple):
    """What stood behind an identifier, and when its last request went out and was answered (us UTC)."""

    data: bytes
    asked_at: int
    answered_at: int

    @property
    def middle(self) -> int:
        """Return the middle of the exchange."""
        return (self.asked_at + self.answered_at) // 2


class Dlt645Talk:
    """One meter and what carries exchanges to it (capability `Talk`)."""

    def __init__(self, transact: Transact, profile: Dlt645Profile, address: str, device: str) -> None:
        self._transact = transact
        self.profile = profile
        self.address = address
        self.device = device

    @property
    def transact(self) -> Transact:
        """Return what carries exchanges."""
        return self._transact

    async def read(self, di: str, size: int, argument: bytes = b"") -> Reply:
        """Read one identifier with all its follow-up frames; `size` is how many bytes usually stand behind it.

        Raises:
            RefusedError: the meter has no such data, or does not show it.
            FrameError: what came is not the answer.
            TransportError: from the line.

        """
        profile = self.profile
        reading = read(self.address, di, argument, edition=profile.edition, limit=profile.max_answer)
        length = answer_length(min(size, profile.max_data), profile.edition, profile.wake)
        try:
            request = next(reading)
            while True:
                answer = await self._carry(request, length)
                try:
                    request = reading.send(checked(answer.pdu))
                except StopIteration as stop:
                    return Reply(stop.value, answer.asked_at, answer.answered_at)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def ask(self, request: Request, size: int) -> Frame:
        """Do one exchange that is no reading. Raises `MeterError`."""
        try:
            return checked((await self._carry(request, answer_length(size, wake=self.profile.wake))).pdu)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def write(self, di: str, value: bytes, keys: MeterKeys | None) -> None:
        """Write an identifier with the meter's password, once.

        Raises:
            AuthError: there is no password, or it is the wrong one.
            RefusedError: the meter refuses for another reason.

        """
        profile = self.profile
        try:
            if keys is None:
                raise AuthError("a password is needed to write; the key store has none")
            write = write_request(self.address, di, value, keys, profile.password_level, profile.edition)
            length = answer_length(0, wake=profile.wake) - EDITIONS["2007"].size
            checked((await self._carry(write.request, length, once=True)).pdu)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def control(self, request: Request) -> None:
        """Send a control request (1CH), once.

        Raises:
            AuthError: the password is wrong, or the meter takes no command by password.
            RefusedError: the meter refuses for another reason.

        """
        length = answer_length(0, wake=self.profile.wake) - EDITIONS["2007"].size
        try:
            checked((await self._carry(request, length, once=True)).pdu)
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def tell(self, request: Request) -> None:
        """Send what nobody answers, once. Raises `TransportError`."""
        await self._carry(request, 0, once=True)

    async def _carry(self, request: Request, reply_length: int, *, once: bool = False) -> Answer:
        return await self._transact(exchange(self.profile, request, reply_length, once=once))


def exchange(profile: Dlt645Profile, request: Request, reply_length: int, *, once: bool = False) -> Exchange:
    """Return the exchange of one request to a meter of this profile."""
    return Exchange(
        request.unit,
        request.to_bytes(profile.wake),
        reply_length,
        profile.turnaround,
        receiver=request.receiver(profile.max_data) if reply_length else None,  # a broadcast is not answered
        once=once,
    )


def own(talk: Talk) -> Dlt645Talk:
    """Return the conversation as one of ours.

    Raises:
        TypeError: it is another driver's.

    """
    if not isinstance(talk, Dlt645Talk):
        raise TypeError(f"a DL/T 645 conversation is needed, not {type(talk).__name__}")
    return talk


def row_time(profile: Dlt645Profile, requests: int, size: int) -> float:
    """Return about how many seconds `requests` exchanges take on the wire that bring `size` bytes of values."""
    overhead = OVERHEAD + EDITIONS[profile.edition].size + profile.wake
    character = character_time(profile.serial.baud)
    return (2 * requests * overhead + size) * character + requests * profile.turnaround
