"""The load switch of a DL/T 645 meter (capability `SupplySwitch`): 1CH, and status word 3 read back. Has no policy.

A good answer (9CH) only says that the meter heard: how the switch is, its status word says. An order goes out once.
"""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from collector.capabilities import Limits, Order, SentFrame, Talk
from collector.command_cipher import CommandCipher
from collector.dlt645_profile import Dlt645Profile
from collector.dlt645_tables import Supply
from collector.drivers.dlt645 import Dlt645Reader
from collector.drivers.dlt645_talk import Dlt645Talk, own
from collector.drivers.supply_values import largest, register_names
from collector.keys import MeterKeys
from collector.protocols.dlt645.errors import NOT_AUTHORISED
from collector.protocols.dlt645.status import parse_word, switch_state
from collector.protocols.dlt645.times import from_utc
from collector.protocols.dlt645.writes import PASSWORD, Switch, control_block, control_request, sealed_request
from collector.supply_rules import Never, Step, relay645
from metering.errors import AuthError, ConfigError, RefusedError
from metering.model import Block, Source
from metering.supply import Action, SupplyState

STATUS_BYTES = 2
SWITCHES = {
    Action.DISCONNECT: Switch.TRIP,
    Action.ARM: Switch.PERMIT_CLOSE,
    Action.RECONNECT: Switch.CLOSE,
    Action.KEEP_POWER_ON: Switch.KEEP_POWER,
    Action.KEEP_POWER_OFF: Switch.KEEP_POWER_OFF,
}
CLOSES = {"permit": Action.ARM, "direct": Action.RECONNECT}


class Dlt645Switch:
    """The switch of one meter. `cipher` is the encryption machine of those that take no command by password.

    Raises:
        ConfigError: the meter's profile has no `[supply]`.

    """

    limits = False

    def __init__(
        self,
        profile: Dlt645Profile,
        device: str,
        address: str,
        keys: MeterKeys | None = None,
        cipher: CommandCipher | None = None,
    ) -> None:
        if profile.supply is None:
            raise ConfigError(f"the profile {profile.name} has no load switch")
        self._profile = profile
        self._supply: Supply = profile.supply
        self._device = device
        self._address = address
        self._keys = keys
        self._cipher = cipher
        self._closes = [CLOSES[each] for each in profile.supply.closes]
        self._registers = self._reader(register_names(profile.points, profile.supply.registers))
        self._load_side = self._reader(profile.supply.load_side)
        self._current = self._reader(profile.supply.current)

    async def identities(self, talk: Talk) -> frozenset[str]:
        """Return the address at which it answers, and with which its answer is signed. Raises `MeterError`."""
        mine = own(talk)
        await mine.read(self._supply.status, STATUS_BYTES)
        return frozenset({f"address:{mine.address}"})

    async def state(self, talk: Talk) -> SupplyState:
        """Return what status word 3 says. Raises `MeterError`."""
        mine = own(talk)
        word = switch_state(parse_word((await mine.read(self._supply.status, STATUS_BYTES)).data))
        return SupplyState(
            output=not word.relay_open,
            ordered_open=word.open_commanded,
            keep_power=word.keep_power,
            load_side_v=await largest(self._load_side, talk),
            load_a=await largest(self._current, talk),
        )

    def plan(self, action: Action, state: SupplyState, limit_w: int | None = None) -> Step:
        """Return what is to be done in this state."""
        del limit_w
        if action in {Action.LIMIT, Action.UNLIMIT}:
            return Never("this meter has no limiter that is set from afar")
        wanted = self._closes[0] if action is Action.RESTORE else action
        return relay645(wanted, state, closes=frozenset(self._closes))

    async def registers(self, talk: Talk, *, into: list[Block]) -> None:
        """Append the registers that belong to a command. Raises `MeterError`."""
        if self._registers is not None:
            await self._registers.read(talk, slot=None, source=Source.COMMAND, into=into)

    async def settings(self, talk: Talk) -> Limits:
        """Raise `RefusedError`: there is no limiter."""
        del talk
        raise self._refused("this meter has no limiter that is set from afar")

    def at_trip(self, state: SupplyState, settings: Limits) -> str:
        """Return that nothing trips: there is no limiter."""
        del state, settings
        return "it has no limiter"

    async def act(self, talk: Talk, order: Order, sent: list[SentFrame]) -> None:
        """Send an order, once; the meter itself refuses it past `order.until`.

        Raises:
            RefusedError: the meter said no, or takes commands through its encryption machine alone.
            AuthError: the password is missing or wrong, or the meter wants its encryption machine after all.
            MeterError: nobody knows whether it happened.

        """
        mine = own(talk)
        switch = SWITCHES[order.action]
        until = from_utc(order.until, ZoneInfo(self._profile.zone))
        if self._supply.route == "esam":
            await self._sealed(mine, control_block(switch, until), sent)
            return
        if self._keys is None or len(self._keys.password) != PASSWORD:
            raise self._refused("a command needs the meter's password; the key store has none")
        level = self._profile.password_level if self._supply.level is None else self._supply.level
        write = control_request(mine.address, switch, until, self._keys, level)
        sent.append(SentFrame(write.masked(), write.request.to_bytes(wake=0)))
        try:
            await mine.control(write.request)
        except AuthError as error:
            raise AuthError(
                f"{error}; a meter that takes commands through its encryption machine (ESAM) alone answers so, too",
                meter=self._device,
            ) from None

    async def _sealed(self, talk: Dlt645Talk, block: bytes, sent: list[SentFrame]) -> None:
        if self._cipher is None:
            raise self._refused(
                "this meter takes commands through its encryption machine (ESAM) alone, and none is connected: "
                "a command by password would be refused"
            )
        operator = self._keys.operator if self._keys is not None else b""
        request = sealed_request(talk.address, await self._cipher.seal(talk.address, block), operator)
        sent.append(SentFrame(request.to_bytes(wake=0)))
        await talk.control(request)

    def _reader(self, names: Sequence[str]) -> Dlt645Reader | None:
        return Dlt645Reader(self._profile, self._device, self._address, names) if names else None

    def _refused(self, why: str) -> RefusedError:
        return RefusedError(why, code=NOT_AUTHORISED, meter=self._device)
