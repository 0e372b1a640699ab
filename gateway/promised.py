"""What this gateway's meters are promised to deliver: by schedules, by their own profiles, by what they publish."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from collector.capabilities import Depth, ProfileReader, Reader
from collector.mqtt import MqttMeter
from gateway.clock import Clock
from gateway.meters import BusMeter
from gateway.promises import Promises
from gateway.recorder import Recorder
from metering.model import SECOND, Block, Expectation, Kind, Source
from metering.obis import parse_obis

ACTIVE_IMPORT = 1  # value group C of active energy import, the total that each meter has
DAY_S = 86_400

_log = structlog.get_logger(__name__)


class Promised:
    """The expectations of a gateway.

    A polled meter is promised all that its schedule asks of it, less what it was found not to have. Of a meter's own
    profile each channel is promised, from as far back as the profile reaches, once the meter has said what they are. A
    meter that publishes by itself is promised its import total from the start, and each further total from when it
    first came: a profile names more than every device of its kind has.
    """

    def __init__(
        self, path: Path, polled: Collection[BusMeter], published: Sequence[MqttMeter], intervals: Mapping[str, int]
    ) -> None:
        self._promises = Promises(path)
        self._polled = polled
        self._published = published
        self._intervals = intervals
        self._known: dict[str, set[str]] = {meter.id: _import_totals(meter) for meter in published}
        for promise in self._promises.open:
            if promise.device in self._known and promise.interval == intervals[promise.device]:
                self._known[promise.device].update(promise.obis)

    @property
    def open(self) -> list[Expectation]:
        """Return what was promised and holds, to be told once more: the same again changes nothing."""
        return list(self._promises.open)

    def settle(self, now: int) -> list[Expectation]:
        """Return what is new to tell the log: promises that begin and promises that end, as of now."""
        wanted = [promise for meter in self._polled for promise in _polled_promises(meter, now)]
        of_profiles: dict[str, list[Expectation]] = {}
        for promise in self._promises.open:
            if promise.source is Source.PROFILE:
                of_profiles.setdefault(promise.device, []).append(promise)
        for polled in self._polled:
            if polled.profiles:
                wanted.extend(_profile_promises(polled, of_profiles.get(polled.id, []), now))
        for meter in self._published:
            interval = self._intervals[meter.id]
            if interval:
                wanted.extend(_push_promise(meter.id, interval, obis, now) for obis in sorted(self._known[meter.id]))
        return self._promises.settle(wanted, now)

    def keep(self) -> None:
        """Make what `settle` returned last durable."""
        self._promises.keep()

    def since(self, device: str, interval: int) -> int | None:
        """Return from when rows of a meter's own profile with this interval were promised; None: they were not yet."""
        return min(
            (
                promise.since
                for promise in self._promises.open
                if (promise.device, promise.interval, promise.source) == (device, interval, Source.PROFILE)
            ),
            default=None,
        )

    def is_new(self, block: Block) -> bool:
        """Tell whether a published block brings a total that was not promised yet; it is from now on."""
        if block.layout.kind is not Kind.REGISTER or not block.layout.interval:
            return False
        known = self._known[block.device]
        fresh = {column.obis for column in block.layout.columns} - known
        known |= fresh
        return bool(fresh)


class PromiseTeller:
    """Tells the log what is promised. `promised` gives it for the version of the configuration at work."""

    def __init__(self, recorder: Recorder, clock: Clock, promised: Callable[[], Promised]) -> None:
        self._recorder = recorder
        self._clock = clock
        self._promised = promised
        self._telling = asyncio.Lock()

    async def tell(self) -> None:
        """Tell the log what is promised from now on, and only then write it down as told."""
        async with self._telling:
            self._recorder.promise(self._promised().settle(self._clock.now()))
            await self._recorder.commit()
            if self._recorder.status().refusal:
                return
            try:
                await asyncio.to_thread(self._promised().keep)
            except OSError as error:  # told again at the next change or start: the log takes it for the same promise
                _log.warning("the promises could not be written down", reason=str(error))


def _polled_promises(meter: BusMeter, now: int) -> list[Expectation]:
    promises = []
    for reader, period in ((meter.registers, meter.schedule.registers), (meter.moments, meter.schedule.instantaneous)):
        if reader is not None and period is not None:
            promises.extend(_reader_promises(meter.id, reader, int(period), now))
    return promises


def _reader_promises(device: str, reader: Reader, interval: int, now: int) -> list[Expectation]:
    by_kind: dict[Kind, list[str]] = {}
    for point in reader.points:
        by_kind.setdefault(point.what, []).append(point.obis)
    return [
        Expectation(device, kind, Source.POLL, interval, tuple(sorted(obis)), now) for kind, obis in by_kind.items()
    ]


def _profile_promises(meter: BusMeter, open_now: Sequence[Expectation], now: int) -> list[Expectation]:
    """Return the promises of a meter's profiles.

    The meter is asked for its profiles' shapes anew after each start: until then what was promised stays promised.
    """
    known = [profile for profile in meter.profiles if profile.name in meter.prepared]
    intervals = {profile.interval for profile in meter.profiles}

    def replaces(promise: Expectation, earlier: Expectation) -> bool:
        """Tell whether a promise is for what an earlier one was for, in part or whole."""
        of_one_profile = earlier.interval == promise.interval or earlier.interval not in intervals
        return of_one_profile and promise.kind is earlier.kind and not {*promise.obis}.isdisjoint(earlier.obis)

    wanted = []
    for promise, reach in _of_profiles(meter.id, known):
        # A profile that was set up anew is promised from now on: before that it had other columns.
        is_new = not any(replaces(promise, earlier) for earlier in open_now)
        # The row at the very moment of the installation is of the time before it.
        since = max(meter.settings.installed, now - reach) + 1 if is_new else now
        wanted.append(msgspec.structs.replace(promise, since=since))
    if len(known) < len(meter.profiles):
        wanted += [earlier for earlier in open_now if not any(replaces(promise, earlier) for promise in wanted)]
    return wanted


def _of_profiles(device: str, profiles: Sequence[ProfileReader]) -> Iterator[tuple[Expectation, int]]:
    """Yield what profiles bring, without its `since`, and how far back they reach, in us."""
    for profile in profiles:
        if profile.interval <= 0:  # rows come when the meter makes them: nobody can say which are missing
            continue
        by_kind: dict[Kind, set[str]] = {}
        for kind, obis in profile.channels:
            by_kind.setdefault(kind, set()).update(obis)
        for kind, codes in by_kind.items():
            promise = Expectation(device, kind, Source.PROFILE, profile.interval, tuple(sorted(codes)), 0)
            yield promise, _reach(profile.depth, profile.interval)


def _reach(depth: Depth, interval: int) -> int:
    """Return how far back a profile reaches, in us; 0 where that is not known."""
    return min((s for s in (depth.days * DAY_S, depth.entries * interval) if s), default=0) * SECOND


def _push_promise(device: str, interval: int, obis: str, now: int) -> Expectation:
    return Expectation(device, Kind.REGISTER, Source.PUSH, interval, (obis,), now)


def _import_totals(meter: MqttMeter) -> set[str]:
    """Return the profile's total of active energy import: 1.8.0, or the tariffs' totals where there is no such."""
    totals = [obis for obis, kind in meter.profile.channels.items() if kind is Kind.REGISTER]
    tariffs = {obis for obis in totals if parse_obis(obis)[2:4] == (ACTIVE_IMPORT, 8)}
    whole = {obis for obis in tariffs if parse_obis(obis)[4] == 0}
    return whole or tariffs
