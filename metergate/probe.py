"""Asks one meter now, for `read` and `doctor`: over a wire of its own, or by listening. Says what to do on failure."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from collector.bus import Bus, Lane
from collector.capabilities import Talk
from collector.dlms_profile import load_dlms_profile
from collector.mqtt import MqttListener
from gateway.dlms_meters import dlms_access, secrets_needed
from gateway.lines import make_bus_meter, make_mqtt_meters, make_mqtt_settings
from gateway.meters import BusMeter
from gateway.secrets import Keys
from gateway.settings import BrokerSettings, MeterSettings
from gateway.settings_bus import PROTOCOLS, SERIAL_BUSES, BusSettings
from gateway.work import MeterWork
from metergate.parts import log_directory
from metergate.site import SiteFile
from metering import timing
from metering.errors import MeterError, NoAnswerError, StorageError
from metering.events import EventType
from metering.model import Block, Source
from storage.files import lock_directory

READ_S = 120.0  # for a whole read, retries included: a slow line and a meter with much to say


class ReadError(MeterError):
    """A read that failed, told for a person: what happened, and what to do."""


def bus_of(site: SiteFile, settings: MeterSettings) -> BusSettings:
    """Return the bus that a meter hangs on."""
    return next(bus for bus in site.bus if bus.id == settings.bus)


def meter_on_bus(site: SiteFile, settings: MeterSettings, keys: Keys | None = None) -> BusMeter:
    """Return a meter with its readers, for one question."""
    return make_bus_meter(site, settings, bus_of(site, settings), lambda _meter, _holes: None, keys)


def owned_by_gateway(site: SiteFile, settings: MeterSettings) -> str:
    """Return what of a meter has one owner, which is the gateway while it runs; empty where nothing has."""
    bus = bus_of(site, settings)
    if isinstance(bus, SERIAL_BUSES):
        return f"the line {bus.port}"
    if PROTOCOLS[bus.kind] == "dlms":
        profile = load_dlms_profile(settings.profile, site.gateway.profiles)
        access = dlms_access(site, settings, profile)
        if access.counted:
            return "the meter's invocation counter"
        if secrets_needed(access):  # the gateway would not know what an attempt of ours came to
            return "the meter's password"
    return ""


async def read_meter(bus: Bus, meter: BusMeter, keys: Keys | None = None) -> list[Block]:
    """Return all values of a meter, its serial number checked first.

    Raises:
        MeterError: it could not be read; `metergate.advice` says what to do.

    """
    blocks: list[Block] = []
    await converse(bus, meter, keys, partial(meter.everything.read, slot=None, source=Source.ON_DEMAND, into=blocks))
    return blocks


async def converse(bus: Bus, meter: BusMeter, keys: Keys | None, job: Callable[[Talk], Awaitable[None]]) -> None:
    """Run `job` in a conversation with a meter as the gateway would: what it refuses is noted in the key store.

    Raises:
        MeterError: it failed, or took longer than `READ_S`.

    """
    work = MeterWork({meter.settings.bus or "": bus}, _raise_nothing, keys)
    try:
        async with asyncio.timeout(READ_S):
            await work.work_on(meter, Lane.ON_DEMAND, job)
    except TimeoutError:
        raise NoAnswerError(f"not read within {READ_S:.0f} s", meter=meter.id) from None


def _raise_nothing(kind: EventType, device: str = "", **detail: str) -> None:
    """Raise no event: whoever asks is told himself."""


def gateway_runs(data: Path) -> bool:
    """Tell whether a gateway has the data folder's log open now."""
    try:
        fd = lock_directory(log_directory(data))
    except StorageError:
        return True
    except OSError:  # no log yet, or not ours to open
        return False
    os.close(fd)
    return False


# --- meters that publish by themselves --------------------------------------------------------------------------------


class Ear:
    """Listens at the site's broker to some of its meters, under a name of its own beside the running gateway."""

    def __init__(self, site: SiteFile, broker: BrokerSettings, only: Sequence[str] = ()) -> None:
        self.broker = broker
        self.heard: dict[str, list[Block]] = {}
        self.bad: list[str] = []
        meters = [meter for meter in make_mqtt_meters(site) if not only or meter.id in only]
        self._wanted = {meter.id for meter in meters}
        self._all = asyncio.Event()
        # The broker throws out a client when another comes with its name.
        named = broker.model_copy(update={"client_id": f"probe-{timing.now() % 1_000_000}-{site.gateway.id}"[:64]})
        settings = make_mqtt_settings(named, site.gateway.id)
        self.listener = MqttListener(settings, meters, self._take, self._note)

    async def listen(self, seconds: float, connect_s: float) -> None:
        """Return when each meter was heard, after so many seconds, or when the broker was not there by `connect_s`."""
        stop = asyncio.Event()
        running = asyncio.ensure_future(self.listener.run(stop))
        await self._hear(min(connect_s, seconds))
        if self.listener.status().connection.connects:
            await self._hear(max(0.0, seconds - connect_s))
        stop.set()
        await running

    async def _hear(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._all.wait()
        except TimeoutError:
            return

    def _take(self, block: Block) -> None:
        self.heard.setdefault(block.device, []).append(block)
        if self.heard.keys() >= self._wanted:
            self._all.set()

    def _note(self, topic: str, payload: bytes, reason: str) -> None:
        del payload
        self.bad.append(f"{topic}: {reason}")

    def broker_fault(self) -> str:
        """Return what is wrong with the broker itself and what to do; empty where nothing is."""
        connection = self.listener.status().connection
        where = f"the broker {self.broker.host}:{self.broker.port}"
        if not connection.connects:
            reason = connection.last_error or "no answer yet"
            return f"{where} cannot be used: {reason}; check host, port, user and password, certificate"
        if connection.refused:
            return f"{where} refuses the subscription to {connection.refused[0]}; its access list must allow it"
        return ""

    def silence(self, meter: str, seconds: float) -> str:
        """Return why nothing usable came from a meter and what to do."""
        status = next(each for each in self.listener.status().meters if each.meter == meter)
        if status.last_error:
            return f"what it publishes cannot be read: {status.last_error}; does the profile fit the device?"
        topics = ", ".join(list(status.topics)[:3])
        state = "; the broker says that it is offline" if status.online is False else ""
        return f"nothing came on {topics} within {seconds:.0f} s{state}; is the device on, and the topic right?"
