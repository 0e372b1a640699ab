"""A meter model as the simulators need it: the collector's profile turned into a register map. Not the profiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collector.profile import Place, Point, Profile, load_profile
from simulators.registers import Entry, RegisterMap

_IDENTITY = "0-0:96.1.0*255"  # the device's identity (Blue Book: device ID 1)


@dataclass(frozen=True)
class Model:
    """One profile: its map, its phases and how long it thinks before it answers."""

    profile: Profile

    @property
    def phases(self) -> Literal[1, 3]:
        """Return 1, or 3 for all that is not single phase."""
        return 1 if self.profile.phases == 1 else 3

    @property
    def turnaround_s(self) -> float:
        """Return the model's usual time before an answer begins."""
        return float(self.profile.turnaround)

    def layout(
        self, *, gaps: Literal["zero", "refuse"] = "zero", holes: Sequence[tuple[int, int, int]] = ()
    ) -> RegisterMap:
        """Return the register map; `gaps` and `holes` as in `RegisterMap`."""
        profile = self.profile
        entries = [self._entry(point) for point in profile.points]
        if profile.identity is not None:
            entries.append(self._entry(profile.identity))
        return RegisterMap(tuple(entries), profile.max_registers, gaps, tuple(holes))

    def load_side(self) -> list[Entry]:
        """Return the entries that show the voltage behind an open switch."""
        names = self.profile.supply.load_side if self.profile.supply is not None else ()
        return [self._entry(point) for point in self.profile.select(names)] if names else []

    def _entry(self, place: Place) -> Entry:
        function, spec = self.profile.function_of(place), self.profile.spec(place)
        if not isinstance(place, Point):
            return Entry(function, place.address, spec, _IDENTITY, is_identity=True)
        modulus = place.rollover * place.multiplier if place.rollover is not None else None
        return Entry(function, place.address, spec, place.obis, place.unit, place.scale, modulus)


def load_model(name: str, extra: Path | None = None) -> Model:
    """Return the model of a profile's name; `extra` is a folder with further profiles.

    Raises:
        ConfigError: there is no such profile, or its file is wrong.

    """
    return Model(load_profile(name, extra))
