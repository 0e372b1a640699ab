"""An open association with a DLMS meter: conversations carried and timed, attributes alone and in lists. No driver."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from collector.capabilities import Talk
from collector.dlms_profile import DlmsProfile
from collector.drivers.dlms_carrier import Carrier, drive
from collector.exchange import Answer, Transact
from collector.protocols.conversation import Conversation
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.references import Attribute, DataAccessResult
from collector.protocols.dlms.session import Session
from metering.errors import RefusedError

ITEM_BYTES = 16  # of one item in a list's answer, where it must fit into one APDU
REQUEST_OVERHEAD = 48  # bytes of a ciphered list's request besides its items
ATTRIBUTE_BYTES = 11
# What an object answers that the meter does not have, or does not show to this client.
NOT_THERE = frozenset(
    {
        DataAccessResult.READ_WRITE_DENIED,
        DataAccessResult.OBJECT_UNDEFINED,
        DataAccessResult.OBJECT_CLASS_INCONSISTENT,
        DataAccessResult.OBJECT_UNAVAILABLE,
        DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
    }
)

T = TypeVar("T")


class Timed(NamedTuple, Generic[T]):
    """What a piece of conversation gave, when its first request went out, was answered, and when it was over (us)."""

    value: T
    asked_at: int
    answered_at: int
    ended_at: int

    @property
    def middle(self) -> int:
        """Return the middle of the first exchange: when the meter took its values."""
        return (self.asked_at + self.answered_at) // 2


@dataclass
class Habits:
    """What a meter was found to do otherwise than it agreed to. `lists`: it answers requests for several attributes."""

    lists: bool = True


class DlmsTalk:
    """An association with one meter. `session` makes the conversations that `run` carries."""

    def __init__(self, transact: Transact, carrier: Carrier, session: Session, habits: Habits | None = None) -> None:
        self._habits = habits or Habits()
        # What was learned of the meter in this association, and so needs no second look in it: somebody may program the
        # meter between any two of them, and neither its firmware nor the form of its answers would tell.
        self.learned: set[Hashable] = set()
        self._transact = transact
        self._carrier = carrier
        self.session = session
        self.note: Callable[[bytes], None] | None = None  # told each APDU before it leaves, while somebody wants that

    @property
    def transact(self) -> Transact:
        """Return what carries exchanges."""
        return self._transact

    async def run(self, conversation: Conversation[T], *, turnaround_s: float | None = None) -> Timed[T]:
        """Carry a conversation of the session; `turnaround_s` where the meter thinks longer than it usually does.

        Raises `MeterError`.
        """
        carrier = self._carrier
        first = last = Answer(b"", 0, 0)

        async def send(apdu: bytes) -> bytes:
            nonlocal first, last
            if self.note is not None and apdu:
                self.note(apdu)
            last = await carrier.carry(apdu)
            if not first.pdu:
                first = last
            return last.pdu

        usual = carrier.turnaround_s
        carrier.turnaround_s = turnaround_s or usual
        try:
            value = await drive(conversation, send)
        finally:
            carrier.turnaround_s = usual
        return Timed(value, first.asked_at, first.answered_at, last.answered_at)

    async def get(self, attribute: Attribute) -> Data | DataAccessResult:
        """Return one attribute's value, or why there is none. Raises `MeterError` for everything else."""
        try:
            return (await self.run(self.session.get(attribute))).value
        except RefusedError as error:
            return refusal(error)

    async def get_list(self, attributes: Sequence[Attribute], size: int) -> Timed[list[Data | DataAccessResult]]:
        """Return values, or why there are none, of attributes that fit into one request (see `list_size`).

        A meter that refuses lists although it agreed to them is asked for one after the other from then on.
        """
        if len(attributes) > 1 and size > 1 and self._habits.lists:
            try:
                return await self.run(self.session.get_list(attributes))
            except RefusedError as error:
                if type(error) is not RefusedError:
                    raise
                self._habits.lists = False
        timed: Timed[Data] | None = None
        found: list[Data | DataAccessResult] = []
        for attribute in attributes:
            try:
                one = await self.run(self.session.get(attribute))
            except RefusedError as error:
                found.append(refusal(error))
            else:
                found.append(one.value)
                timed = timed or one
        if timed is None:
            return Timed(found, 0, 0, 0)
        return Timed(found, timed.asked_at, timed.answered_at, timed.ended_at)

    async def get_many(self, attributes: Sequence[Attribute], profile: DlmsProfile) -> list[Data | DataAccessResult]:
        """Return values, or why there are none, of any number of attributes. Raises `MeterError` else."""
        size = self.list_size(profile)
        found: list[Data | DataAccessResult] = []
        for begin in range(0, len(attributes), size):
            found += (await self.get_list(attributes[begin : begin + size], size)).value
        return found

    def list_size(self, profile: DlmsProfile) -> int:
        """Return how many attributes go into one request: 1 where the meter takes no lists."""
        negotiated = self.session.negotiated
        if not self._habits.lists or not negotiated.conformance & Conformance.MULTIPLE_REFERENCES:
            return 1
        size = profile.list_size
        if negotiated.server_max_pdu:
            size = min(size, (negotiated.server_max_pdu - REQUEST_OVERHEAD) // ATTRIBUTE_BYTES)
        if not negotiated.conformance & Conformance.BLOCK_GET:
            size = min(size, (profile.max_pdu - REQUEST_OVERHEAD) // ITEM_BYTES)
        return max(1, size)


def refusal(error: RefusedError) -> DataAccessResult:
    """Return the data-access-result that a refusal is; another refusal (a busy meter, no association) is raised."""
    if type(error) is not RefusedError:
        raise error
    try:
        return DataAccessResult(error.code)
    except ValueError:
        raise error from None


def own_talk(talk: Talk) -> DlmsTalk:
    """Return the conversation as this driver's own.

    Raises:
        TypeError: it belongs to another driver.

    """
    if not isinstance(talk, DlmsTalk):
        raise TypeError("a conversation with a DLMS meter is wanted")
    return talk
