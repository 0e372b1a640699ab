"""Which version of its configuration a gateway runs with, on the disk: applied, on trial, and what was said of it.

Version 0 is the file on site, which is never written. A version's TOML is durable before its number stands in the state
file, and that is replaced by rename; so a power cut leaves the version before, or this one, never a part of it.
"""

from pathlib import Path

import msgspec

from gateway.statefile import StateFile
from storage.files import replace_file

FOLDER = "config"


class Verdict(msgspec.Struct, frozen=True):
    """What became of a version, to be said again when it is offered again: applied, refused or rolled-back."""

    version: int
    state: str
    reason: str = ""


class Standing(msgspec.Struct, frozen=True):
    """`applied` is the version to run with; `trying`, where it is not 0, the one that has yet to prove itself."""

    applied: int = 0
    trying: int = 0
    verdict: Verdict = Verdict(0, "applied")


def tried(standing: Standing, version: int) -> Standing:
    """Return the standing while a version is on trial."""
    return msgspec.structs.replace(standing, trying=version)


def proven(standing: Standing) -> Standing:
    """Return the standing once the version on trial has proven itself."""
    return Standing(standing.trying, 0, Verdict(standing.trying, "applied"))


def given_up(standing: Standing, reason: str) -> Standing:
    """Return the standing once the version on trial was given up; what was applied before is so still."""
    return Standing(standing.applied, 0, Verdict(standing.trying, "rolled-back", reason))


def refused(standing: Standing, version: int, reason: str) -> Standing:
    """Return the standing once a version was refused: it was never tried."""
    return msgspec.structs.replace(standing, verdict=Verdict(version, "refused", reason))


class Versions:
    """The folder of versions, `config` in the data folder. All methods block; they raise `OSError`."""

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = StateFile(self.folder / "state", Standing)
        self.standing = self._file.load() or Standing()

    def path(self, version: int) -> Path:
        """Return where a version's TOML is."""
        return self.folder / f"{version}.toml"

    def put(self, version: int, text: bytes) -> Path:
        """Keep a version's TOML, and return where."""
        replace_file(self.path(version), text)
        return self.path(version)

    def move(self, standing: Standing) -> None:
        """Make a standing durable; then let go of versions that nobody can come back to."""
        before = self.standing.applied
        self._file.save(standing)
        self.standing = standing
        wanted = {self.path(each) for each in (before, standing.applied, standing.trying, standing.verdict.version)}
        for path in self.folder.glob("*.toml"):
            if path not in wanted:
                path.unlink(missing_ok=True)
