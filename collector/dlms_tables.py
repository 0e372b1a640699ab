"""The tables of a DLMS meter model's file: points, profiles, event logs, clock, association. Not the file itself."""

from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collector.dlms_units import kind_of
from collector.fields import Obis, Seconds, Unit
from metering import events
from metering.events import EventType
from metering.model import Kind
from metering.quality import CODES, Quality

_WORDS = {event.name: event for event in vars(events).values() if isinstance(event, EventType)}
_FLAGS = {code.name: flag for flag, code in CODES.items()}

CLOCK = "0-0:1.0.0*255"
# Where class 3, 4 and 5 have a number and where its scaler_unit is; where class 4 and 5 have a time (Blue Book 4.3).
SCALERS = {(3, 2): 3, (4, 2): 3, (5, 2): 4, (5, 3): 4}
TIMES = {(4, 5), (5, 6), (5, 7)}

Role = Literal["load", "daily", "billing", "freeze"]


def _word(name: str) -> str:
    if name not in _WORDS:
        near = get_close_matches(name, _WORDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(sorted(_WORDS))
        raise ValueError(f"{name!r} is no event's name; {hint}")
    return name


def _flag(name: str) -> str:
    if name not in _FLAGS:
        raise ValueError(f"{name!r} is no quality; known are {', '.join(_FLAGS)}")
    return name


def _numbered(value: object) -> object:
    """Check that the keys of a table are numbers: TOML writes all keys as text."""
    if isinstance(value, dict):
        for key in value:
            if not (isinstance(key, str) and key.isdecimal()):
                raise ValueError(f"{key!r}: keys are numbers")
        return {int(key): item for key, item in value.items()}
    return value


EventName = Annotated[str, AfterValidator(_word)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Codes = Annotated[dict[int, EventName], BeforeValidator(_numbered)]
FlagBits = Annotated[dict[int, list[Annotated[str, AfterValidator(_flag)]]], BeforeValidator(_numbered)]
Scale = Annotated[int, Field(ge=-12, le=12)]


class Table(BaseModel):
    """Frozen, strict about unknown keys; equal only to itself, so that it is cheap as a key of caches."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class DlmsPoint(Table):
    """One value of a model as a channel, in `unit`.

    Scaler and unit are read from the meter (classes 3, 4 and 5); `scale` is what counts where it has none. A point of
    type `time` is a date-time as whole seconds since 1970, UTC: the capture time of a maximum, for example. One of type
    `status` is a word of bits, first bit lowest: a register's status, an alarm register.
    """

    name: Name
    class_id: Literal[1, 3, 4, 5] = Field(3, alias="class")
    obis: Obis
    attribute: int = Field(2, ge=2, le=9)
    type: Literal["number", "time", "status"] = "number"
    unit: Unit
    scale: Scale | None = None
    kind: Kind | None = Field(None, strict=False)  # where value group D of the code does not say it
    rollover: int | None = Field(None, gt=0)  # the stored number at which it begins again at zero
    verified: Literal[1, 2] = 1
    note: str = ""

    @model_validator(mode="after")
    def _is_a_channel(self) -> Self:
        if self.kind is None and kind_of(self.obis) is None:
            raise ValueError(f"kind: say it, because value group D of {self.obis} does not")
        place = self.class_id, self.attribute
        if self.type == "time":
            if self.unit != "s" or self.kind is not Kind.INSTANTANEOUS:
                raise ValueError("type: a time is a channel of kind 'instantaneous' in unit 's'")
        elif self.type == "status":
            if self.unit or self.kind is not Kind.INSTANTANEOUS or self.scale:
                raise ValueError("type: a status is a channel of kind 'instantaneous' without unit and scale")
        elif self.class_id != 1 and place not in SCALERS:
            raise ValueError(f"attribute: class {self.class_id} has no number at {self.attribute}")
        return self

    @property
    def scaler_attribute(self) -> int | None:
        """Return the attribute that holds scaler and unit; None where there is none."""
        return None if self.type != "number" else SCALERS.get((self.class_id, self.attribute))

    @property
    def what(self) -> Kind:
        """Return the kind of the channel."""
        kind = self.kind or kind_of(self.obis)
        if kind is None:
            raise ValueError("checked when it was made")
        return kind


class ColumnSpec(Table):
    """What a profile's column is, where its object does not say it by itself.

    `bits` gives, for bits of a status (0 is the lowest), the qualities that they put on the row; `dst_bit` is the one
    that is set while daylight saving counts. `null` is what null-data means: the value of the row before, or no value.
    """

    obis: Obis
    attribute: int = Field(2, ge=0, le=127)
    role: Literal["clock", "status", "value", "time", "code", "detail", "skip"] = "value"
    null: Literal["previous", "none", "clock+period"] | None = None
    unit: Unit | None = None
    scale: Scale | None = None
    kind: Kind | None = Field(None, strict=False)
    bits: FlagBits = {}
    dst_bit: int | None = Field(None, ge=0, le=63)

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if (self.bits or self.dst_bit is not None) and self.role != "status":
            raise ValueError("bits: only a column of role 'status' has them")
        if self.null == "clock+period" and self.role != "clock":
            raise ValueError("null: only a column of role 'clock' counts on by its period")
        return self

    def flags(self, status: int) -> int:
        """Return the quality that a status word puts on its row."""
        found = Quality.VALID
        for bit, names in self.bits.items():
            if status >> bit & 1:
                for name in names:
                    found |= _FLAGS[name]
        return int(found)


class DepthSpec(Table):
    """How far back a profile reaches, where the meter does not say it (0: not known)."""

    days: int = Field(0, ge=0)
    entries: int = Field(0, ge=0)


class ProfileSpec(Table):
    """One profile (class 7) of a model.

    `period` counts where the meter shows none (attribute 4 is 0). `tolerance` is how far from the boundary a row's
    time may lie and still be the boundary's. `scaler_profile` is the profile that holds its scalers (IS 15959).
    """

    name: Name
    obis: Obis
    role: Role
    stamps: Literal["end", "beginning"] = "end"
    period: Seconds = 0
    null: Literal["previous", "none"] = "previous"
    access: Literal["range", "entry", "all"] = "range"
    range_object: Obis | None = None  # the clock column, where it is not said
    piece_rows: int = Field(96, ge=1, le=10_000)
    depth: DepthSpec = DepthSpec()
    tolerance: Seconds = 0
    scaler_profile: Obis | None = None
    columns: tuple[ColumnSpec, ...] = Field((), strict=False)


class EventsSpec(Table):
    """One event log (class 7). `codes` gives names to its codes; a log of one kind of event (no code) has `event`."""

    name: Name
    obis: Obis
    event: EventName | None = None
    codes: Codes = {}
    access: Literal["range", "entry", "all"] = "range"
    range_object: Obis | None = None
    columns: tuple[ColumnSpec, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if (self.event is None) is not bool(self.codes):
            raise ValueError("codes: say either the codes' names, or the one `event` that the log is of")
        return self


class StatusSpec(Table):
    """A status or alarm register (class 1): the events that its bits are while they are set (0 is the lowest)."""

    name: Name
    obis: Obis
    bits: Codes


class ColumnRef(Table):
    """One item of what a meter sends by itself."""

    class_id: int = Field(3, alias="class", ge=1, le=0xFFFF)
    obis: Obis
    attribute: int = Field(2, ge=0, le=127)


class PushSpec(Table):
    """What a meter sends by itself (class 40): its object list in order. The meter's own, once read, counts."""

    obis: Obis
    objects: tuple[ColumnRef, ...] = Field((), strict=False)


class ClockSpec(Table):
    """The clock (class 8). `deviation` says which way the meter counts it; the Blue Book has utc=local+dev.

    `dst_bit` is False where the daylight-saving bit of its status cannot be trusted. `limits` says whether the limits
    of a range carry a deviation. `adjust`: shift by method 6, only set, or neither.
    """

    obis: Obis = CLOCK
    deviation: Literal["utc=local+dev", "utc=local-dev"] = "utc=local+dev"
    dst_bit: bool = True
    limits: Literal["deviation", "unspecified"] = "deviation"
    adjust: Literal["shift", "set", "none"] = "shift"
    shift_limit: int = Field(900, ge=1, le=900)  # seconds


class SupplySpec(Table):
    """The supply: disconnect control (class 70) and limiter (class 71); None: the model has none.

    `no_limit` are thresholds, in the meter's own digits, that stand for no limit; the first one is written. `load_side`
    are points that show the voltage behind the open switch, where the model has such; `current` the load current;
    `registers` what is read before and after a command (none named: all running totals).
    """

    switch: Obis | None = "0-0:96.3.10*255"
    limiter: Obis | None = "0-0:17.0.0*255"
    no_limit: tuple[int, ...] = Field((0,), min_length=1, strict=False)
    load_side: tuple[Name, ...] = Field((), strict=False)
    current: tuple[Name, ...] = Field((), strict=False)
    registers: tuple[Name, ...] = Field((), strict=False)


class HdlcSpec(Table):
    """HDLC parameters that are proposed: the longest information field in bytes, and the window."""

    info: int = Field(128, ge=32, le=2030)
    window: int = Field(1, ge=1, le=7)
    address_bytes: Literal[1, 2, 4] = 1


class AssociationSpec(Table):
    """How the model is usually asked; a meter's own settings win."""

    client: int = Field(16, ge=1, le=127)
    server: int = Field(1, ge=1, le=0x3FFF)
    authentication: Literal["none", "low", "high-md5", "high-sha1", "high-gmac", "high-sha256"] = "none"
    security: Literal["none", "authenticated", "encrypted", "authenticated-encrypted"] = "none"
    ciphering: Literal["glo", "ded", "general-glo", "general-ded"] = "glo"
    counter: Obis = "0-0:43.1.0*255"  # the invocation counter that the public client may read


def event_of(name: str) -> EventType:
    """Return the shared event of this name, which a profile's loader has checked."""
    return _WORDS[name]
