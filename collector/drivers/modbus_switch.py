"""The load switch of a Modbus meter (capability `SupplySwitch`): a command point and a status point. Has no policy.

Modbus has no standard for it: both points are the model's. A write is confirmed by an echo, which proves that it was
heard; how the relay is, the status point says. An order goes out once.
"""

from collections.abc import Sequence

from collector.capabilities import Limits, Order, SentFrame, Talk
from collector.drivers.modbus import ModbusDriver, ModbusReader
from collector.drivers.supply_values import largest, register_names
from collector.exchange import Exchange
from collector.profile import Profile, Supply
from collector.protocols.modbus import (
    ILLEGAL_FUNCTION,
    check_reply,
    read_request,
    reply_length,
    write_coil_request,
    write_register_request,
)
from collector.supply_rules import Never, Step, contact
from metering.errors import ConfigError, FrameError, MeterError, NoAnswerError, RefusedError
from metering.model import Block, Source
from metering.supply import Action, SupplyState

SAID_NO = frozenset({1, 2, 3, 6})  # exceptions with which a meter says that it did nothing (V1.1b3 section 7)
BIT_READS = frozenset({1, 2})
SWITCHING = frozenset({Action.DISCONNECT, Action.RESTORE, Action.RECONNECT, Action.ARM, Action.READ_STATE})


class ModbusSwitch:
    """The switch of one meter.

    Raises:
        ConfigError: the meter's profile has no `[supply]`, or no identity: it can be given no command.

    """

    limits = False

    def __init__(self, profile: Profile, device: str, unit: int) -> None:
        if profile.supply is None:
            raise ConfigError(f"the profile {profile.name} has no load switch")
        if profile.identity is None:
            raise ConfigError(f"the profile {profile.name} has no identity: nobody could tell which meter is switched")
        self._profile = profile
        self._supply: Supply = profile.supply
        self._device = device
        self._unit = unit
        self._driver = ModbusDriver(profile, device, unit)
        self._registers = self._reader(register_names(profile.points, profile.supply.registers))
        self._load_side = self._reader(profile.supply.load_side)
        self._current = self._reader(profile.supply.current)

    async def identities(self, talk: Talk) -> frozenset[str]:
        """Return the serial number that it shows. Raises `MeterError`."""
        return frozenset({f"serial:{await self._driver.identify(talk)}"})

    async def state(self, talk: Talk) -> SupplyState:
        """Return how the status point shows the relay.

        Raises:
            FrameError: it shows neither open nor closed.
            MeterError: it could not be read.

        """
        place = self._supply.status
        pdu = read_request(place.function, place.address, 1)
        data = await self._exchange(talk, pdu)
        value = data[0] & 1 if place.function in BIT_READS else int.from_bytes(data, "big") & place.mask
        if value not in {place.open, place.closed}:
            raise FrameError(f"its relay shows {value}, neither open nor closed", meter=self._device)
        load_side, current = await largest(self._load_side, talk), await largest(self._current, talk)
        return SupplyState(output=value == place.closed, load_side_v=load_side, load_a=current)

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        """Return what is to be done in this state."""
        del limit_w
        return contact(action, state) if action in SWITCHING else Never(f"this meter knows no {action}")

    async def registers(self, talk: Talk, *, into: list[Block]) -> None:
        """Append the registers that belong to a command. Raises `MeterError`."""
        if self._registers is not None:
            await self._registers.read(talk, slot=None, source=Source.COMMAND, into=into)

    async def settings(self, talk: Talk) -> Limits:
        """Raise `RefusedError`: there is no limiter."""
        del talk
        raise RefusedError("this meter has no limiter", code=ILLEGAL_FUNCTION, meter=self._device)

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        """Return that nothing trips: there is no limiter."""
        del state, settings
        return "it has no limiter"

    async def act(self, talk: Talk, order: Order, sent: list[SentFrame]) -> None:
        """Write the command point, once.

        Raises:
            RefusedError: the meter said no: nothing happened.
            NoAnswerError: it said that it failed, or a gateway before it that it was not heard: it may have acted.
            MeterError: nobody knows whether it happened.

        """
        place = self._supply.command
        value = place.open if order.action is Action.DISCONNECT else place.closed
        if place.kind == "coil":
            pdu = write_coil_request(place.address, on=bool(value))
        else:
            pdu = write_register_request(place.address, value)
        sent.append(SentFrame(bytes((self._unit,)) + pdu))
        try:
            await self._exchange(talk, pdu, once=True)
        except RefusedError as error:
            if error.code not in SAID_NO:
                raise NoAnswerError(f"exception {error.code} after an order: {error}", meter=self._device) from None
            raise

    async def _exchange(self, talk: Talk, pdu: bytes, *, once: bool = False) -> bytes:
        exchange = Exchange(self._unit, pdu, reply_length(pdu), self._profile.turnaround, once=once)
        try:
            return check_reply(pdu, (await talk.transact(exchange)).pdu)
        except MeterError as error:
            error.meter = error.meter or self._device
            raise

    def _reader(self, names: Sequence[str]) -> ModbusReader | None:
        return ModbusReader(self._profile, self._device, self._unit, names) if names else None
