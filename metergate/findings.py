"""One line of the doctor's: what was looked at, how it is, and what to do; and what the doctor looks with."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

from gateway.keystore import KeyStore
from metergate.site import SiteFile


class State(Enum):
    """How a thing is. A note is nothing wrong, but worth knowing."""

    OK = "ok"
    NOTE = "note"
    WRONG = "WRONG"


class Finding(NamedTuple):
    """`where` names the thing, `what` says how it is, `todo` what to do about it."""

    state: State
    where: str
    what: str
    todo: str = ""

    def __str__(self) -> str:
        """Return the line."""
        todo = f"; {self.todo}" if self.todo else ""
        return f"{self.state.value:<5}  {self.where}: {self.what}{todo}"


class Case(NamedTuple):
    """A site under examination: its file, the key store (None: there is none that opens), whether a gateway runs."""

    file: Path
    site: SiteFile
    keys: KeyStore | None
    running: bool
