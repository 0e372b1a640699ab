"""The tables of a DL/T 645 profile: points, blocks, what a meter records, its clock and its events. Not the profile."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collector.fields import Obis, Seconds, Unit
from collector.protocols.dlt645.events import EVENTS
from collector.protocols.dlt645.identifiers import check_di
from collector.protocols.dlt645.load_record import MAX_BLOCKS, RecordLayout
from collector.protocols.dlt645.times import ByteOrder
from collector.protocols.dlt645.values import Format, parse_format
from collector.protocols.modbus_times import parse_format as parse_line_format
from metering.model import Kind, Number
from metering.obis import parse_obis

# Value group D says what a number is (IEC 62056-61): averages, maxima, instantaneous values, time integrals.
KINDS = {4: Kind.AVERAGE, 6: Kind.MAXIMUM_DEMAND, 7: Kind.INSTANTANEOUS, 8: Kind.REGISTER}
SKIP = "skip:"  # in a block: so many bytes that are nobody's
CLASSES = 6
STAMP = "YYMMDDhhmm"


def _event(name: str) -> str:
    if name not in EVENTS:
        raise ValueError(f"{name!r} is no event; known are {', '.join(EVENTS)}")
    return name


Di = Annotated[str, AfterValidator(check_di)]
EventName = Annotated[str, AfterValidator(_event)]
Hex = Annotated[str, Field(pattern=r"^(?:[0-9A-F]{2})*$")]
Bits = dict[Annotated[str, Field(pattern=r"^(?:\d|1[0-5])$")], EventName]


class Table(BaseModel):
    """Frozen, strict about unknown keys; equal only to itself, so that it is cheap as a key of caches."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Serial(Table):
    """Factory settings of the serial line."""

    baud: int = Field(2400, gt=0)
    format: str = "8E1"

    @model_validator(mode="after")
    def _known_format(self) -> Self:
        parse_line_format(self.format)
        return self


class Point(Table):
    """One value of a model as a channel, with the identifier by which it is read alone.

    `format` is the standard's (`XXXXXX.XX`), `signed` whether the top bit is a sign. Several points may share an
    identifier: `before` and `extra` are the bytes before and behind this one (a maximum demand and its stamp). The
    format `YYMMDDhhmm` is a time, held as whole seconds since 1970 UTC. `verified` counts the independent sources that
    agree.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    obis: Obis
    di: Di
    format: str
    signed: bool = False
    before: int = Field(0, ge=0, le=16)
    extra: int = Field(0, ge=0, le=16)
    unit: Unit
    verified: Literal[1, 2] = 1
    kind: Kind | None = Field(None, strict=False)  # where value group D of the OBIS code does not say it
    note: str = ""

    @model_validator(mode="after")
    def _is_a_channel(self) -> Self:
        if self.is_time and (self.unit != "s" or self.kind is not Kind.INSTANTANEOUS):
            raise ValueError("format: a time is a channel of kind 'instantaneous' in unit 's'")
        if not self.is_time:
            parse_format(self.format)
        if self.kind is None and parse_obis(self.obis)[3] not in KINDS:
            raise ValueError(f"kind: say it, because value group D of {self.obis} is none of 4, 6, 7, 8")
        return self

    @property
    def is_time(self) -> bool:
        """Tell whether it is a date and time."""
        return self.format == STAMP

    @property
    def form(self) -> Format:
        """Return how the number is written; of a time, how many bytes it has."""
        return Format(len(STAMP) // 2, 0) if self.is_time else parse_format(self.format, signed=self.signed)

    @property
    def scale(self) -> int:
        """Return the decimal exponent of the stored integer."""
        return self.form.scale

    @property
    def size(self) -> int:
        """Return the bytes of its item, those before and behind it included."""
        return self.before + self.form.size + self.extra

    @property
    def number(self) -> Number:
        """Return what the meter sends: an integer."""
        return "int"

    @property
    def what(self) -> Kind:
        """Return the kind of the channel: as written, or as value group D says."""
        return self.kind or KINDS[parse_obis(self.obis)[3]]

    @property
    def modulus(self) -> int | None:
        """Return the stored value at which a running total begins again; None where the item has a sign."""
        return None if self.signed else self.form.modulus


class BlockTable(Table):
    """One identifier whose answer holds several points, in this order; `skip:2` are two bytes of no point."""

    di: Di
    points: tuple[str, ...] = Field(min_length=1, strict=False)


class RecordClass(Table):
    """One class of load records: its points in their order, and how often the meter stores it."""

    number: int = Field(ge=1, le=CLASSES)
    interval: Seconds = 900.0
    points: tuple[str, ...] = Field(min_length=1, strict=False)


class LoadRecord(Table):
    """Load records (06xxxxxx): depth, classes, and the layout of a block, all of which makers may do differently.

    `piece` is how many blocks one request asks for (0: as many as one frame holds). `stamps` says which
    end of the interval a block is stamped with.
    `sections`: an answer for one class has the separators of `all` classes or its `own` alone. `ask_interval`: the
    meter's own intervals (04000A02 on) are read and win.
    """

    days: int = Field(60, ge=1)
    piece: int = Field(0, ge=0, le=MAX_BLOCKS)
    stamps: Literal["begin", "end"] = "end"
    sections: Literal["all", "own"] = "all"
    ask_interval: bool = True
    header: Hex = "A0A0"
    separator: Hex = Field("AA", min_length=2)
    trailer: Hex = "E5"
    checksum: bool = True
    length_counts: Literal["body", "tail"] = "body"
    stamp_order: ByteOrder = "low-first"
    classes: tuple[RecordClass, ...] = Field(alias="class", strict=False)

    def layout(self, class_number: int, sizes: dict[int, int]) -> RecordLayout:
        """Return the layout of the blocks of one class; `sizes` are the classes' bytes where they are known."""
        numbers = range(1, CLASSES + 1) if self.sections == "all" else (class_number,)
        return RecordLayout(
            sizes=tuple((number, sizes.get(number, 0)) for number in numbers),
            header=bytes.fromhex(self.header),
            separator=bytes.fromhex(self.separator),
            trailer=bytes.fromhex(self.trailer),
            has_checksum=self.checksum,
            length_counts=self.length_counts,
            stamp_order=self.stamp_order,
        )


class FreezeItem(Table):
    """One item of a freeze: DI1, and the points that it holds."""

    item: str = Field(pattern=r"^[0-9A-F]{2}$")
    points: tuple[str, ...] = Field(min_length=1, strict=False)


class DailyFreeze(Table):
    """Daily freezes: DI3 and DI2, how many days, DI1 of the stamp and of the items; DI0 counts back from 01.

    `whole`: DI1 = FF gives stamp and all items at once, with `separator` between them.
    """

    prefix: str = Field("0506", pattern=r"^[0-9A-F]{4}$")
    days: int = Field(62, ge=1, le=254)
    piece: int = Field(8, ge=1)
    stamp: str = Field("00", pattern=r"^[0-9A-F]{2}$")
    whole: bool = False
    separator: Hex = "AA"
    items: tuple[FreezeItem, ...] = Field(alias="item", strict=False)


class Settlement(Table):
    """Settlement days: DI0 01 to 0C of the energies, frozen at up to three days of each month.

    `days` are identifiers of the meter's own settlement days (DDhh); `day` is taken where it does not tell them.
    """

    months: int = Field(12, ge=1, le=254)
    piece: int = Field(4, ge=1)
    days: tuple[Di, ...] = Field(("04000B01", "04000B02", "04000B03"), strict=False)
    day: str = Field("0100", pattern=r"^(?:0[1-9]|1\d|2[0-8])(?:[01]\d|2[0-3])$")
    points: tuple[str, ...] = Field(min_length=1, strict=False)


class Clock(Table):
    """The clock: how it is read and set. A broadcast is believed within `limit` and not within `guard` of midnight."""

    date: Di = "04000101"
    time: Di = "04000102"
    write: bool = True  # by a password, where the key store has one
    broadcast: ByteOrder | Literal["none"] = "low-first"
    broadcast_to: Literal["line", "meter"] = "line"  # the address: 99.. reaches every meter of the line
    limit: Seconds = 300.0
    guard: Seconds = 600.0


class Supply(Table):
    """The load switch (1CH). `route`: by password, or through an encryption machine (ESAM) alone.

    `closes` are the ways it is closed by: `permit` (the customer presses the button) and `direct`; `restore` takes the
    first one. `status` is status word 3. `load_side`, `current` and `registers` are names of points: the voltage behind
    the open switch, the load current, and what is read before and after a command (none named: all running totals).
    """

    route: Literal["password", "esam"] = "password"
    level: int | None = Field(None, ge=0, le=9)  # of the password; left out: the profile's `password_level`
    closes: tuple[Literal["permit", "direct"], ...] = Field(("permit", "direct"), min_length=1, strict=False)
    status: Di = "04000503"
    load_side: tuple[str, ...] = Field((), strict=False)
    current: tuple[str, ...] = Field((), strict=False)
    registers: tuple[str, ...] = Field((), strict=False)


class StatusTable(Table):
    """One status word: events for bits (0 to 15) that are set, and for those that are no longer."""

    di: Di
    bits: Bits
    cleared: Bits = {}


class EventTable(Table):
    """One log of records: DI0 counts back from 01. `start` and `end` are where the stamps (YYMMDDhhmmss) stand."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")
    di: Di
    count: Di = ""  # how many there were; empty: not asked
    depth: int = Field(10, ge=1, le=254)
    start: int = Field(0, ge=-1, le=200)
    end: int = Field(-1, ge=-1, le=200)
    begins: EventName
    ends: EventName | None = None


class ProfileTest(Table):
    """Frames and what they must give: values as decimal strings by point name, `not-available` where there is none."""

    name: str
    source: str
    request: str
    reply: str
    values: dict[str, str]
