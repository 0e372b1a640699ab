"""Where the files of meter models lie and how one is found by name, whatever its kind. It does not read them."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from metering.errors import ConfigError

PROFILES = Path(__file__).parent / "profiles"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")

P = TypeVar("P")


def names_of(prefix: str, extra: Path | None = None) -> list[str]:
    """Return the names of all profiles that begin so, those of the user's own folder `extra` among them."""
    folders = [folder for folder in (PROFILES, extra) if folder]
    return sorted({path.stem for folder in folders for path in folder.glob(f"{prefix}*.toml")})


def find_profile(name: str, known: Sequence[str], extra: Path | None = None) -> Path:
    """Return the file of a profile, the user's own before ours.

    Raises:
        ConfigError: `known` has no such name; a near one is named.

    """
    if not _NAME.fullmatch(name) or name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
        raise ConfigError(f"there is no profile {name!r}; {hint}")
    own = extra / f"{name}.toml" if extra else None
    return own if own and own.exists() else PROFILES / f"{name}.toml"


def choose_points(profile: str, points: Mapping[str, P], names: Sequence[str]) -> tuple[P, ...]:
    """Return the points of these names in the profile's order; all of them when none is named.

    Raises:
        ConfigError: the profile has no point of a name.

    """
    for name in names:
        if name not in points:
            near = get_close_matches(name, points, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"the profile {profile} has no point {name!r}{hint}")
    return tuple(point for name, point in points.items() if not names or name in names)
