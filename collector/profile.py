"""Meter models as data: what a model's registers are, and the frames that prove it. Reads profiles; reads no meters.

A profile is `collector/profiles/<vendor>_<model>.toml`, or a file of the user's own folder, which wins.
"""

import math
import re
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collector.fields import Obis, Seconds, Unit
from collector.profile_files import choose_points, find_profile, names_of
from collector.protocols.modbus import MAX_READ_REGISTERS
from collector.protocols.modbus_times import parse_format
from collector.protocols.modbus_values import REGISTERS, ByteOrder, ValueSpec, ValueType, WordOrder
from collector.toml_file import unique, validate
from metering.model import Kind, Number
from metering.obis import parse_obis

OTHER_KINDS = ("mqtt_", "dlms_", "dlt645_")  # the names of profiles that are other kinds of files begin so
_CACHED = 256
# Stored integers have 64 bits: a type of so many bits leaves room for so large a multiplier.
LARGEST_MULTIPLIER = 2**31
MULTIPLIERS = {"uint64": 1, "int64": 1, "bcd64": 1000, "uint48": 2**15, "int48": 2**15}

# Value group D says what a number is (IEC 62056-61): last averages, maxima, instantaneous values, time integrals.
_KINDS = {4: Kind.AVERAGE, 6: Kind.MAXIMUM_DEMAND, 7: Kind.INSTANTANEOUS, 8: Kind.REGISTER}


def _patterns(value: object) -> object:
    """Check `not_available`: for each type, bit patterns in hex (most significant digit first) or "nan"."""
    if not isinstance(value, dict):
        return value
    for kind, patterns in value.items():
        if kind not in REGISTERS:
            raise ValueError(f"{kind!r} is no type of number; known are {', '.join(REGISTERS)}")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            hexadecimal = isinstance(pattern, str) and re.fullmatch(r"[0-9A-Fa-f]+", pattern)
            if not (pattern == "nan" and kind.startswith("float")) and not (
                hexadecimal and len(pattern) == 4 * REGISTERS[kind]
            ):
                raise ValueError(f"{kind}: write patterns of {4 * REGISTERS[kind]} hex digits, or 'nan' for floats")
    return value


def _exponent(value: object) -> object:
    if isinstance(value, float):
        exponent = math.log10(value) if value > 0 else math.nan
        hint = (
            f"write {exponent:.0f} for {value:g}" if exponent == round(exponent, 9) else "with `multiplier` beside it"
        )
        raise ValueError(f"is a decimal exponent, an integer; {hint}")  # noqa: TRY004 - pydantic reports ValueErrors
    return value


NotAvailable = Annotated[dict[str, list[str]], BeforeValidator(_patterns)]


class _Table(BaseModel):
    """Frozen, strict about unknown keys; equal only to itself, so that it is cheap as a key of caches."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Serial(_Table):
    """Factory settings of the serial line, `format` as in 8N1, and of the unit address."""

    baud: int = Field(gt=0)
    format: str
    unit: int = Field(1, ge=1, le=247)

    @model_validator(mode="after")
    def _known_format(self) -> Self:
        parse_format(self.format)
        return self


class Place(_Table):
    """Where a value lies and how. `function`, orders and sentinels that are not said are the profile's."""

    address: int = Field(ge=0, le=0xFFFF)  # as it goes on the wire, counted from 0
    type: ValueType
    function: Literal[3, 4] | None = None
    count: int | None = Field(None, ge=1, le=MAX_READ_REGISTERS)  # registers; only where the type does not say it
    word_order: WordOrder | None = None
    byte_order: ByteOrder | None = None
    shift: int = Field(0, ge=0, le=63)
    width: int = Field(0, ge=0, le=64)

    @model_validator(mode="after")
    def _width_is_known(self) -> Self:
        if (self.type in REGISTERS) is not (self.count is None):
            raise ValueError(f"count: {'leave it out' if self.count else 'say how many registers'} with {self.type}")
        if self.type == "bits" and not (self.width >= 1 and self.shift + self.width <= 16 * self.registers <= 64):
            raise ValueError("bits: say shift and width, inside at most 4 registers")
        return self

    @property
    def registers(self) -> int:
        """Return how many registers the value has."""
        return self.count or REGISTERS[self.type]


class Point(Place):
    """One value of a model as a channel: shown is register x `multiplier` x 10^`scale` `unit`.

    `verified` counts the independent sources that agree. `min` and `max` (in `unit`) bound what the register can show.
    `rollover` is the register's own number (before `multiplier`) at which it begins again at zero.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    obis: Obis
    unit: Unit
    scale: Annotated[int, BeforeValidator(_exponent), Field(ge=-12, le=12)] = 0
    multiplier: int = Field(1, ge=1)
    verified: Literal[1, 2] = 1
    kind: Kind | None = Field(None, strict=False)  # where value group D of the OBIS code does not say it
    min: float | None = None
    max: float | None = None
    rollover: int | None = Field(None, gt=0)
    note: str = ""

    @model_validator(mode="after")
    def _is_a_channel(self) -> Self:
        if self.type == "ascii":
            raise ValueError("type: text is no channel; it may be the identity")
        if self.type.startswith("float") and self.multiplier != 1:
            raise ValueError("multiplier: a float is kept as the meter sends it; say a scale")
        if self.multiplier > MULTIPLIERS.get(self.type, LARGEST_MULTIPLIER):
            raise ValueError("multiplier: the largest value of this type times it outgrows 64 bits; say a scale")
        if self.kind is None and parse_obis(self.obis)[3] not in _KINDS:
            raise ValueError(f"kind: say it, because value group D of {self.obis} is none of 4, 6, 7, 8")
        return self

    @property
    def number(self) -> Number:
        """Return what the meter sends: an integer, a float32 or a float64."""
        return "float32" if self.type == "float32" else "float64" if self.type == "float64" else "int"

    @property
    def what(self) -> Kind:
        """Return the kind of the channel: as written, or as value group D says."""
        return self.kind or _KINDS[parse_obis(self.obis)[3]]

    @property
    def modulus(self) -> int | None:
        """Return the stored value (x `multiplier`) at which the register begins again; None where none is known.

        What the profile says, otherwise what an unsigned or BCD register can hold.
        """
        if self.rollover is not None:
            return self.rollover * self.multiplier
        bits = 16 * self.registers
        if self.type.startswith("uint"):
            return (1 << bits) * self.multiplier
        return 10 ** (bits // 4) * self.multiplier if self.type.startswith("bcd") else None


class CommandPoint(_Table):
    """Where the relay is ordered: a coil or a holding register, and what is written to open and to close it."""

    kind: Literal["coil", "register"]
    address: int = Field(ge=0, le=0xFFFF)
    open: int = Field(ge=0, le=0xFFFF)
    closed: int = Field(ge=0, le=0xFFFF)

    @model_validator(mode="after")
    def _two_values(self) -> Self:
        if self.open == self.closed or (self.kind == "coil" and {self.open, self.closed} != {0, 1}):
            raise ValueError("open, closed: two different values; of a coil 0 and 1")
        return self


class StatusPoint(_Table):
    """Where the relay shows how it is, apart from where it is ordered: a bit (functions 1, 2) or a register (3, 4)."""

    function: Literal[1, 2, 3, 4]
    address: int = Field(ge=0, le=0xFFFF)
    mask: int = Field(0xFFFF, ge=1, le=0xFFFF)  # the bits of a register that count
    open: int = Field(ge=0, le=0xFFFF)
    closed: int = Field(ge=0, le=0xFFFF)

    @model_validator(mode="after")
    def _two_values(self) -> Self:
        if self.open == self.closed:
            raise ValueError("open, closed: two different values")
        return self


class Supply(_Table):
    """The load switch of a model: command and status points.

    `load_side`, `current` and `registers` are names of points: the voltage behind the open switch, the load current,
    and what is read before and after a command (none named: all running totals).
    """

    command: CommandPoint
    status: StatusPoint
    load_side: tuple[str, ...] = Field((), strict=False)
    current: tuple[str, ...] = Field((), strict=False)
    registers: tuple[str, ...] = Field((), strict=False)


class ProfileTest(_Table):
    """Frames and what they must give: an RTU request and its reply in hex, values as decimal strings by point name.

    A value that is not there is written as its quality: `not-available`, `not-a-number`.
    """

    name: str
    source: str
    request: str
    reply: str
    values: dict[str, str] = {}
    identity: str = ""  # the serial number that the reply shows


class Profile(_Table):
    """A meter model. `name` is the file's; the order of `points` is the order of a reading's columns."""

    name: str = ""
    maker: str
    model: str
    phases: int = Field(ge=1, le=3)
    sources: tuple[str, ...] = Field(min_length=1, strict=False)
    notes: tuple[str, ...] = Field((), strict=False)
    serial: Serial
    max_registers: int = Field(MAX_READ_REGISTERS, ge=1, le=MAX_READ_REGISTERS)
    turnaround: Seconds = 0.1  # how long the model usually thinks before it begins to answer
    memory_days: int = Field(0, ge=0)  # how far back its own load profile reaches; 0: it has none
    supply: Supply | None = None  # its load switch, where it has one
    function: Literal[3, 4] = 3
    word_order: WordOrder = "msw_first"
    byte_order: ByteOrder = "big"
    not_available: NotAvailable = {}
    identity: Place | None = None  # the serial number
    points: tuple[Point, ...] = Field(min_length=1, strict=False)
    test: tuple[ProfileTest, ...] = Field((), strict=False)

    def function_of(self, place: Place) -> int:
        """Return the Modbus function that reads this place."""
        return place.function or self.function

    def spec(self, place: Place) -> ValueSpec:
        """Return how the place's value is decoded, with the profile's orders, sentinels and the point's bounds."""
        patterns = self.not_available.get(place.type, [])
        point = place if isinstance(place, Point) else None
        return ValueSpec(
            type=place.type,
            count=place.registers,
            word_order=place.word_order or self.word_order,
            byte_order=place.byte_order or self.byte_order,
            shift=place.shift,
            width=place.width,
            multiplier=point.multiplier if point else 1,
            not_available=frozenset(int(pattern, 16) for pattern in patterns if pattern != "nan"),
            nan_not_available="nan" in patterns,
            low=_stored(point.min, point.scale) if point else None,
            high=_stored(point.max, point.scale) if point else None,
        )

    def select(self, names: tuple[str, ...] = ()) -> tuple[Point, ...]:
        """Return the points of these names in the profile's order; all of them when none is named.

        Raises:
            ConfigError: the profile has no point of a name.

        """
        return choose_points(self.name, self._by_name, names)

    def moduli(self) -> dict[str, int]:
        """Return, for each OBIS code of a running total, the stored value at which it begins again, where known."""
        totals = (point for point in self.points if point.what is Kind.REGISTER)
        return {point.obis: point.modulus for point in totals if point.modulus is not None}

    @cached_property
    def _by_name(self) -> dict[str, Point]:
        return {point.name: point for point in self.points}


def _stored(shown: float | None, scale: int) -> float | None:
    """Return a bound in `unit` as the stored value: exact, an integer where it is one."""
    if shown is None:
        return None
    stored = Decimal(repr(shown)).scaleb(-scale)
    return int(stored) if stored == stored.to_integral_value() else float(stored)


def profile_names(extra: Path | None = None) -> list[str]:
    """Return the names of all Modbus profiles, those of the user's own folder among them."""
    return [name for name in names_of("", extra) if not name.startswith(OTHER_KINDS)]


@lru_cache(maxsize=_CACHED)
def load_profile(name: str, extra: Path | None = None) -> Profile:
    """Return the profile of this name, from the user's own folder `extra` or from ours. One object for all meters.

    Raises:
        ConfigError: there is no such profile, or its file is wrong (names file, line and key).

    """
    return read_profile(find_profile(name, profile_names(extra), extra))


def read_profile(path: Path) -> Profile:
    """Return the profile in this file.

    Raises:
        ConfigError: the file is wrong; names file, line and key.

    """
    profile = validate(Profile, path)
    unique(path, ("points",), "name", [point.name for point in profile.points])
    unique(path, ("points",), "obis", [f"{point.obis} ({point.what})" for point in profile.points])
    return profile.model_copy(update={"name": path.stem})
