"""What the columns of a meter's profile are: capture objects, the profile file's word and scalers. Reads no meter."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.dlms_tables import SCALERS, TIMES, ColumnSpec
from collector.dlms_units import NO_UNIT, kind_of, measure
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.load_profile import BufferColumn, Null
from collector.protocols.dlms.references import Attribute, CaptureObject
from metering.errors import FrameError
from metering.model import Kind
from metering.obis import parse_obis

MAX_COLUMNS = 127


class ScalerUnit(NamedTuple):
    """Attribute scaler_unit: value shown = value x 10^`scaler`, in `unit` of the standard's list."""

    scaler: int
    unit: int


class ValueColumn(NamedTuple):
    """A column of numbers (`time`: of date-times, given as seconds since 1970). `position`: without the clock."""

    position: int
    obis: str
    kind: Kind
    unit: str
    scale: int
    time: bool = False


class Shape(NamedTuple):
    """The columns of one profile. `skipped` says in words what is not kept, and why."""

    columns: tuple[BufferColumn, ...]
    clock: int  # position of the clock among all columns
    status: tuple[tuple[int, ColumnSpec], ...]
    values: tuple[ValueColumn, ...]
    codes: tuple[int, ...]
    details: tuple[tuple[int, str], ...]
    skipped: tuple[str, ...]


def parse_scaler_unit(data: Data) -> ScalerUnit:
    """Return scaler and unit.

    Raises:
        FrameError: it is no structure of an integer and an enumeration, or an exponent beyond +-127.

    """
    parts: tuple[Data, ...] = data.value if data.tag is Tag.STRUCTURE else ()
    if len(parts) != 2 or parts[0].tag is not Tag.INTEGER or parts[1].tag not in (Tag.ENUM, Tag.UNSIGNED):
        raise FrameError("scaler_unit is no structure of a scaler and a unit")
    return ScalerUnit(parts[0].value, parts[1].value)


def parse_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Return the capture objects of a profile (attribute 3).

    Raises:
        FrameError: it is no array of capture objects, or there are none or too many.

    """
    if data.tag is not Tag.ARRAY or not 1 <= len(data.value) <= MAX_COLUMNS:
        raise FrameError(f"capture_objects is no array of 1 to {MAX_COLUMNS} objects")
    return tuple(CaptureObject.of(item) for item in data.value)


def scaler_of(item: CaptureObject) -> Attribute | None:
    """Return where the scaler and unit of a captured number are; None where it has none."""
    attribute = SCALERS.get((item.class_id, item.attribute))
    return Attribute(item.class_id, item.obis, attribute) if attribute is not None and not item[3] else None


def make_shape(
    objects: Sequence[CaptureObject],
    specs: Sequence[ColumnSpec],
    scalers: Mapping[Attribute, ScalerUnit],
    null: Null,
    *,
    period: int,
) -> Shape:
    """Return the columns of a profile.

    `null` is what null-data means in columns of values, `period` the capture period in s (0: none).

    Raises:
        FrameError: there is no clock among the columns, or more than one.

    """
    said = {(spec.obis, spec.attribute): spec for spec in specs}
    wants_clock = not any(spec.role == "clock" for spec in specs)
    shape = _Making(scalers, null, period)
    for item in objects:
        spec = said.get((item.obis, item.attribute))
        part = bool(item[3]) and spec is not None and spec.role == "value"  # a number's file speaks of whole attributes
        shape.add(item, spec, spec.role if spec and not part else _role(item, clock=wants_clock))
    return shape.made()


def _role(item: CaptureObject, *, clock: bool) -> str:
    if item[3] or not item.attribute:  # a part of a value, or all attributes at once
        return "skip"
    if item.class_id == 8 and item.attribute == 2:
        return "clock" if clock else "time"
    if (item.class_id, item.attribute) in TIMES:
        return "time"
    return "status" if parse_obis(item.obis)[2:4] == (96, 10) else "value"


class _Making:
    def __init__(self, scalers: Mapping[Attribute, ScalerUnit], null: Null, period: int) -> None:
        self._scalers = scalers
        self._null: Null = null
        self._period = period
        self._columns: list[BufferColumn] = []
        self._clocks: list[int] = []
        self._status: list[tuple[int, ColumnSpec]] = []
        self._values: list[ValueColumn] = []
        self._codes: list[int] = []
        self._details: list[tuple[int, str]] = []
        self._skipped: list[str] = []

    def add(self, item: CaptureObject, spec: ColumnSpec | None, role: str) -> None:
        position = len(self._columns) - len(self._clocks)
        said = spec.null if spec else None
        if role == "clock":
            self._clocks.append(len(self._columns))
            self._columns.append(
                BufferColumn(clock=True, null=said or ("clock+period" if self._period else "previous"))
            )
            return
        # A status that was left out is the one before; what a value means so is the profile's to say.
        self._columns.append(BufferColumn(null=said or ("previous" if role == "status" else self._null)))
        if role == "status":
            self._status.append((position, spec or ColumnSpec(obis=item.obis, role="status")))
        elif role == "code":
            self._codes.append(position)
        elif role == "detail":
            self._details.append((position, item.obis))
        elif role == "skip":
            self._skip(item, "it is no number of a channel")
        else:
            self._value(position, item, spec, time=role == "time")

    def _value(self, position: int, item: CaptureObject, spec: ColumnSpec | None, *, time: bool) -> None:
        kind = Kind.INSTANTANEOUS if time else (spec.kind if spec and spec.kind else kind_of(item.obis))
        if kind is None:
            self._skip(item, "its code does not say what kind of value it is")
            return
        if any((item.obis, kind) == (column.obis, column.kind) for column in self._values):
            self._skip(item, f"another column is {item.obis} ({kind}) already")
            return
        if time:
            self._values.append(ValueColumn(position, item.obis, kind, "s", 0, time=True))
            return
        try:
            unit, scale = self._scale(item, spec)
        except ValueError as error:
            self._skip(item, str(error))
            return
        self._values.append(ValueColumn(position, item.obis, kind, unit, scale))

    def _scale(self, item: CaptureObject, spec: ColumnSpec | None) -> tuple[str, int]:
        place = scaler_of(item)
        found = self._scalers.get(place) if place else None
        if found is None and spec and spec.unit is not None:
            return spec.unit, spec.scale or 0
        if found is None:
            raise ValueError("the meter tells no unit of it, and the profile none either")
        unit, shift = measure(found.unit, spec.unit if spec and found.unit != NO_UNIT else None)
        if found.unit == NO_UNIT and spec and spec.unit is not None:
            unit = spec.unit
        return unit, found.scaler + shift

    def _skip(self, item: CaptureObject, reason: str) -> None:
        self._skipped.append(f"class {item.class_id} {item.obis} attribute {item.attribute}: {reason}")

    def made(self) -> Shape:
        if len(self._clocks) != 1:
            raise FrameError(f"a profile has one clock among its columns, not {len(self._clocks)}")
        return Shape(
            tuple(self._columns),
            self._clocks[0],
            tuple(self._status),
            tuple(self._values),
            tuple(self._codes),
            tuple(self._details),
            tuple(self._skipped),
        )
