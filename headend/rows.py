"""A reading as it leaves the head-end: exact text, both figures, UTC times and the office's quality codes.

Not an encoder: `api.render` makes JSON, CSV and NDJSON of it. The shape is frozen by the golden payloads of the tests.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from itertools import chain, repeat
from typing import cast

import msgspec

from metering import quality
from metering.model import SECOND, Column, Installation, Kind
from metering.ports import Channel, Reading
from metering.runs import Run, parts_of
from metering.values import scaled_text, to_decimal, to_text

# More digits than any register and ratio have together; a rounding would be an error, never a result.
EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])

# Kinds whose values belong to an interval that ends at `measured_at`.
OF_AN_INTERVAL = frozenset({Kind.INTERVAL, Kind.AVERAGE, Kind.MAXIMUM_DEMAND})

DECIMALS = 3  # up to so many, the decimals of many values are looked up in a table

# Up to here (year 2112) a float of seconds is off by less than a quarter of a microsecond.
_EXACT_IN_FLOAT = 2**52
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CT = frozenset({"A"})
_PT = frozenset({"V"})
_BOTH = frozenset({"W", "var", "VA", "Wh", "varh", "VAh"})


class Code(msgspec.Struct, frozen=True):
    """A quality flag in the words of the office: short name, IEC 61968-9 code, Green Button number."""

    name: str
    iec: str
    espi: int


class Judgement(msgspec.Struct, frozen=True):
    """`valid`: may be billed as it stands."""

    valid: bool
    codes: tuple[Code, ...]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One reading in an answer. Times are in UTC, and RFC 3339 text when sent; what does not apply is null.

    `value` is what the meter's register shows; `primary_value` is that times the installation's CT and PT ratios,
    applied exactly once (null where the device hung at no meter point).
    """

    point: str | None
    device: str
    serial: str
    obis: str
    kind: str
    source: str
    interval_s: int
    unit: str
    value: str | None
    primary_value: str | None
    measured_at: datetime
    slot: datetime | None
    interval_start: datetime | None
    interval_end: datetime | None
    received_at: datetime
    quality: Judgement
    revision: int
    current: bool | msgspec.UnsetType = msgspec.UNSET


@lru_cache(maxsize=1024)
def judge(flags: int) -> Judgement:
    """Return the office's view of a reading's quality flags."""
    return Judgement(quality.is_valid(flags), tuple(Code(*code) for code in quality.codes(flags)))


def moment(instant: int) -> datetime:
    """Return an instant as a datetime in UTC."""
    return _EPOCH + timedelta(0, 0, instant)


def moments(instants: Sequence[int]) -> list[datetime]:
    """Return instants as datetimes in UTC: all at once, which takes a tenth of the time."""
    if instants and not -_EXACT_IN_FLOAT < min(instants) <= max(instants) < _EXACT_IN_FLOAT:
        return [moment(instant) for instant in instants]
    return msgspec.convert([instant / SECOND for instant in instants], list[datetime], strict=False)


def from_moment(moment: datetime) -> int:
    """Return the instant of a datetime, in microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def multiplier(installation: Installation, unit: str) -> Decimal | None:
    """Return what brings this unit from the register to primary, or None where nothing is to be done.

    Current by the CT ratio, voltage by the PT ratio, power and energy by both, all else (Hz, degrees) by none.
    """
    if installation.registers == "primary":
        return None
    return _multiplier(unit, installation.ct_ratio, installation.pt_ratio)


@lru_cache(maxsize=4096)
def _multiplier(unit: str, ct_ratio: str, pt_ratio: str) -> Decimal | None:
    base = unit.removeprefix("k").removeprefix("M")
    factor = Decimal(1)
    if base in _CT or base in _BOTH:
        factor = EXACT.multiply(factor, Decimal(ct_ratio))
    if base in _PT or base in _BOTH:
        factor = EXACT.multiply(factor, Decimal(pt_ratio))
    factor = factor.normalize(EXACT)
    if factor == factor.to_integral_value():
        factor = factor.quantize(Decimal(1), context=EXACT)  # 4E+1 would cost the product a digit
    return None if factor == 1 else factor


def rows_of(readings: Sequence[Reading], installation: Installation | None, serial: str) -> Iterator[Row]:
    """Return the rows of one device's readings, all of one installation."""
    return chain.from_iterable(
        _of_run(part, installation, serial) if isinstance(part, Run) else _of_readings(part, installation, serial)
        for part in parts_of(readings)
    )


def _of_run(run: Run, installation: Installation | None, serial: str) -> Iterator[Row]:
    """Return the rows of a run: column by column, which takes a third of the time."""
    channel, column, count = run.channel, run.channel.column, len(run)
    values, primaries = _texts(run.values, column, installation)
    ends = moments(run.measured_at)
    of_interval = channel.interval * SECOND if channel.kind in OF_AN_INTERVAL else 0
    return map(
        Row,
        repeat(installation.point if installation is not None else None, count),
        repeat(channel.device),
        repeat(serial),
        repeat(column.obis),
        repeat(str(channel.kind.value)),
        repeat(str(channel.source.value)),
        repeat(channel.interval),
        repeat(column.unit),
        values,
        primaries,
        ends,
        _slots(run.slots),
        moments([end - of_interval for end in run.measured_at]) if of_interval else repeat(None),
        ends if of_interval else repeat(None),
        moments(run.received_at),
        repeat(judge(0)),
        run.revisions,
        repeat(True),  # noqa: FBT003 - `map` takes columns by their places
    )


def _slots(slots: Sequence[int | None]) -> Sequence[datetime | None]:
    there = [slot for slot in slots if slot is not None]
    if len(there) == len(slots):
        return moments(there)
    return [None if slot is None else moment(slot) for slot in slots]


def _of_readings(readings: Sequence[Reading], installation: Installation | None, serial: str) -> Iterator[Row]:
    point = installation.point if installation is not None else None
    known: Channel | None = None
    ends = moments([reading.measured_at for reading in readings])
    arrivals = moments([reading.received_at for reading in readings])
    slots = iter(moments([reading.slot for reading in readings if reading.slot is not None]))
    for reading, end, arrival in zip(readings, ends, arrivals, strict=True):
        channel = reading.channel
        if channel is not known:  # the channels of a meter come in turns, or one for long
            known, column = channel, channel.column
            kind, source = str(channel.kind.value), str(channel.source.value)
            of_interval = channel.interval * SECOND if channel.kind in OF_AN_INTERVAL else 0
            show = _figures(column, installation)
        value, primary = show(reading.value) if reading.value is not None else (None, None)
        yield Row(
            point,
            channel.device,
            serial,
            column.obis,
            kind,
            source,
            channel.interval,
            column.unit,
            value,
            primary,
            end,
            next(slots) if reading.slot is not None else None,
            moment(reading.measured_at - of_interval) if of_interval else None,
            end if of_interval else None,
            arrival,
            judge(reading.quality),
            reading.revision,
            reading.current,
        )


_Figures = Callable[[float], tuple[str, str | None]]


def _figures(column: Column, installation: Installation | None) -> _Figures:
    """Return what gives a stored value's two texts: at the register, and in primary values."""
    scale, number = column.scale, column.number
    factor = multiplier(installation, column.unit) if installation is not None else None

    def shown(value: float) -> tuple[str, str | None]:
        text = to_text(value, scale, number)
        if factor is None:
            return text, None if installation is None else text
        return text, f"{EXACT.multiply(to_decimal(value, scale, number), factor):f}"

    if number != "int" or scale > 0:
        return shown
    times, more = _as_integers(factor)

    def shown_integer(value: float) -> tuple[str, str | None]:
        mantissa = int(value)
        text = _scaled(mantissa, scale)
        if factor is None:
            return text, None if installation is None else text
        return text, _scaled(mantissa * times, scale + more)

    return shown_integer


def _as_integers(factor: Decimal | None) -> tuple[int, int]:
    """Return a factor as mantissa and scale: integers multiply exactly and ten times as fast."""
    if factor is None:
        return 1, 0
    _, digits, exponent = factor.as_tuple()
    return int("".join(map(str, digits))), int(exponent)


def _scaled(mantissa: int, scale: int) -> str:
    text = str(mantissa)
    if mantissa < 0 or scale == 0 or len(text) <= -scale:
        return scaled_text(mantissa, scale)
    return f"{text[:scale]}.{text[scale:]}"


def _texts(
    values: Sequence[float], column: Column, installation: Installation | None
) -> tuple[Iterable[str], Iterable[str | None]]:
    """Return what `_figures` gives for each of these values, as two columns."""
    if column.number != "int" or column.scale > 0:
        show = _figures(column, installation)
        pairs = [show(value) for value in values]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    mantissas = cast("Sequence[int]", values)  # by the column
    shown = _all_scaled(mantissas, column.scale)
    if installation is None:
        return shown, repeat(None)
    factor = multiplier(installation, column.unit)
    if factor is None:
        return shown, shown
    times, more = _as_integers(factor)
    return shown, _all_scaled([mantissa * times for mantissa in mantissas], column.scale + more)


def _all_scaled(mantissas: Sequence[int], scale: int) -> list[str]:
    if not 0 < -scale <= DECIMALS or min(mantissas) < 0:
        return [_scaled(mantissa, scale) for mantissa in mantissas]
    unit, decimals = 10**-scale, _decimals(-scale)
    return [f"{mantissa // unit}{decimals[mantissa % unit]}" for mantissa in mantissas]


@lru_cache
def _decimals(digits: int) -> list[str]:
    return [f".{number:0{digits}}" for number in range(10**digits)]
