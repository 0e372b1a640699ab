"""Asks one meter now, for `read` and `doctor`: over a wire of its own, or by listening. Says what to do on failure."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from collector.bus import Bus, Lane
from collector.capabilities import Talk
from collector.exchange import Transact
from collector.mqtt import MqttListener
from gateway.identity import same_serial
from gateway.lines import make_bus_meter, make_mqtt_meters, make_mqtt_settings
from gateway.meters import BusMeter
from gateway.settings import BrokerSettings, MeterSettings
from gateway.settings_bus import BusSettings
from metergate.parts import log_directory
from metergate.site import SiteFile
from metering import timing
from metering.errors import FrameError, LinkDownError, MeterError, NoAnswerError, RefusedError, StorageError
from metering.model import Block, Source
from storage.files import lock_directory

READ_S = 30.0  # for a whole read, retries included


class ReadError(MeterError):
    """A read that failed, told for a person: what happened, and what to do."""


class WrongMeterError(MeterError):
    """Another meter answers than the one that was installed."""


def bus_of(site: SiteFile, settings: MeterSettings) -> BusSettings:
    """Return the bus that a meter hangs on."""
    return next(bus for bus in site.bus if bus.id == settings.bus)


def meter_on_bus(site: SiteFile, settings: MeterSettings) -> BusMeter:
    """Return a meter with its readers, for one question."""
    return make_bus_meter(site, settings, bus_of(site, settings), lambda _meter, _holes: None)


async def read_meter(bus: Bus, meter: BusMeter) -> list[Block]:
    """Return all values of a meter, its serial number checked first.

    Raises:
        MeterError: it could not be read; `advice` says what to do.

    """

    async def work(transact: Transact) -> list[Block]:
        blocks: list[Block] = []
        async with meter.driver.talk(transact) as talk:
            await _check_identity(meter, talk)
            await meter.everything.read(talk, slot=None, source=Source.ON_DEMAND, into=blocks)
        return blocks

    try:
        async with asyncio.timeout(READ_S):
            return await bus.submit(Lane.ON_DEMAND, meter.id, work)
    except TimeoutError:
        raise NoAnswerError(f"not read within {READ_S:.0f} s", meter=meter.id) from None


async def _check_identity(meter: BusMeter, talk: Talk) -> None:
    wanted = meter.settings.serial
    shown = await meter.driver.identify(talk) if wanted else None
    if shown is not None and not same_serial(shown, wanted):
        raise WrongMeterError(f"{meter.place} shows serial number {shown}, the file says {wanted}", meter=meter.id)


def advice(error: MeterError, meter: BusMeter, line: tuple[int, str]) -> str:
    """Return what to do about a failed read. `line` is baud rate (0: a network) and format."""
    baud, line_format = line
    wires = f"A and B swapped, termination, {baud} {line_format}" if baud else "the wiring behind the gateway"
    garbled = (
        f"noise, two meters with one address, or another baud rate or parity than {baud} {line_format}"
        if baud
        else "the endpoint does not speak Modbus TCP; does it pass RTU frames (kind rtu-over-tcp)?"
    )
    told: list[tuple[type[MeterError], str]] = [
        (LinkDownError, "the line is at fault, not the meter: check the port, the adapter, the endpoint"),
        (NoAnswerError, f"check the meter's power, its address ({meter.place} in the file), {wires}"),
        (FrameError, garbled),
        (
            RefusedError,
            f"the meter is there and says no: is it really a {meter.profile.maker} {meter.profile.model}?",
        ),
        (WrongMeterError, "its readings would be another customer's: correct address or serial in the file"),
    ]
    return next((text for kind, text in told if isinstance(error, kind)), "try again later")


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
