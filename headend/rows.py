"""A reading as it leaves the head-end: exact text, both figures, UTC times and the office's quality codes.

Not an encoder: `api.render` makes JSON, CSV and NDJSON of it. The shape is frozen by the golden payloads of the tests.
"""

from collections.abc import Iterator, Sequence
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import lru_cache

import msgspec

from metering import quality, timing
from metering.model import SECOND, Installation, Kind
from metering.ports import Reading
from metering.values import to_decimal, to_text

# More digits than any register and ratio have together; a rounding would be an error, never a result.
EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])

# Kinds whose values belong to an interval that ends at `measured_at`.
OF_AN_INTERVAL = frozenset({Kind.INTERVAL, Kind.AVERAGE, Kind.MAXIMUM_DEMAND})

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


class Row(msgspec.Struct, frozen=True):
    """One reading in an answer. Times are RFC 3339 in UTC; what does not apply is null.

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
    measured_at: str
    slot: str | None
    interval_start: str | None
    interval_end: str | None
    received_at: str
    quality: Judgement
    revision: int
    current: bool | msgspec.UnsetType = msgspec.UNSET


@lru_cache(maxsize=1024)
def judge(flags: int) -> Judgement:
    """Return the office's view of a reading's quality flags."""
    return Judgement(quality.is_valid(flags), tuple(Code(*code) for code in quality.codes(flags)))


@lru_cache(maxsize=4096)
def time_text(instant: int) -> str:
    """Return the RFC 3339 text of an instant: the slots of a fleet repeat, so most are remembered."""
    seconds, micros = divmod(instant, SECOND)
    if micros:
        return timing.to_rfc3339(instant)
    days, rest = divmod(seconds, 86_400)
    minutes, second = divmod(rest, 60)
    return f"{_day_text(days)}T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}Z"


@lru_cache(maxsize=512)
def _day_text(days: int) -> str:
    return timing.to_rfc3339(days * 86_400 * SECOND)[:10]


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
    """Yield the rows of one device's readings, all of one installation."""
    point = installation.point if installation is not None else None
    for reading in readings:
        channel = reading.channel
        column = channel.column
        value = primary = None
        if reading.value is not None:
            value = to_text(reading.value, column.scale, column.number)
            if installation is not None:
                factor = multiplier(installation, column.unit)
                primary = value if factor is None else _times(reading.value, column.scale, column.number, factor)
        end = time_text(reading.measured_at)
        of_interval = channel.kind in OF_AN_INTERVAL and channel.interval
        yield Row(
            point,
            channel.device,
            serial,
            column.obis,
            channel.kind,
            channel.source,
            channel.interval,
            column.unit,
            value,
            primary,
            end,
            time_text(reading.slot) if reading.slot is not None else None,
            time_text(reading.measured_at - channel.interval * SECOND) if of_interval else None,
            end if of_interval else None,
            time_text(reading.received_at),
            judge(reading.quality),
            reading.revision,
            reading.current,
        )


def _times(value: float, scale: int, number: str, factor: Decimal) -> str:
    return f"{EXACT.multiply(to_decimal(value, scale, number), factor):f}"
