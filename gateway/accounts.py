"""The accounts of all of a gateway's meters and their profiles, kept in one file. It reads no meter.

The file is written now and then: what it lacks after a crash is read from the meters once more.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from gateway.grid import Grid
from gateway.ledger import Account, Irregular, Kept, Span
from gateway.statefile import StateFile
from metering import events
from metering.model import SECOND, Block, Event, Layout

MAX_FAILURES = 256  # power failures that are remembered for each meter
MAX_SEEN = 4_096  # events of the last day that are known not to be new
LATE_US = 86_400 * SECOND  # how much older than the newest an event may be that is written late

Rows = Account | Irregular


class PowerFailures(msgspec.Struct):
    """What a meter's own events say of its supply, and how far they were read (us UTC, the meter's clock)."""

    read_to: int = 0
    seen: dict[str, int] = {}  # id and time of the events of the last day before `read_to`
    down: int | None = None  # the power went and did not come back yet
    failures: list[tuple[int, int]] = []  # when it went and when it came back
    words: dict[str, int] = {}  # the meter's status words as they were read last

    @property
    def since(self) -> int:
        """Return from when on to ask: what lasted for hours is written at its end, with the time of its beginning."""
        return max(0, self.read_to - LATE_US)

    def fresh(self, found: Iterable[Event], now: int, *, whole: bool = True) -> list[Event]:
        """Return the events that are new, in the order of time, and remember them.

        Where not the `whole` was read, older events of another log may still come; and no event from the future (us
        UTC) puts off those before it.
        """
        fresh = []
        for event in sorted(found, key=lambda event: event.time):
            if event.time < self.since or event.id in self.seen:
                continue
            self.seen[event.id] = event.time
            self._learn(event)
            fresh.append(event)
        if whole:
            self.read_to = max([self.read_to, *(min(event.time, now) for event in fresh)])
        newest = sorted(self.seen.items(), key=lambda each: each[1])[-MAX_SEEN:]
        self.seen = {name: time for name, time in newest if time >= self.since}
        return fresh

    def _learn(self, event: Event) -> None:
        if event.name == events.POWER_DOWN.name:
            self.down = event.time
        elif event.name == events.POWER_UP.name and self.down is not None:
            self.failures = [*self.failures, (self.down, event.time)][-MAX_FAILURES:]
            self.down = None

    def touched(self, grid: Grid) -> list[Span]:
        """Return the intervals that power failures touch: those in which they begin and end, and all between."""
        return [(grid.at_or_before(down - 1) + 1, grid.at_or_before(up - 1) + 2) for down, up in self.failures]


class _File(msgspec.Struct):
    accounts: dict[str, dict[str, Kept]] = {}  # device -> profile
    newest: dict[str, dict[str, int]] = {}
    failures: dict[str, PowerFailures] = {}


class Accounts:
    """All accounts. A device that is not asked about any more is dropped when the file is written next."""

    def __init__(self, path: Path) -> None:
        self._file = StateFile(path, _File)
        self._stored = self._file.load() or _File()
        self._rows: dict[tuple[str, str], Rows] = {}
        self._failures: dict[str, PowerFailures] = {}
        self._of_layout: dict[tuple[str, int], tuple[Rows, Layout]] = {}  # by identity; the layout is held for that

    def regular(self, device: str, profile: str, grid: Grid, fresh: Callable[[], Account]) -> Account:
        """Return the account of a profile with intervals; `fresh` makes one where there is none of this grid."""
        key = device, profile
        known = self._rows.get(key)
        if not isinstance(known, Account) or known.grid.interval != grid.interval:
            kept = self._stored.accounts.get(device, {}).get(profile)
            same = kept is not None and (kept.interval, kept.zone) == (grid.interval, grid.zone)
            known = Account.restored(kept) if kept is not None and same else fresh()
            self._rows[key] = known
        return known

    def irregular(self, device: str, profile: str) -> Irregular:
        """Return the account of a profile without intervals."""
        key = device, profile
        known = self._rows.get(key)
        if not isinstance(known, Irregular):
            known = self._rows[key] = Irregular(self._stored.newest.get(device, {}).get(profile, 0))
        return known

    def failures(self, device: str) -> PowerFailures:
        """Return what is known of a device's power failures."""
        known = self._failures.get(device)
        if known is None:
            known = self._failures[device] = self._stored.failures.get(device) or PowerFailures()
        return known

    def came(self, rows: Rows, blocks: Sequence[Block], power_fail: Iterable[int] = ()) -> None:
        """Note blocks of one profile that go into the log now; `power_fail` are the slots of rows with that mark."""
        counts: dict[int, int] = {}
        for block in blocks:
            self._of_layout[block.device, id(block.layout)] = rows, block.layout
            number = _number(rows, block)
            if number is not None:
                counts[number] = counts.get(number, 0) + 1
        if isinstance(rows, Account):
            marked = (rows.grid.index(slot) for slot in power_fail)
            rows.came(counts, [number for number in marked if number is not None])
        else:
            rows.came(counts)

    def committed(self, blocks: Sequence[Block]) -> None:
        """Note blocks that the log has; what is no profile's is passed over."""
        for block in blocks:
            known = self._of_layout.get((block.device, id(block.layout)))
            if known is not None:
                number = _number(known[0], block)
                if number is not None:
                    known[0].committed(number)

    def snapshot(self) -> object:
        """Return what is to be written, as it is now."""
        accounts: dict[str, dict[str, Kept]] = {}
        newest: dict[str, dict[str, int]] = {}
        for (device, profile), rows in self._rows.items():
            if isinstance(rows, Account):
                accounts.setdefault(device, {})[profile] = rows.kept()
            else:
                newest.setdefault(device, {})[profile] = rows.newest
        failures = {
            device: msgspec.structs.replace(each, seen=dict(each.seen), words=dict(each.words))
            for device, each in self._failures.items()
        }
        return _File(accounts, newest, failures)

    def write(self, snapshot: object) -> None:
        """Make a snapshot durable; safe in a thread.

        Raises:
            OSError: the disk refused; the former file stands.

        """
        if isinstance(snapshot, _File):
            self._file.save(snapshot)


def _number(rows: Rows, block: Block) -> int | None:
    slot = block.slot if block.slot is not None else block.measured_at
    return rows.grid.index(slot) if isinstance(rows, Account) else slot
