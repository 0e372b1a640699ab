"""The words of supply control: what may be ordered, for which meter, until when. Signed as `canonical` has it.

Types and their checks only: no signature, no policy, no state. Facts: IEC 61968-9 (EndDeviceControl), Blue Book classes
70 and 71, DL/T 645-2007 control 1CH.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

VERSION = 1
MAX_COMMANDS = 10_000  # in one campaign
LONGEST_VALIDITY_S = 4 * 3600  # from not_before to expires_at, unless a rule set allows more; never above a week
MAX_VALIDITY_S = 7 * 86400
# What gives back is harmless late: its number keeps it behind whatever was taken for that meter since. So one signature
# holds until the meter can be reached.
MAX_RESTORING_S = 90 * 86400

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Nonce = Annotated[str, msgspec.Meta(min_length=32, max_length=32, pattern=r"^[0-9a-f]+\Z")]
Instant = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]  # us UTC; JavaScript's numbers hold it, too
Watts = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Minute = Annotated[int, msgspec.Meta(ge=0, le=1440)]


class Action(StrEnum):
    """What may be ordered."""

    DISCONNECT = "disconnect"
    RESTORE = "restore"  # reconnect or arm, by what the meter can
    RECONNECT = "reconnect"
    ARM = "arm"  # the customer closes at the meter
    LIMIT = "limit"
    UNLIMIT = "unlimit"
    KEEP_POWER_ON = "keep-power-on"  # a trip is refused by the meter
    KEEP_POWER_OFF = "keep-power-off"
    READ_STATE = "read-state"


# EndDeviceControl of IEC 61968-9, 3 = electricity meter; reading a state is no control.
CONTROL_CODES: dict[Action, str] = {
    Action.DISCONNECT: "3.31.0.23",
    Action.RESTORE: "3.31.0.18",
    Action.RECONNECT: "3.31.0.18",
    Action.ARM: "3.31.0.5",
    Action.LIMIT: "3.31.139.26",
    Action.UNLIMIT: "3.31.139.22",
    Action.KEEP_POWER_ON: "3.31.0.22",
    Action.KEEP_POWER_OFF: "3.31.0.26",
    Action.READ_STATE: "",
}

# What takes from the customer: k of n approvals, caps, fresh go, trusted clock, audit first.
WITHHOLDING = frozenset({Action.DISCONNECT, Action.LIMIT, Action.KEEP_POWER_OFF})
# What gives back: one signature, never dropped, goes on without audit and with an untrusted clock.
RESTORING = frozenset({Action.RESTORE, Action.RECONNECT, Action.ARM, Action.UNLIMIT, Action.KEEP_POWER_ON})

# Reasons to give back alone: no rule set judges them, so that nothing that withholds may name one.
GIVES_BACK = frozenset({"paid", "mistake"})
Reason = Literal["debt", "safety", "field-work", "vacancy", "theft", "request", "emergency", "paid", "mistake", "test"]


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Local hours in which a command may act: minutes of the day, first <= t < last, in an IANA zone; 0 is Monday."""

    zone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    first: Minute
    last: Minute
    weekdays: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=7)] = (0, 1, 2, 3, 4, 5, 6)


class SupplyCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One order for one meter, as approvers sign it and the gateway verifies it.

    `installation` is `Installation.valid_from` of the installation that was meant. `seq` counts up for each gateway;
    `nonce` is random: neither is taken twice. It acts from `not_before` until before `expires_at`, inside `hours`,
    spread by chance over `spread_s`. A limit holds `limit_w` until `limit_until`, when the gateway by itself gives the
    meter back what was set before. `floor_w` is the floor below which a limit counts as a disconnect.
    """

    id: Id
    action: Action
    point: Id
    device: Id
    serial: Text
    installation: int
    gateway: Id
    reason: Reason
    requester: Text
    nonce: Nonce
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    not_before: Instant
    expires_at: Instant
    case: Text = ""
    hours: Hours | None = None
    spread_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0
    limit_w: Watts | None = None
    limit_until: Instant | None = None
    floor_w: Watts = 0
    v: Literal[1] = 1

    @property
    def counts_as_disconnect(self) -> bool:
        """Tell whether it is taken for a disconnect everywhere: a limit of 0 W, and below the floor, is one."""
        if self.action is Action.LIMIT:
            return self.limit_w is not None and self.limit_w < max(self.floor_w, 1)
        return self.action is Action.DISCONNECT

    def faults(self) -> list[str]:
        """Return what is wrong with it in itself, in plain words; empty for a sound one."""
        found = []
        longest = MAX_RESTORING_S if self.action in RESTORING else MAX_VALIDITY_S
        if not 0 < self.expires_at - self.not_before <= longest * 1_000_000:
            found.append(f"expires_at: lies after not_before by more than nothing and at most {longest} s")
        told = (self.limit_w is not None, self.limit_until is not None)
        if told != (self.action is Action.LIMIT,) * 2:
            found.append("limit_w, limit_until: belong to a limit, and a limit needs both")
        if self.limit_until is not None and self.limit_until <= self.not_before:
            found.append("limit_until: lies before the limit begins")
        if self.spread_s * 1_000_000 > (self.expires_at - self.not_before) // 2:
            found.append(f"spread_s: {self.spread_s} s are more than half of the time in which it may act")
        if self.hours is not None and self.hours.first >= self.hours.last:
            found.append("hours: the first minute lies before the last")
        if not self.serial:
            found.append("serial: the meter's own serial number is needed to know it again")
        if self.action in WITHHOLDING and self.reason in GIVES_BACK:
            found.append(f"reason: {self.reason} is a reason to give a supply back, not for {self.action}")
        if self.action in WITHHOLDING and not self.case.strip():
            found.append(f"case: {self.action} names the case that it belongs to")
        return found


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The head of a campaign, which approvers sign: how many commands, and the root of the tree of their digests."""

    id: Id
    action: Action
    requester: Text
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_COMMANDS)]
    root: Annotated[str, msgspec.Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]+\Z")]
    not_before: Instant
    expires_at: Instant
    case: Text = ""
    v: Literal[1] = 1


class Go(msgspec.Struct, frozen=True):
    """The head-end's word that policy still allows a command, given at `at` after a fresh check. It only withholds."""

    command: Id
    at: Instant


class CommandMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command on its way to the gateway (topic `commands`).

    `body` is the canonical command; `signed` the JWS (general JSON serialisation) of it, or of its campaign's manifest,
    and then `proof` leads from the command's digest to the manifest's root: (side, digest) from the leaf upwards, side
    "l" where the other digest stands left.
    """

    id: Id
    body: bytes
    signed: bytes
    proof: Sequence[tuple[Literal["l", "r"], bytes]] = ()
    go: Go | None = None


class SupplyState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a meter's supply stands, as the meter itself says. None: it does not say.

    `output` is the contact (class 70 attribute 2, DL/T 645 status word 3 bit 4), `control` class 70's control_state
    (0 disconnected, 1 connected, 2 ready for reconnection), `mode` its control_mode, `ordered_open` the relay command
    (DL/T 645 bit 6), `limit_w` the active threshold, `load_side_v` the highest load-side voltage in V, `load_a` the
    load current in A (recorded beside it, proves nothing).
    """

    output: bool | None = None
    control: int | None = None
    mode: int | None = None
    ordered_open: bool | None = None
    keep_power: bool | None = None
    limit_w: int | None = None
    load_side_v: float | None = None
    load_a: float | None = None


def canonical(value: SupplyCommand | Manifest) -> bytes:
    """Return the one form in which it is signed: JSON, keys sorted, no spaces, defaults left out."""
    return msgspec.json.encode(value, order="deterministic")


def parse_command(body: bytes) -> SupplyCommand:
    """Return the command of its canonical bytes.

    Raises:
        ValueError: it is none, or not in its canonical form (a second reading of the same bytes could differ).

    """
    command = msgspec.json.decode(body, type=SupplyCommand)
    if canonical(command) != body:
        raise ValueError("the command is not in its canonical form")
    return command


def parse_manifest(body: bytes) -> Manifest:
    """Return the manifest of its canonical bytes. Raises as `parse_command`."""
    manifest = msgspec.json.decode(body, type=Manifest)
    if canonical(manifest) != body:
        raise ValueError("the manifest is not in its canonical form")
    return manifest
