"""Models of DL/T 645 meters as data: which identifiers they have, and the frames that prove it. Reads no meters.

A profile is `collector/profiles/dlt645_<...>.toml`, or a file of the user's own folder, which wins. What editions and
makers do differently, or what no meter has confirmed, is a key of the profile.
"""

from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from collector.dlt645_tables import (
    SKIP,
    BlockTable,
    Clock,
    DailyFreeze,
    EventTable,
    LoadRecord,
    Point,
    ProfileTest,
    Serial,
    Settlement,
    StatusTable,
    Supply,
    Table,
)
from collector.fields import Seconds
from collector.profile_files import choose_points, find_profile, names_of
from collector.protocols.dlt645.frame import MAX_DATA, MAX_READ_DATA
from collector.protocols.dlt645.identifiers import EDITIONS, EditionName
from collector.protocols.dlt645.load_record import RecordLayout
from collector.protocols.dlt645.reading import MAX_JOINED
from collector.toml_file import error_at, unique, validate
from metering.model import Kind

PREFIX = "dlt645_"
_CACHED = 256
WILDCARD_IDENTITY = "wildcard"  # the address is asked for with AA: on a line with one meter


class Dlt645Profile(Table):
    """A meter model. `name` is the file's; the order of `points` is the order of a reading's columns.

    `identity` is the identifier that shows the serial number, or `wildcard`, or empty. `wake` counts the bytes FE sent
    before a request, `max_data` the longest DATA of an answer, `max_answer` that of all its frames together.
    """

    name: str = ""
    maker: str
    model: str
    edition: EditionName
    phases: int = Field(ge=1, le=3)
    sources: tuple[str, ...] = Field(min_length=1, strict=False)
    notes: tuple[str, ...] = Field((), strict=False)
    serial: Serial
    turnaround: Seconds = 0.1  # how long the model usually thinks before it begins to answer
    wake: int = Field(4, ge=0, le=16)
    max_data: int = Field(MAX_READ_DATA, ge=16, le=MAX_DATA)
    max_answer: int = Field(MAX_JOINED, ge=256, le=65_536)
    zone: str = "Asia/Shanghai"  # the meter's civil time
    identity: str = Field("04000401", pattern=r"^(?:[0-9A-F]{4}|[0-9A-F]{8}|wildcard|)$")
    password_level: int = Field(2, ge=0, le=9)
    points: tuple[Point, ...] = Field(min_length=1, strict=False)
    block: tuple[BlockTable, ...] = Field((), strict=False)
    load_record: LoadRecord | None = None
    daily_freeze: DailyFreeze | None = None
    settlement: Settlement | None = None
    clock: Clock | None = None
    supply: Supply | None = None
    status: tuple[StatusTable, ...] = Field((), strict=False)
    event: tuple[EventTable, ...] = Field((), strict=False)
    test: tuple[ProfileTest, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"zone: {self.zone!r} is no time zone") from None
        return self

    @property
    def memory_days(self) -> int:
        """Return how far back the meter's own records reach; 0: it keeps none."""
        return max(self.load_record.days if self.load_record else 0, self.daily_freeze.days if self.daily_freeze else 0)

    def point(self, name: str) -> Point:
        """Return the point of this name, which must be known."""
        return self._by_name[name]

    def together(self, di: str) -> tuple[Point, ...]:
        """Return the points that one identifier gives."""
        return tuple(point for point in self.points if point.di == di)

    def items(self, names: tuple[str, ...]) -> tuple[tuple[tuple[Point, ...], int], ...]:
        """Return the items of a block: the points that each gives (none: nobody's bytes) and its bytes."""
        found: list[tuple[tuple[Point, ...], int]] = []
        for name in names:
            point = self._by_name.get(name)
            found.append((self.together(point.di), point.size) if point else ((), int(name.removeprefix(SKIP))))
        return tuple(found)

    def record_layout(self, class_number: int) -> RecordLayout:
        """Return the layout of load records of one class; the profile must have them."""
        assert self.load_record is not None  # noqa: S101 - asked of profiles with load records only
        known = {
            made.number: sum(self.point(name).form.size for name in made.points) for made in self.load_record.classes
        }
        return self.load_record.layout(class_number, known)

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


def is_dlt645(profile: str) -> bool:
    """Tell whether a profile's name is that of a DL/T 645 meter."""
    return profile.startswith(PREFIX)


def dlt645_profile_names(extra: Path | None = None) -> list[str]:
    """Return the names of all profiles of DL/T 645 meters."""
    return names_of(PREFIX, extra)


@lru_cache(maxsize=_CACHED)
def load_dlt645_profile(name: str, extra: Path | None = None) -> Dlt645Profile:
    """Return the profile of this name, from the user's own folder `extra` or from ours. One object for all meters.

    Raises:
        ConfigError: there is no such profile, or its file is wrong (names file, line and key).

    """
    return read_dlt645_profile(find_profile(name, dlt645_profile_names(extra), extra))


def read_dlt645_profile(path: Path) -> Dlt645Profile:
    """Return the profile in this file.

    Raises:
        ConfigError: the file is wrong; names file, line and key.

    """
    profile = validate(Dlt645Profile, path)
    unique(path, ("points",), "name", [point.name for point in profile.points])
    unique(path, ("points",), "obis", [f"{point.obis} ({point.what})" for point in profile.points])
    size = 2 * EDITIONS[profile.edition].size
    for index, point in enumerate(profile.points):
        if len(point.di) != size:
            raise error_at(path, ("points", index, "di"), f"{point.di!r} has not the {size} digits of the edition")
        first = profile.together(point.di)[0]
        if point.size != first.size:
            raise error_at(
                path, ("points", index), f"{first.name} has {first.size} bytes at {point.di}, not {point.size}"
            )
    _check_names(path, profile)
    return profile.model_copy(update={"name": path.stem})


def _check_names(path: Path, profile: Dlt645Profile) -> None:
    """Check that every list of points names points of the profile."""
    known = {point.name for point in profile.points}
    lists: list[tuple[tuple[str | int, ...], tuple[str, ...]]] = [
        (("block", index), table.points) for index, table in enumerate(profile.block)
    ]
    if profile.load_record:
        classes = profile.load_record.classes
        lists += [(("load_record", "class", index), made.points) for index, made in enumerate(classes)]
    if profile.daily_freeze:
        items = profile.daily_freeze.items
        lists += [(("daily_freeze", "item", index), item.points) for index, item in enumerate(items)]
    if profile.settlement:
        lists.append((("settlement",), profile.settlement.points))
    named = chain.from_iterable(((key, name) for name in names) for key, names in lists)
    for key, name in named:
        is_skip = key[0] == "block" and name.startswith(SKIP) and name.removeprefix(SKIP).isdecimal()
        if name not in known and not is_skip:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise error_at(path, (*key, "points"), f"there is no point {name!r}{hint}")
