"""The supply of a DLMS meter (capability `SupplySwitch`): disconnect control and limiter. When it acts others decide.

Blue Book classes 70 and 71. control_mode is never written. An order goes out once: neither bus nor carrier repeats it.
"""

from collections.abc import Sequence

from collector.capabilities import Limits, Order, SentFrame, Talk
from collector.dlms_tables import SupplySpec
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_objects import read_object
from collector.drivers.dlms_reader import DlmsReader
from collector.drivers.dlms_talk import DlmsTalk, own_talk
from collector.drivers.dlms_values import identity_text
from collector.drivers.supply_values import largest, register_names
from collector.protocols.conversation import Conversation
from collector.protocols.dlms import axdr
from collector.protocols.dlms.objects import DisconnectControl, Limiter
from collector.protocols.dlms.references import Attribute, DataAccessResult, Method
from collector.supply_rules import Never, Step, class70, limiter, trip70
from metering.errors import ConfigError, RefusedError
from metering.model import Block, Source
from metering.supply import Action, SupplyState

REMOTE_DISCONNECT, REMOTE_RECONNECT = 1, 2  # methods of class 70
THRESHOLD_NORMAL, OVER_DURATION, OVER_ACTION = 4, 6, 11  # attributes of class 71
DISCONNECT_SCRIPT = 1  # of the disconnector's script table, 0-0:10.0.106: 1 disconnects, 2 reconnects
SECURITY_SETUP, SERVER_TITLE = "0-0:43.0.0*255", 5  # class 64: the meter's own system title
WATT = 27  # unit of the Blue Book's list
LARGEST = 0xFFFF_FFFF  # a threshold of type double-long-unsigned


class DlmsSwitch:
    """The supply of one meter.

    Raises:
        ConfigError: the meter's profile has no `[supply]`.

    """

    def __init__(self, driver: DlmsDriver) -> None:
        spec = driver.profile.supply
        if spec is None:
            raise ConfigError(f"the profile {driver.profile.name} has no supply that could be switched")
        self._driver = driver
        self._spec: SupplySpec = spec
        self._registers = DlmsReader(driver, register_names(driver.profile.points, spec.registers))
        self._load_side = self._reader(spec.load_side)
        self._current = self._reader(spec.current)

    @property
    def limits(self) -> bool:
        """Tell whether it has a limiter."""
        return self._spec.limiter is not None

    async def identities(self, talk: Talk) -> frozenset[str]:
        """Return its system title and its serial number, as far as it tells them.

        Raises:
            RefusedError: it tells neither.
            MeterError: as `DlmsTalk.run`.

        """
        own = own_talk(talk)
        found = set()
        title = own.session.negotiated.server_title or await self._title(own)
        if title:
            found.add(f"title:{title.hex()}")
        if self._driver.profile.identity is not None:
            answer = await own.get(Attribute(1, self._driver.profile.identity, 2))
            if not isinstance(answer, DataAccessResult):
                found.add(f"serial:{identity_text(answer)}")
        if not found:
            raise RefusedError(
                "the meter does not tell who it is", code=DataAccessResult.OBJECT_UNDEFINED, meter=self._driver.device
            )
        return frozenset(found)

    async def state(self, talk: Talk) -> SupplyState:
        """Return output_state, control_state, control_mode and the active threshold. Raises `MeterError`."""
        own = own_talk(talk)
        state = SupplyState()
        if self._spec.switch is not None:
            read = await read_object(own, DisconnectControl, self._spec.switch)
            state = SupplyState(read.output, int(read.state), read.mode)
        fields = {name: getattr(state, name) for name in ("output", "control", "mode")}
        if self._spec.limiter is not None:
            limit, exponent = await self._limiter(own)
            fields["limit_w"] = self._watts(limit.threshold, exponent)
        load_side, current = await largest(self._load_side, own), await largest(self._current, own)
        return SupplyState(**fields, load_side_v=load_side, load_a=current)

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        """Return what is to be done in this state."""
        if action in {Action.LIMIT, Action.UNLIMIT}:
            return limiter(action, state, limit_w) if self.limits else Never("this model has no limiter")
        if action in {Action.KEEP_POWER_ON, Action.KEEP_POWER_OFF}:
            return Never("a DLMS meter knows no keep-power")
        return class70(action, state) if self._spec.switch is not None else Never("this model has no switch")

    async def registers(self, talk: Talk, *, into: list[Block]) -> None:
        """Append the registers that belong to a command. Raises `MeterError`."""
        await self._registers.read(talk, slot=None, source=Source.COMMAND, into=into)

    async def settings(self, talk: Talk) -> Limits:
        """Return the limiter's normal threshold, durations and what it does when it trips. Raises `MeterError`."""
        read, exponent = await self._limiter(own_talk(talk))
        values = {
            THRESHOLD_NORMAL: read.normal,
            OVER_DURATION: read.over_s,
            7: read.under_s,
            OVER_ACTION: read.over.selector,
        }
        return Limits(values, self._watts(read.normal, exponent))

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        """Return what it does above its threshold, after how long, and who can close its switch then."""
        opens = settings.values.get(OVER_ACTION) == DISCONNECT_SCRIPT
        return trip70(state, settings.values.get(OVER_DURATION, 0), opens=opens)

    async def act(self, talk: Talk, order: Order, sent: list[SentFrame]) -> None:
        """Send an order, once.

        Raises:
            RefusedError: the meter said no, or cannot be limited so: nothing happened.
            MeterError: nobody knows whether it happened.

        """
        own = own_talk(talk)
        if order.action in {Action.LIMIT, Action.UNLIMIT}:
            place = Attribute(Limiter.CLASS_ID, self._obis(self._spec.limiter), THRESHOLD_NORMAL)
            value = axdr.u32(await self._threshold(own, order))
            await _send(own, own.session.set(place, value), sent)
            return
        method = REMOTE_DISCONNECT if order.action is Action.DISCONNECT else REMOTE_RECONNECT
        place70 = Method(DisconnectControl.CLASS_ID, self._obis(self._spec.switch), method)
        await _send(own, own.session.action(place70, axdr.i8(0)), sent)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _title(self, talk: DlmsTalk) -> bytes:
        answer = await talk.get(Attribute(64, SECURITY_SETUP, SERVER_TITLE))
        return b"" if isinstance(answer, DataAccessResult) or not isinstance(answer.value, bytes) else answer.value

    async def _limiter(self, talk: DlmsTalk) -> tuple[Limiter, int]:
        """Return the limiter and the decimal exponent of its thresholds in W.

        Raises:
            RefusedError: what it watches is not in W.

        """
        read = await read_object(talk, Limiter, self._obis(self._spec.limiter))
        await self._driver.learn_scalers(talk, [scaler := Attribute(read.watched.class_id, read.watched.obis, 3)])
        found = self._driver.scalers.get(scaler)
        if found is None or found.unit != WATT:
            raise self._refused(f"its limiter watches {read.watched}, which has no scaler in W")
        return read, found.scaler

    def _watts(self, threshold: int, exponent: int) -> int | None:
        if threshold in self._spec.no_limit:
            return None
        return threshold * int(10**exponent) if exponent >= 0 else threshold // int(10**-exponent)

    async def _threshold(self, talk: DlmsTalk, order: Order) -> int:
        read, exponent = await self._limiter(talk)
        if order.action is Action.UNLIMIT:
            return order.back.values[THRESHOLD_NORMAL] if order.back is not None else self._spec.no_limit[0]
        if not read.over.selector:
            raise self._refused("its limiter does nothing when it trips: its actions are not set")
        watts = order.limit_w or 0
        value = watts // int(10**exponent) if exponent >= 0 else watts * int(10**-exponent)
        if value in self._spec.no_limit or value > LARGEST or self._watts(value, exponent) != watts:
            raise self._refused(f"{watts} W is no threshold of this meter: it counts in 10^{exponent} W")
        return value

    def _reader(self, names: Sequence[str]) -> DlmsReader | None:
        return DlmsReader(self._driver, names) if names else None

    def _obis(self, obis: str | None) -> str:
        if obis is None:
            raise self._refused("this model has no such object")
        return obis

    def _refused(self, why: str) -> RefusedError:
        return RefusedError(why, code=DataAccessResult.OTHER_REASON, meter=self._driver.device)


async def _send(talk: DlmsTalk, conversation: Conversation[object], sent: list[SentFrame]) -> None:
    """Carry an order. Its APDUs hold no credential (a password goes with the association alone) and are noted whole."""
    talk.note = lambda apdu: sent.append(SentFrame(apdu))
    try:
        await talk.run(conversation)
    finally:
        talk.note = None
