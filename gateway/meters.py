"""A meter on a bus as the gateway knows it, whatever it speaks. Who makes it from settings is `gateway.lines`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.capabilities import Driver, EventReader, MeterClock, PointLike, ProfileReader, Reader, SupplySwitch
from gateway.settings import MeterSettings, ScheduleSettings


class MeterModel(Protocol):
    """What the gateway needs to know of a meter's model."""

    @property
    def maker(self) -> str:
        """Return who makes it."""
        ...

    @property
    def model(self) -> str:
        """Return the maker's name of it."""
        ...

    @property
    def points(self) -> Sequence[PointLike]:
        """Return its values."""
        ...

    def moduli(self) -> Mapping[str, int]:
        """Return, for each OBIS code of a running total, the stored value at which it begins again, where known."""
        ...


def _nothing() -> None:
    """Do nothing: most meters have no secrets."""


@dataclass(eq=False, slots=True)
class BusMeter:
    """One meter on a bus: its driver and what it is read by (None and empty: it lacks that, or nobody wants it).

    `place` is where it answers, in words. A `whole` meter is spoken to by one job at a time, from the beginning of a
    conversation to its end; a `keyed` one wants secrets for every conversation, and may refuse them.
    """

    settings: MeterSettings
    profile: MeterModel
    place: str
    schedule: ScheduleSettings
    driver: Driver
    registers: Reader | None
    moments: Reader | None
    everything: Reader
    profiles: Sequence[ProfileReader] = ()
    clock: MeterClock | None = None
    events: EventReader | None = None
    make_switch: Callable[[], SupplySwitch] | None = None  # made for a command, and let go after it
    whole: bool = False
    keyed: bool = False
    renew: Callable[[], None] = _nothing  # takes the secrets that the key store has now
    identified: bool = False  # its serial number was seen since it last fell silent
    prepared: frozenset[str] = frozenset()  # names of the profiles whose shape the meter has told
    afresh: frozenset[Reader] = frozenset()  # those that forget, at their next read, what was refused

    @property
    def id(self) -> str:
        """Return the meter's id."""
        return self.settings.id

    def ask_afresh(self) -> None:
        """Let the readers ask once more for what it refused: that may have been for a while, or another meter's."""
        readers = (self.registers, self.moments, self.everything)
        self.afresh |= {reader for reader in readers if reader is not None and reader.holes}
