"""Status words: two bytes, lowest first, whose bits have names. Which bit means what else is a profile's business."""

from collections.abc import Mapping
from typing import NamedTuple

from metering.errors import FrameError

SUPPLIES = ("main", "auxiliary", "battery")
ACCOUNTS = ("not prepaid", "energy", "money")


class SwitchState(NamedTuple):
    """Status word 3 (04000503): the load switch and what is said about it."""

    relay_open: bool  # bit 4
    open_commanded: bool  # bit 6
    pretrip_alarm: bool  # bit 7
    keep_power: bool  # bit 12
    programming: bool  # bit 3
    supply: str  # bits 1 and 2
    account: str  # bits 8 and 9

    @property
    def moving(self) -> bool:
        """Tell whether the switch is not as commanded: in transition, waiting for the button, or faulty."""
        return self.relay_open != self.open_commanded


def parse_word(data: bytes) -> int:
    """Return a status word.

    Raises:
        FrameError: not two bytes.

    """
    if len(data) != 2:
        raise FrameError(f"a status word of {len(data)} bytes")
    return int.from_bytes(data, "little")


def switch_state(word: int) -> SwitchState:
    """Return what status word 3 says."""
    supply, account = word >> 1 & 3, word >> 8 & 3
    return SwitchState(
        relay_open=bool(word & 1 << 4),
        open_commanded=bool(word & 1 << 6),
        pretrip_alarm=bool(word & 1 << 7),
        keep_power=bool(word & 1 << 12),
        programming=bool(word & 1 << 3),
        supply=SUPPLIES[supply] if supply < len(SUPPLIES) else "unknown",
        account=ACCOUNTS[account] if account < len(ACCOUNTS) else "unknown",
    )


def names_of(word: int, names: Mapping[int, str]) -> list[str]:
    """Return the names of the bits that are set; bits without a name are left out."""
    return [name for bit, name in sorted(names.items()) if word >> bit & 1]
