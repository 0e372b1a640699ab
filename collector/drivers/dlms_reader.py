"""Reads the values of a DLMS meter's points as they are now (capability `Reader`). Owns no wire and no schedule."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog

from collector.capabilities import Talk
from collector.dlms_tables import DlmsPoint
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_talk import NOT_THERE, Timed, own_talk
from collector.drivers.dlms_values import checked, layout_of, scale_of, value_of
from collector.exchange import Exchange
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.references import Attribute, DataAccessResult
from metering.errors import FrameError, MeterError, RefusedError
from metering.model import Block, Column, Kind, Source

# For a forecast: bytes of an item in requests and replies, of an APDU around them, and of one association.
_ASKED, _ANSWERED, _AROUND = 11, 8, 40
_OPENING = ((40, 40), (90, 90), (80, 80))  # link, association, third and fourth pass
_CLOSING = ((40, 40), (34, 34))

logger = structlog.get_logger(__name__)


class DlmsHoles(NamedTuple):
    """What a meter was found not to have: for names of points, why. Falsy when it has everything."""

    points: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.points)

    def __str__(self) -> str:
        return "; ".join(f"{name} ({reason})" for name, reason in self.points)


class DlmsReader:
    """The values of a profile's points (`names`; none: all), in as few requests as the meter takes.

    `interval` is the seconds between its scheduled reads (0: none). Objects that the meter refuses, or that hold no
    number, are left out from then on; `on_holes` is told what was found.
    """

    def __init__(
        self,
        driver: DlmsDriver,
        names: Sequence[str] = (),
        *,
        interval: int = 0,
        on_holes: Callable[[str, DlmsHoles], None] | None = None,
    ) -> None:
        self._driver = driver
        self._chosen = driver.profile.select(tuple(names))
        self._interval = interval
        self._on_holes = on_holes
        self._refused: dict[str, str] = {}

    @property
    def points(self) -> tuple[DlmsPoint, ...]:
        """Return the points that are asked for, without those that this meter was found not to have."""
        return tuple(point for point in self._chosen if point.name not in self._refused)

    @property
    def holes(self) -> DlmsHoles:
        """Return what the meter was found not to have."""
        return DlmsHoles(tuple(self._refused.items()))

    def forget(self) -> None:
        """Forget what the meter refused (it was swapped, or its settings changed) and ask for everything again."""
        self._refused = {}

    def exchanges(self) -> tuple[Exchange, ...]:
        """Return the exchanges of one read, association included, for a forecast of the time on the wire."""
        driver = self._driver
        size = driver.profile.list_size
        count = len(self.points)
        sizes = [(_AROUND + _ASKED * n, _AROUND + _ANSWERED * n) for n in _chunks(count, size)]
        return tuple(
            Exchange(driver.access.server, bytes(asked), answered, driver.profile.turnaround)
            for asked, answered in (*_OPENING, *sizes, *_CLOSING)
        )

    async def read(self, talk: Talk, *, slot: int | None, source: Source, into: list[Block]) -> None:
        """Append one block for each request and kind, stamped with the middle of the request's exchange.

        Raises:
            RefusedError: the meter refuses all of its points.
            FrameError: a reply is not the answer to what was asked.
            AuthError: a reply does not fit the keys.
            TransportError: from the wire.

        """
        own = own_talk(talk)
        points = self.points
        before = len(into)
        found: dict[str, str] = {}
        try:
            await self._driver.learn_scalers(own, [place for point in points if (place := _scaler_place(point))])
            size = own.list_size(self._driver.profile)
            at = 0
            for count in _chunks(len(points), size):
                chunk = points[at : at + count]
                at += count
                timed = await own.get_list([Attribute(p.class_id, p.obis, p.attribute) for p in chunk], size)
                into.extend(self._blocks(chunk, timed, slot, source, found))
            if len(into) == before and points:
                raise _nothing(found)
        except MeterError as error:
            error.meter = error.meter or self._driver.device
            raise
        finally:
            # Nothing is learned from a meter that refused everything: it is another model, or another meter.
            if len(into) > before and found:
                self._learn(found)

    def _blocks(
        self,
        points: Sequence[DlmsPoint],
        timed: Timed[list[Data | DataAccessResult]],
        slot: int | None,
        source: Source,
        found: dict[str, str],
    ) -> Iterator[Block]:
        by_kind: dict[Kind, list[tuple[Column, float | None]]] = {}
        for point, answer in zip(points, timed.value, strict=True):
            try:
                read = self._value(point, answer)
            except FrameError as error:
                found[point.name] = str(error)
                continue
            if read is None:
                found[point.name] = answer.words if isinstance(answer, DataAccessResult) else ""
            else:
                by_kind.setdefault(point.what, []).append(read)
        for kind, items in by_kind.items():
            values, quality = checked(tuple(value for _, value in items))
            if not timed.asked_at:  # each object was asked for alone, and none gave a value
                continue
            layout = layout_of(kind, source, self._interval, tuple(column for column, _ in items))
            yield Block(
                layout,
                self._driver.device,
                timed.middle,
                timed.ended_at,
                values,
                slot,
                quality,
            )

    def _value(self, point: DlmsPoint, answer: Data | DataAccessResult) -> tuple[Column, float | None] | None:
        """Return a point's column and value; None where the meter does not have it.

        Raises:
            FrameError: what it has is no such value.

        """
        if isinstance(answer, DataAccessResult) and answer in NOT_THERE:
            return None
        place = _scaler_place(point)
        scale = scale_of(point, self._driver.scalers.get(place) if place else None)
        if isinstance(answer, DataAccessResult):  # not just now
            return Column(point.obis, point.unit, scale, "int"), None
        value, number = value_of(point, answer, self._driver.time)
        return Column(point.obis, point.unit, scale, number), value

    def _learn(self, found: dict[str, str]) -> None:
        self._refused |= found
        holes = DlmsHoles(tuple(found.items()))
        logger.warning(
            "the meter lacks objects of its profile",
            meter=self._driver.device,
            profile=self._driver.profile.name,
            points=str(holes),
        )
        if self._on_holes is not None:
            self._on_holes(self._driver.device, holes)


def _scaler_place(point: DlmsPoint) -> Attribute | None:
    attribute = point.scaler_attribute
    return None if attribute is None else Attribute(point.class_id, point.obis, attribute)


def _chunks(count: int, size: int) -> Iterator[int]:
    for begin in range(0, count, size):
        yield min(size, count - begin)


def _nothing(found: dict[str, str]) -> RefusedError:
    name, reason = next(iter(found.items()), ("", "it gave no value"))
    return RefusedError(
        f"the meter has none of the points that are asked for: {name}: {reason}", code=DataAccessResult.OBJECT_UNDEFINED
    )
