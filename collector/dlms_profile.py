"""DLMS meter models as data: which objects a model has, its profiles and logs, and frames that prove it. No wire.

A profile is `collector/profiles/dlms_<vendor>_<model>.toml`, or a file of the user's own folder, which wins. Scalers,
units, capture objects and periods are the meter's own to say; here stands what it does not say.
"""

from functools import cached_property, lru_cache
from pathlib import Path

from pydantic import Field

from collector.dlms_tables import (
    AssociationSpec,
    ClockSpec,
    DlmsPoint,
    EventsSpec,
    HdlcSpec,
    ProfileSpec,
    PushSpec,
    StatusSpec,
    SupplySpec,
    Table,
)
from collector.fields import Obis, Seconds
from collector.profile_files import choose_points, find_profile, names_of
from collector.toml_file import error_at, unique, validate
from metering.errors import ConfigError
from metering.model import Kind

PREFIX = "dlms_"
MAX_REPLY = 65536  # bytes of one answer, all its blocks together, unless the profile says more
LARGEST_REPLY = 1 << 24
_CACHED = 256


class DlmsTest(Table):
    """An answer of the meter and what it must give.

    `reply` is a get-response in hex, of `reads` (names of points; several: with-list), of the profile or event log
    `profile` with its capture `objects` (a get-response too), or of the identity. `scalers` are the get-responses of
    scaler_unit by OBIS code. Values are decimal strings; a row is its time, then `<obis>=<value> <unit>` for each
    column, then its qualities; an event is its time, name and the meter's code.
    """

    __test__ = False  # a model's test, not one of pytest's

    name: str
    source: str
    reply: str
    reads: tuple[str, ...] = Field((), strict=False)
    scalers: dict[str, str] = Field(default_factory=dict)
    values: dict[str, str] = Field(default_factory=dict)
    profile: str = ""
    objects: str = ""
    zone: str = "UTC"
    period: Seconds = 0  # what the meter shows as its capture period
    rows: tuple[str, ...] = Field((), strict=False)
    events: tuple[str, ...] = Field((), strict=False)
    identity: str = ""


class DlmsProfile(Table):
    """A meter model. `name` is the file's; the order of `points` is the order of a reading's columns.

    `unverified` says in words what nobody has seen on a meter or in the maker's own document.
    """

    name: str = ""
    maker: str
    model: str
    phases: int = Field(ge=1, le=3)
    sources: tuple[str, ...] = Field(min_length=1, strict=False)
    notes: tuple[str, ...] = Field((), strict=False)
    unverified: tuple[str, ...] = Field((), strict=False)
    turnaround: Seconds = 0.2  # how long the model usually thinks before it begins to answer
    profile_turnaround: Seconds = 2.0  # and how long where it has to look for rows of a profile
    max_pdu: int = Field(1024, ge=64, le=0xFFFF)  # the longest APDU that we offer to take
    max_reply: int = Field(MAX_REPLY, ge=1024, le=LARGEST_REPLY)
    list_size: int = Field(16, ge=1, le=64)  # attributes in one request; 1: never a list
    hdlc: HdlcSpec = HdlcSpec()
    association: AssociationSpec = AssociationSpec()
    identity: Obis | None = "0-0:96.1.0*255"  # class 1: the serial number
    device_name: Obis | None = "0-0:42.0.0*255"  # class 1: logical device name
    firmware: Obis | None = "1-0:0.2.0*255"  # class 1: what is read once is read again when it changes
    clock: ClockSpec | None = ClockSpec()
    supply: SupplySpec | None = None
    points: tuple[DlmsPoint, ...] = Field(min_length=1, strict=False)
    profile: tuple[ProfileSpec, ...] = Field((), strict=False)
    events: tuple[EventsSpec, ...] = Field((), strict=False)
    status: tuple[StatusSpec, ...] = Field((), strict=False)
    push: tuple[PushSpec, ...] = Field((), strict=False)
    test: tuple[DlmsTest, ...] = Field((), strict=False)

    @property
    def memory_days(self) -> int:
        """Return how far back the model's own load profile reaches, as its file says; 0: not known."""
        return max((spec.depth.days for spec in self.profile if spec.role == "load"), default=0)

    def select(self, names: tuple[str, ...] = ()) -> tuple[DlmsPoint, ...]:
        """Return the points of these names in the profile's order; all of them when none is named.

        Raises:
            ConfigError: the profile has no point of a name.

        """
        return choose_points(self.name, self._by_name, names)

    def moduli(self) -> dict[str, int]:
        """Return, for each OBIS code of a running total, the stored value at which it begins again, where known."""
        totals = (point for point in self.points if point.what is Kind.REGISTER)
        return {point.obis: point.rollover for point in totals if point.rollover is not None}

    @cached_property
    def _by_name(self) -> dict[str, DlmsPoint]:
        return {point.name: point for point in self.points}


def is_dlms(profile: str) -> bool:
    """Tell whether a profile's name is that of a DLMS meter."""
    return profile.startswith(PREFIX)


def dlms_profile_names(extra: Path | None = None) -> list[str]:
    """Return the names of all profiles of DLMS meters, those of the user's own folder among them."""
    return names_of(PREFIX, extra)


@lru_cache(maxsize=_CACHED)
def load_dlms_profile(name: str, extra: Path | None = None) -> DlmsProfile:
    """Return the profile of this name, from the user's own folder `extra` or from ours. One object for all meters.

    Raises:
        ConfigError: there is no such profile, or its file is wrong (names file, line and key).

    """
    return read_dlms_profile(find_profile(name, dlms_profile_names(extra), extra))


def read_dlms_profile(path: Path) -> DlmsProfile:
    """Return the profile in this file.

    Raises:
        ConfigError: the file is wrong; names file, line and key.

    """
    profile = validate(DlmsProfile, path)
    unique(path, ("points",), "name", [point.name for point in profile.points])
    unique(path, ("points",), "obis", [f"{point.obis} ({point.what})" for point in profile.points])
    unique(path, ("profile",), "name", [spec.name for spec in profile.profile])
    unique(path, ("events",), "name", [spec.name for spec in profile.events])
    unique(path, ("status",), "name", [spec.name for spec in profile.status])
    profile = profile.model_copy(update={"name": path.stem})
    if profile.supply is not None:
        for key in ("load_side", "current", "registers"):
            try:
                profile.select(getattr(profile.supply, key))
            except ConfigError as error:
                raise error_at(path, ("supply", key), str(error)) from None
    return profile
