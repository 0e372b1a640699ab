"""What a site file will bring to its log in a day, worked out before anything runs. It opens no port.

Modbus is measured: the true readers read simulated meters of the file's models, and what they return is packed as the
gateway packs it. Of other meters as many values are made up as they are asked for.
"""

import asyncio
import random
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from collector.bus import cycle_time
from collector.capabilities import ProfileReader, Reader
from collector.drivers.modbus import ModbusTalk
from collector.drivers.mqtt import Mapping
from collector.exchange import Answer, Exchange
from collector.links import Link
from collector.mqtt import MqttMeter
from collector.profile import Profile
from gateway.lines import make_link, make_mqtt_meters
from gateway.meters import BusMeter
from gateway.recorder import MAX_BATCH_READINGS
from gateway.schedule import spread_offset
from metergate.forecast import forecast_meters, readers_of
from metergate.site import EmbeddedSettings, SiteFile
from metering.batch import Batch
from metering.errors import FrameError
from metering.model import SECOND, Block, Column, Kind, Layout, Source
from metering.timing import from_rfc3339
from simulators.meter import Meter, MeterSettings
from simulators.models import Model
from simulators.registers import MeterRegisters
from simulators.unit import Unit
from storage.codec import pack
from storage.segment import RECORD_HEADER

DAY_S = 86_400.0
YEAR_DAYS = 365
PAGE = 4096  # bytes: what flash behind a filesystem is written in
LARGEST = 100_000_000  # of a value that is made up: a register of some years
PUBLISH_S = 10.0  # how often a meter that publishes by itself is taken to do so: no file says it
# Bytes that the embedded store makes the disk write for each byte of the log's pages: 10.7 and 15.4 by write_bytes of
# /proc/self/io over three days of 2 and of 20 meters, with a commit of the store for each of the log. A commit touches
# a leaf of each meter's table and index, in the WAL and again at the checkpoint.
STORE_FACTOR = 15.0
_BEGIN = 1_784_505_600 * SECOND  # a boundary of every schedule, when the simulated meters have run for months


class LogForecast(NamedTuple):
    """What the log will have to take in a day."""

    readings: float
    bytes: float
    commits: float
    flash_bytes: float  # whole pages, as each commit is made durable


class _Timed(NamedTuple):
    """Blocks and when they reach the recorder, in seconds after a boundary."""

    at: float
    blocks: Sequence[Block]


class _Clock:
    """The time of the simulated reading: moved by what each exchange takes."""

    def __init__(self) -> None:
        self.at = _BEGIN

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return self.at


def forecast_log(site: SiteFile) -> LogForecast:
    """Return what this site's log takes in a day, measured on packed batches of its own meters."""
    every = site.gateway.log.commit_every
    total = LogForecast(0, 0, 0, 0)
    for period, cycles, arrivals in asyncio.run(_rounds(site, every)):
        total = _plus(total, _measure(arrivals, every), DAY_S / (period * cycles))
    # No more commits than there are turns of the recorder: rounds that meet share one.
    most = DAY_S / every
    if total.commits > most:
        total = total._replace(flash_bytes=max(total.bytes, total.flash_bytes * most / total.commits), commits=most)
    return total


async def _rounds(site: SiteFile, every: float) -> list[tuple[float, int, list[_Timed]]]:
    """Return for each period its length, how many rounds were made, and what came in them."""
    clock = _Clock()
    found: dict[tuple[str, float], list[_Timed]] = defaultdict(list)
    links = {bus.id: make_link(bus) for bus in site.bus}
    busy: dict[tuple[str, str, float], float] = defaultdict(float)
    for meter in forecast_meters(site):
        read = _source_of(meter, clock, links[meter.settings.bus or ""])
        link = links[meter.settings.bus or ""]
        for schedule, period, reader in readers_of(meter):
            cost = cycle_time(link.parameters, reader.exchanges())
            line = (link.name, schedule, period)
            # Registers wait for one another at the boundary; momentary values have their own place in the period.
            begin = busy[line] if schedule == "registers" else spread_offset(meter.id, int(period))
            busy[line] += cost
            for cycle in range(_cycles(period, every)):
                at = cycle * period + begin
                clock.at = _BEGIN + round(at * SECOND)
                blocks = await read(reader, _BEGIN + int(cycle * period * SECOND))
                found[schedule, period].append(_Timed(at + cost, blocks))
        for profile in meter.profiles:
            if profile.interval:
                rows = _made_up(meter.id, Source.PROFILE, _channels(meter, profile), _BEGIN)
                at = spread_offset(f"{meter.id}/{profile.name}", profile.interval)
                found[f"profile {profile.name}", float(profile.interval)].append(_Timed(at, rows))
    for published in make_mqtt_meters(site):
        found["published", PUBLISH_S].extend(_published(published, _cycles(PUBLISH_S, every)))
    return [(period, _cycles(period, every), arrivals) for (_, period), arrivals in found.items()]


def _cycles(period: float, every: float) -> int:
    """Return how many rounds to look at: more than one only where several fall into one commit."""
    return max(1, round(every / period))


def _source_of(meter: BusMeter, clock: _Clock, link: Link) -> Callable[[Reader, int], Awaitable[list[Block]]]:
    """Return what reads this meter as if it were there."""
    unit = _simulated(meter, meter.profile, clock.now) if isinstance(meter.profile, Profile) else None

    async def read(reader: Reader, slot: int) -> list[Block]:
        blocks: list[Block] = []
        if unit is None:
            return _made_up(meter.id, Source.POLL, [(point.what, (point.obis,)) for point in reader.points], slot)
        await reader.read(ModbusTalk(_wire(unit, clock, link)), slot=slot, source=Source.POLL, into=blocks)
        return blocks

    return read


def _channels(meter: BusMeter, profile: ProfileReader) -> Sequence[tuple[Kind, tuple[str, ...]]]:
    """Return what a profile's rows bring; where only the meter itself knows, as much as its registers."""
    if profile.channels or meter.registers is None:
        return profile.channels
    return [(Kind.REGISTER, tuple(point.obis for point in meter.registers.points))]


def _made_up(device: str, source: Source, channels: Sequence[tuple[Kind, tuple[str, ...]]], slot: int) -> list[Block]:
    """Return a block for each kind with values that nobody measured, for the room that they take."""
    chance = random.Random(f"{device} {slot}")  # noqa: S311 - no secret
    by_kind: dict[Kind, list[str]] = defaultdict(list)
    for kind, codes in channels:
        by_kind[kind].extend(codes)
    blocks = []
    for kind, every in by_kind.items():
        codes = tuple(every)
        layout = Layout(kind, source, 0, tuple(Column(obis, "Wh", 0, "int") for obis in codes))
        at = slot + chance.randrange(SECOND)
        blocks.append(Block(layout, device, at, at, tuple(chance.randrange(LARGEST) for _ in codes), slot))
    return blocks


def _simulated(meter: BusMeter, profile: Profile, clock: Callable[[], int]) -> Unit:
    model = Model(profile)
    seed = zlib.crc32(meter.id.encode())
    return Unit(
        meter.settings.unit or 0,
        MeterRegisters(Meter(MeterSettings(seed=seed, phases=model.phases, start_wh=12_345_678_000)), model.layout()),
        clock=clock,
    )


def _wire(unit: Unit, clock: _Clock, link: Link) -> Callable[[Exchange], "asyncio.Future[Answer]"]:
    """Return a transaction with a simulated meter that takes as long as the line would."""

    def transact(exchange: Exchange) -> "asyncio.Future[Answer]":
        asked_at = clock.at
        clock.at += round(cycle_time(link.parameters, (exchange,)) * SECOND)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer(unit.answer(exchange.pdu).pdu, asked_at, clock.at))
        return answer

    return transact


def _published(meter: MqttMeter, cycles: int) -> list[_Timed]:
    """Return what the messages in the meter's profile give, one of each topic."""
    examples = {test.topic: test for test in meter.profile.test if not test.error and test.readings}
    found: list[_Timed] = []
    for test in examples.values():
        mapping = Mapping(meter.profile, meter.id, test.device, test.parameters)
        try:
            blocks = mapping.map(test.topic, test.payload.encode(), from_rfc3339(test.received))
        except FrameError:  # an example that shows another device's message
            continue
        begin = zlib.crc32(f"{meter.id} {test.topic}".encode()) / 2**32 * PUBLISH_S
        found.extend(_Timed(cycle * PUBLISH_S + begin, blocks) for cycle in range(cycles))
    return found


def _measure(arrivals: Sequence[_Timed], every: float) -> LogForecast:
    """Return readings, bytes, commits and whole pages of these arrivals, committed each `every` seconds."""
    commits: dict[int, list[Block]] = defaultdict(list)
    for arrival in arrivals:
        commits[int(arrival.at // every)].extend(arrival.blocks)
    readings = size = pages = 0
    for number, blocks in commits.items():
        closed = _BEGIN + round((number + 1) * every * SECOND)
        for batch in _batches(closed, blocks):
            record = len(pack(batch)) + RECORD_HEADER
            readings += batch.count()
            size += record
            pages += -(-record // PAGE)
    return LogForecast(readings, size, len(commits), pages * PAGE)


def _batches(closed: int, blocks: Sequence[Block]) -> Iterable[Batch]:
    part: list[Block] = []
    size = 0
    for block in blocks:
        if part and size + len(block.values) > MAX_BATCH_READINGS:
            yield Batch(closed, part)
            part, size = [], 0
        part.append(block)
        size += len(block.values)
    if part:
        yield Batch(closed, part)


def _plus(total: LogForecast, part: LogForecast, times: float) -> LogForecast:
    return LogForecast(*(one + two * times for one, two in zip(total, part, strict=True)))


def days_of_autonomy(site: SiteFile, log: LogForecast) -> float:
    """Return how many days of readings the log holds before the oldest must go: by its size, and by its age."""
    by_size = site.gateway.log.max_size / log.bytes if log.bytes else float("inf")
    by_age = site.gateway.log.max_age / DAY_S or float("inf")
    return min(by_size, by_age)


def flash_bytes_per_year(site: SiteFile, log: LogForecast) -> float:
    """Return the bytes that reach the flash disk in a year: the log's pages, and the embedded store's."""
    factor = 1 + STORE_FACTOR if isinstance(site.store, EmbeddedSettings) else 1.0
    return log.flash_bytes * YEAR_DAYS * factor
