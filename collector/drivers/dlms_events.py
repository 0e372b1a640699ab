"""Reads a DLMS meter's event logs and status registers as events (capability `EventReader`). Remembers no log."""

from collections.abc import Callable

import structlog

from collector.capabilities import Talk
from collector.dlms_tables import EventsSpec, StatusSpec, event_of
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_buffer import Buffer, BufferSpec, Piece
from collector.drivers.dlms_rows import to_events
from collector.drivers.dlms_talk import NOT_THERE, DlmsTalk, own_talk
from collector.drivers.dlms_values import word_of
from collector.protocols.dlms.references import Attribute, DataAccessResult
from metering import timing
from metering.errors import MeterError, RefusedError
from metering.model import SECOND, Event

AHEAD_S = 86_400  # how far a meter's clock may be ahead of ours, and its events are still asked for
PIECE_ROWS = 100

logger = structlog.get_logger(__name__)


class DlmsEvents:
    """The event logs and status registers of one meter; what it lacks is told once and left out from then on.

    A register tells no time: its event is of the read that first saw the bit set (`detail` says `seen`). `words` are
    the registers as they were read last. `now` gives our own time in UTC us.
    """

    def __init__(self, driver: DlmsDriver, *, now: Callable[[], int] = timing.now) -> None:
        self._driver = driver
        self._now = now
        profile = driver.profile
        self._logs = [(spec, Buffer(driver, _buffer_spec(spec))) for spec in profile.events]
        self._registers = list(profile.status)
        self.words: dict[str, int] = {}
        self._missing: set[str] = set()

    async def read_events(self, talk: Talk, since: int, *, into: list[Event]) -> None:
        """Append the events at or after `since` that the meter still has. Raises `MeterError`."""
        own = own_talk(talk)
        try:
            for spec, buffer in self._logs:
                if spec.name not in self._missing:
                    await self._read_log(own, spec, buffer, since, into)
            for register in self._registers:
                if register.name not in self._missing:
                    await self._read_register(own, register, into)
        except MeterError as error:
            error.meter = error.meter or self._driver.device
            raise

    async def _read_log(self, talk: DlmsTalk, spec: EventsSpec, buffer: Buffer, since: int, into: list[Event]) -> None:
        pieces: list[Piece] = []
        try:
            await buffer.learn(talk)
            await buffer.between(talk, since - SECOND, self._now() + AHEAD_S * SECOND, PIECE_ROWS, pieces)
        except RefusedError as error:
            if type(error) is not RefusedError or error.code not in NOT_THERE:
                raise
            self._lacks(spec.name, spec.obis, str(error))
        finally:
            if buffer.shape is not None:
                for piece in pieces:
                    events = to_events(piece.rows, buffer.shape, spec, self._driver.device, piece.ended_at)
                    into.extend(event for event in events if event.time >= since)

    async def _read_register(self, talk: DlmsTalk, spec: StatusSpec, into: list[Event]) -> None:
        timed = await talk.get_list([Attribute(1, spec.obis, 2)], 1)
        answer = timed.value[0]
        if isinstance(answer, DataAccessResult):
            if answer in NOT_THERE:
                self._lacks(spec.name, spec.obis, answer.words)
            return
        word = word_of(answer.value)
        before = self.words.get(spec.name, 0)
        self.words[spec.name] = word
        for bit, name in spec.bits.items():
            if word & ~before & 1 << bit:
                event = event_of(name)
                detail = {"register": spec.name, "bit": str(bit), "seen": "by its register"}
                into.append(Event(self._driver.device, timed.middle, event.code, event.name, timed.ended_at, detail))

    def _lacks(self, name: str, obis: str, reason: str) -> None:
        self._missing.add(name)
        logger.warning(
            "the meter lacks an event log or register of its profile",
            meter=self._driver.device,
            name=name,
            obis=obis,
            reason=reason,
        )


def _buffer_spec(spec: EventsSpec) -> BufferSpec:
    return BufferSpec(
        spec.name, spec.obis, spec.columns, "none", spec.access, range_object=spec.range_object, scaled=False
    )
