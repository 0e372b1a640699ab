"""A sheet: what is to be signed, as an approver takes it to the key. It is shown from the bytes that are signed alone.

Nothing that the head-end says about them is on it or would be believed: the lines that a person reads are made here,
from the same bytes that the key then signs.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from metering.supply import CONTROL_CODES, MAX_COMMANDS, Manifest, SupplyCommand, parse_command, parse_manifest
from metering.timing import to_rfc3339
from trust.merkle import leaf, root_of
from trust.signatures import Kind

MAX_SHEET = 64 << 20  # bytes: 10,000 commands need about 8 MB
SHOWN = 20  # commands of a campaign that are shown whole; all are listed by meter point


class Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Canonical bytes of a command; or of a campaign's manifest, and then of each of its commands, in their order."""

    payload: bytes
    commands: Sequence[bytes] = ()


class Checked:
    """A sheet that holds together: `kind` and `payload` are what is signed, `lines()` what a person is to read."""

    def __init__(self, sheet: Sheet) -> None:
        """Check a sheet.

        Raises:
            ValueError: it is no command and no campaign, or its commands are not those of its manifest.

        """
        self.payload = sheet.payload
        self.manifest: Manifest | None = None
        if sheet.commands:
            self.kind = Kind.MANIFEST
            self.manifest = parse_manifest(sheet.payload)
            self.commands = _campaign(self.manifest, sheet.commands)
        else:
            self.kind = Kind.COMMAND
            self.commands = [parse_command(sheet.payload)]
        for each in self.commands:
            if faults := each.faults():
                raise ValueError(f"the command {each.id}: {'; '.join(faults)}")

    def lines(self) -> Iterator[str]:
        """Yield what is to be read before it is signed."""
        if self.manifest is None:
            yield from command_lines(self.commands[0])
            return
        head = self.manifest
        yield f"campaign {head.id}: {head.action.upper()} at {head.count} meter points, requested by {head.requester}"
        yield f"  between {to_rfc3339(head.not_before)} and {to_rfc3339(head.expires_at)}, case {head.case or '-'}"
        for each in self.commands[:SHOWN]:
            yield from command_lines(each)
        if len(self.commands) > SHOWN:
            yield f"and at {len(self.commands) - SHOWN} more:"
            yield "  " + ", ".join(f"{each.point} ({each.serial})" for each in self.commands[SHOWN:])


def read_sheet(raw: bytes) -> Checked:
    """Return the sheet of a file or an answer of the API (JSON; bytes in base64).

    Raises:
        ValueError: it is none, or does not hold together.

    """
    if len(raw) > MAX_SHEET:
        raise ValueError(f"a sheet of {len(raw)} bytes; the limit is {MAX_SHEET}")
    try:
        return Checked(msgspec.json.decode(raw, type=Sheet))
    except RecursionError:
        raise ValueError("the sheet is nested too deeply") from None


def command_lines(command: SupplyCommand) -> Iterator[str]:
    """Yield a command in words."""
    counts = " (below the floor: counts as a disconnect)" if command.action == "limit" else ""
    code = CONTROL_CODES[command.action]
    yield f"{command.action.upper()}{f' [{code}]' if code else ''} at meter point {command.point}"
    yield f"  meter {command.device}, serial {command.serial}, installed {to_rfc3339(command.installation)}"
    yield f"  by gateway {command.gateway}, command {command.id}, number {command.seq}"
    if command.limit_w is not None and command.limit_until is not None:
        below = counts if command.counts_as_disconnect else ""
        yield f"  to {command.limit_w} W until {to_rfc3339(command.limit_until)}{below}"
    yield f"  from {to_rfc3339(command.not_before)} until {to_rfc3339(command.expires_at)}"
    if (hours := command.hours) is not None:
        days = ",".join(["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"][day % 7] for day in hours.weekdays)
        yield f"  only {_clock(hours.first)} to {_clock(hours.last)}, {days}, {hours.zone}"
        begin, end = _local(command.not_before, hours.zone), _local(command.expires_at, hours.zone)
        yield f"  there that is from {begin} until {end}"
    if command.spread_s:
        yield f"  at a time of chance within {command.spread_s} s"
    yield f"  reason {command.reason}, case {command.case or '-'}, requested by {command.requester}"


def _campaign(manifest: Manifest, bodies: Sequence[bytes]) -> list[SupplyCommand]:
    if not len(bodies) == manifest.count <= MAX_COMMANDS:
        raise ValueError(f"the manifest counts {manifest.count} commands; there are {len(bodies)}")
    if root_of([leaf(each) for each in bodies]).hex() != manifest.root:
        raise ValueError("these are not the commands that the manifest stands for")
    commands = [parse_command(each) for each in bodies]
    for each in commands:
        if (each.action, each.requester) != (manifest.action, manifest.requester):
            raise ValueError(f"the command {each.id} is {each.action} by {each.requester}, not as its manifest says")
        if each.not_before < manifest.not_before or each.expires_at > manifest.expires_at:
            raise ValueError(f"the command {each.id} reaches beyond the time of its manifest")
    return commands


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _local(instant: int, zone: str) -> str:
    try:
        moment = datetime.fromtimestamp(0, ZoneInfo("UTC")) + timedelta(microseconds=instant)
        return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
    except (ZoneInfoNotFoundError, ValueError, OverflowError):
        return f"{to_rfc3339(instant)} (the zone {zone!r} is not known here)"
