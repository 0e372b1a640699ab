"""One DLMS meter: how it is spoken to, associations, and what is known of it by now. Reads nothing by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from zoneinfo import ZoneInfo

import structlog

from collector.capabilities import Talk
from collector.dlms_profile import DlmsProfile
from collector.dlms_tables import ClockSpec
from collector.drivers.dlms_access import DlmsAccess
from collector.drivers.dlms_carrier import Carrier, DlmsLine, HdlcCarrier, WrapperCarrier, drive
from collector.drivers.dlms_shape import ScalerUnit, parse_scaler_unit
from collector.drivers.dlms_talk import DlmsTalk, Habits, own_talk
from collector.drivers.dlms_times import MeterTime
from collector.drivers.dlms_values import identity_text
from collector.exchange import Speed, Transact
from collector.keys import InvocationCounter, MeterKeys
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.errors import CounterTooLowError
from collector.protocols.dlms.objects import parse_push_objects
from collector.protocols.dlms.references import Attribute, CaptureObject, DataAccessResult
from collector.protocols.dlms.session import Association, Session
from metering.errors import AuthError, FrameError, MeterError, RefusedError, TransportError

PUSH_CLASS, PUSH_OBJECTS = 40, 2
CLOSE_LIMIT_S = 3.0  # release and disconnect together: a courtesy

logger = structlog.get_logger(__name__)


class DlmsDriver:
    """One meter (capability `Driver`).

    `keys` are its secrets and `counter` its invocation counter for our client title (None: it uses none). `zone` is
    that of its clock where it sends no deviation. Scalers and capture objects are read in each association in which
    numbers are: a meter that somebody programmed since would be billed by another power of ten.
    """

    def __init__(
        self,
        device: str,
        profile: DlmsProfile,
        line: DlmsLine,
        access: DlmsAccess,
        keys: MeterKeys,
        counter: InvocationCounter | None = None,
        *,
        zone: ZoneInfo,
    ) -> None:
        self.device = device
        self.profile = profile
        self.line = line
        self.access = access
        self._association = access.association(profile.max_pdu)
        self.time = MeterTime(profile.clock or ClockSpec(), zone)
        self.firmware: str | None = None  # None: not asked yet; empty: it has none
        self.scalers: dict[Attribute, ScalerUnit | None] = {}  # as read last; None: the meter has none there
        self.system_title = access.system_title  # the meter's, as settings or it itself say
        self.pushes: dict[str, tuple[CaptureObject, ...]] = {}  # what it pushes, by push setup
        self.keys = keys
        self._counter = counter
        self._habits = Habits()
        self._speed: Speed | None = None  # that mode E came to
        self._broken = False  # the last conversation ended in the middle: what is on the wire may be its rest

    # --- conversations ------------------------------------------------------------------------------------------------

    def talk(self, transact: Transact) -> AbstractAsyncContextManager["DlmsTalk"]:
        """Open an association; it is released at the end, whatever happened. See `Driver.talk`."""
        return self._talk(transact)

    @asynccontextmanager
    async def _talk(self, transact: Transact) -> AsyncIterator[DlmsTalk]:
        counter = self._counter if self.access.counted else None
        try:
            if counter is not None and (self.access.read_counter or not counter.known):
                await self._learn_counter(transact, counter)
            try:
                opened = await self._associated(transact, self._association, counter)
            except CounterTooLowError as error:
                # Its word is believed as far as a counter read without authentication is: once, and within bounds.
                if counter is None or not error.expected:
                    raise
                counter.raise_to(error.expected)
                opened = await self._associated(transact, self._association, counter)
            async with self._until_released(*opened) as talk:
                yield talk
        except MeterError as error:
            error.meter = error.meter or self.device
            raise

    async def _associated(
        self, transact: Transact, association: Association, counter: InvocationCounter | None
    ) -> tuple[DlmsTalk, Carrier]:
        """Return an open association and the way that it goes. Raises `MeterError`."""
        carrier = self._carrier(transact, association.client)
        session = Session(association, self.keys, counter, limit=self.profile.max_reply)
        self._broken = True
        try:
            await carrier.open()
            await drive(session.associate(), _sender(carrier))
        except (AuthError, RefusedError):
            # The meter spoke, and said no: the way is in order and is left so.
            self._broken = False
            await self._courtesy(carrier)
            raise
        self._broken = False
        if counter is not None:
            self.system_title = session.negotiated.server_title or self.system_title
        if isinstance(carrier, HdlcCarrier):
            self._speed = carrier.speed
        return DlmsTalk(transact, carrier, session, self._habits), carrier

    @asynccontextmanager
    async def _until_released(self, talk: DlmsTalk, carrier: Carrier) -> AsyncIterator[DlmsTalk]:
        try:
            yield talk
        except (TransportError, FrameError):
            self._broken = True
            raise
        except MeterError:  # the meter said no, and the association is as good as before
            raise
        except BaseException:  # cancelled, or a mistake of ours: nothing more is said on this wire
            self._broken = True
            raise
        finally:
            if not self._broken:
                await self._farewell(talk, carrier)

    async def _farewell(self, talk: DlmsTalk, carrier: Carrier) -> None:
        """Release the association and the link, if that is done quickly. What goes wrong makes the next start anew."""
        self._broken = True
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await talk.run(talk.session.release())
                await carrier.close()
        except (MeterError, TimeoutError) as error:
            logger.debug("an association was not released", meter=self.device, reason=str(error))
        else:
            self._broken = False

    async def _courtesy(self, carrier: Carrier) -> None:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await carrier.close()
        except (MeterError, TimeoutError):
            self._broken = True

    async def _learn_counter(self, transact: Transact, counter: InvocationCounter) -> None:
        try:
            await self._read_counter(transact, counter)
        except RefusedError:
            if counter.known or not counter.skip():
                raise

    async def _read_counter(self, transact: Transact, counter: InvocationCounter) -> None:
        """Ask the meter, without authentication, which invocation counter it saw last, and go beyond it.

        Raises:
            AuthError: it is too far ahead to be believed.
            MeterError: it does not tell.

        """
        public = self.access.public().association(self.profile.max_pdu)
        async with self._until_released(*await self._associated(transact, public, None)) as talk:
            timed = await talk.run(talk.session.get(Attribute(1, self.access.counter_obis, 2)))
        value = timed.value.value
        if not isinstance(value, int) or isinstance(value, bool):
            raise FrameError(f"{self.access.counter_obis} shows no invocation counter")
        counter.raise_to(value + 1)

    def _carrier(self, transact: Transact, client: int) -> Carrier:
        profile, access = self.profile, self.access
        if self.line.transport == "wrapper":
            return WrapperCarrier(
                transact, client, access.server, profile.turnaround, profile.max_reply, fresh=self._broken
            )
        return HdlcCarrier(
            transact,
            self.line,
            client,
            access.hdlc_address,
            profile.turnaround,
            profile.max_reply,
            info=profile.hdlc.info,
            window=profile.hdlc.window,
            fresh=self._broken,
            speed=self._speed,
        )

    # --- what is known of the meter -----------------------------------------------------------------------------------

    async def identify(self, talk: Talk) -> str | None:
        """Return the serial number that the meter shows; None where it has none.

        Its firmware is looked at as well, and what it pushes.
        """
        own = own_talk(talk)
        await self.look_at_firmware(own)
        for spec in self.profile.push:
            if spec.obis not in self.pushes:
                answer = await own.get(Attribute(PUSH_CLASS, spec.obis, PUSH_OBJECTS))
                self.pushes[spec.obis] = () if isinstance(answer, DataAccessResult) else parse_push_objects(answer)
        if self.profile.identity is None:
            return None
        answer = await own.get(Attribute(1, self.profile.identity, 2))
        return None if isinstance(answer, DataAccessResult) else identity_text(answer)

    async def device_name(self, talk: Talk) -> str | None:
        """Return the logical device name, which a meter also pushes under; None where it has none."""
        if self.profile.device_name is None:
            return None
        answer = await own_talk(talk).get(Attribute(1, self.profile.device_name, 2))
        return None if isinstance(answer, DataAccessResult) else identity_text(answer)

    async def look_at_firmware(self, talk: DlmsTalk) -> None:
        """Read the firmware's id. Where it changed, what was learned of the meter is forgotten. Raises `MeterError`."""
        found = ""
        if self.profile.firmware is not None:
            answer = await talk.get(Attribute(1, self.profile.firmware, 2))
            found = "" if isinstance(answer, DataAccessResult) else str(answer.value)
        if self.firmware is not None and found != self.firmware:
            logger.info("the meter has another firmware now: its scalers are read anew", meter=self.device)
            self.scalers = {}
            self.pushes = {}
            talk.learned.clear()
        self.firmware = found

    async def learn_scalers(
        self, talk: DlmsTalk, attributes: Sequence[Attribute], beside: Sequence[Attribute] = ()
    ) -> list[Data | DataAccessResult]:
        """Read those scalers and units that were not read in this association; return what was asked for `beside`.

        Raises `MeterError`.
        """
        unknown = [attribute for attribute in dict.fromkeys(attributes) if attribute not in talk.learned]
        answers = await talk.get_many([*beside, *unknown], self.profile)
        for attribute, answer in zip(unknown, answers[len(beside) :], strict=True):
            self.scalers[attribute] = self._scaler(attribute, answer)
            talk.learned.add(attribute)
        return answers[: len(beside)]

    def _scaler(self, attribute: Attribute, answer: Data | DataAccessResult) -> ScalerUnit | None:
        # Without its scaler a number means nothing: one that was there is not gone because of a bad moment.
        if answer is DataAccessResult.TEMPORARY_FAILURE or (
            isinstance(answer, DataAccessResult) and self.scalers.get(attribute) is not None
        ):
            raise RefusedError(f"{attribute}: {answer.words}", code=answer, meter=self.device)
        if isinstance(answer, DataAccessResult):
            return None
        try:
            return parse_scaler_unit(answer)
        except FrameError as error:
            logger.warning("an object has no scaler", meter=self.device, object=str(attribute), reason=str(error))
            return None


def _sender(carrier: Carrier) -> Callable[[bytes], Awaitable[bytes]]:
    async def send(apdu: bytes) -> bytes:
        return (await carrier.carry(apdu)).pdu

    return send
