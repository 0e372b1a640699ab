"""One COSEM value as a number of a channel, a time or a serial number, or why it is none. Reads no meter."""

import math
from collections.abc import Sequence
from functools import lru_cache

from collector.dlms_tables import DlmsPoint
from collector.dlms_units import NO_UNIT, measure
from collector.drivers.dlms_shape import ScalerUnit
from collector.drivers.dlms_times import MeterTime
from collector.protocols.dlms.axdr import Data, Tag
from metering.errors import FrameError
from metering.model import SECOND, Column, Kind, Layout, Number, Source
from metering.quality import Quality

LARGEST = (1 << 63) - 1  # what is stored; a 64-bit counter beyond it is a meter's word for "no value"
MAX_IDENTITY = 64  # characters
_LAYOUTS = 2048  # kept: one for each model, kind and choice of points

_NO_NUMBER = int(Quality.NOT_A_NUMBER)
_FLOATS: dict[Tag, Number] = {Tag.FLOAT32: "float32", Tag.FLOAT64: "float64"}


def value_of(point: DlmsPoint, data: Data, time: MeterTime) -> tuple[float | None, Number]:
    """Return what a point's value is, by its type, and the type of the number.

    Raises:
        FrameError: it is no such value.

    """
    if point.type == "time":
        return time_of(data, time), "int"
    if point.type == "number":
        return number_of(data)
    if not isinstance(data.value, int | bytes | str) or data.tag in (Tag.VISIBLE_STRING, Tag.UTF8_STRING):
        raise FrameError(f"a value of type {words(data)} is no word of bits")
    word = word_of(data.value)
    return (None if word > LARGEST else word), "int"


def number_of(data: Data) -> tuple[float | None, Number]:
    """Return a number as the meter sent it, and its type; null-data is no value, nor is what no meter counts to.

    Raises:
        FrameError: it is of a type that is no number.

    """
    if data.tag is Tag.NULL:
        return None, "int"
    if isinstance(data.value, int) and data.tag is not Tag.BCD:
        return None if data.value > LARGEST else int(data.value), "int"
    if data.tag in _FLOATS:
        return data.value, _FLOATS[data.tag]
    raise FrameError(f"a value of type {words(data)} is no number")


def checked(values: Sequence[float | None], flags: int = 0) -> tuple[Sequence[float | None], Sequence[int]]:
    """Return values and the quality of each, empty where nothing is to be remarked; what is no number is no value."""
    quality = [flags | flaw(value) for value in values]
    if any(flag & _NO_NUMBER for flag in quality):
        values = tuple(None if flag & _NO_NUMBER else value for value, flag in zip(values, quality, strict=True))
    return values, tuple(quality) if any(quality) else ()


def flaw(value: float | None) -> int:
    """Return the quality of one value: there is none, or it is NaN or an infinity."""
    if value is None:
        return int(Quality.NOT_AVAILABLE)
    return 0 if math.isfinite(value) else _NO_NUMBER


def time_of(data: Data, time: MeterTime) -> int | None:
    """Return a date-time as whole seconds since 1970; None where it tells no moment.

    Raises:
        FrameError: it is no date-time.

    """
    if data.tag is Tag.NULL:
        return None
    if data.tag not in (Tag.OCTET_STRING, Tag.DATE_TIME):
        raise FrameError(f"a value of type {words(data)} is no date-time")
    us = time.read(data.value).us
    return None if us is None else us // SECOND


def scale_of(point: DlmsPoint, found: ScalerUnit | None) -> int:
    """Return the decimal exponent of a point's values in its unit; `found` is what the meter says (None: nothing).

    Raises:
        FrameError: the meter's unit is not the profile's, or neither says a scale.

    """
    if found is None:
        if point.scale is None and point.scaler_attribute is not None:
            raise FrameError("the meter tells no scaler, and the profile none either")
        return point.scale or 0
    if found.unit == NO_UNIT:  # a meter that keeps its units to itself still has its scaler
        return found.scaler
    try:
        return found.scaler + measure(found.unit, point.unit).shift
    except ValueError as error:
        raise FrameError(str(error)) from None


def identity_text(data: Data) -> str:
    """Return a serial number: text, text in an octet-string, or a number.

    Raises:
        FrameError: it is nothing of that.

    """
    text = ""
    if isinstance(data.value, bytes):
        plain = data.value.rstrip(b"\0 ")
        text = plain.decode("ascii") if plain.isascii() else plain.hex()
    elif isinstance(data.value, str) and data.tag is not Tag.BIT_STRING:
        text = data.value.rstrip("\0 ")
    elif isinstance(data.value, int) and not isinstance(data.value, bool):
        text = str(data.value)
    text = text.strip()
    if not text or len(text) > MAX_IDENTITY or not text.isprintable():
        raise FrameError("the meter shows no serial number")
    return text


def word_of(status: object) -> int:
    """Return a status as a number: integers as they are, bit-strings with their first bit lowest, octets high first."""
    if isinstance(status, int):
        return status
    if isinstance(status, bytes):
        return int.from_bytes(status, "big")
    if isinstance(status, str) and status.strip("01") == "":
        return int(status[::-1] or "0", 2)
    return 0


@lru_cache(maxsize=_LAYOUTS)
def layout_of(kind: Kind, source: Source, interval: int, columns: tuple[Column, ...]) -> Layout:
    """Return the one layout object of these columns: batches and watches know layouts by identity."""
    return Layout(kind, source, interval, columns)


def words(data: Data) -> str:
    """Return the name of a value's type."""
    return data.tag.name.lower().replace("_", "-")
