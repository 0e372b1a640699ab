"""What the log will never deliver: ranges that were evicted, quarantined or lost, counted, durable, bounded."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from metering.model import Skipped
from storage.files import replace_file

MAX_TOMBSTONES = 256  # beyond it neighbours are merged, oldest first
MAX_COUNTED = 16_384  # (tombstone, device) pairs in all; the same remedy


class Totals(msgspec.Struct, frozen=True):
    """What was lost since the log was made. `trimmed` records were passed by every cursor: nothing is missing there."""

    evicted_records: int = 0
    evicted_readings: int = 0
    quarantined_records: int = 0
    lost_records: int = 0
    trimmed_records: int = 0


class Tombstones(msgspec.Struct, frozen=True):
    """Disjoint ranges in order, and their totals. A change makes a new value, so that readers need no lock."""

    epoch: str
    items: tuple[Skipped, ...] = ()
    totals: Totals = Totals()

    def at(self, seq: int) -> Skipped | None:
        """Return the range that holds `seq`."""
        return next((item for item in self.items if item.from_seq <= seq <= item.to_seq), None)

    def next_from(self, seq: int) -> int | None:
        """Return where the first range at or above `seq` begins."""
        return next((item.from_seq for item in self.items if item.from_seq >= seq), None)

    def added(self, new: Iterable[Skipped], totals: Totals, floor: int, positions: Sequence[int]) -> "Tombstones":
        """Return the ranges with `new` among them; what is covered already is left out.

        Below `floor` nothing is held any more, so neighbours there may be merged across what was delivered. No two
        are merged across one of `positions` (the cursors') while others can be.
        """
        items = list(self.items)
        for one in new:
            items.extend(uncovered(one, items))
            items.sort(key=lambda item: item.from_seq)
        while len(items) > MAX_TOMBSTONES or sum(len(item.readings) for item in items) > MAX_COUNTED:
            if not _merge_one(items, floor, positions):
                break
        return Tombstones(self.epoch, tuple(items), totals)

    def save(self, path: Path) -> None:
        """Make them durable.

        Raises:
            OSError: the disk refused; what was saved before still stands.

        """
        body = msgspec.json.encode(self)
        replace_file(path, b"%08x\n" % zlib.crc32(body) + body + b"\n")


def load_tombstones(path: Path) -> Tombstones | None:
    """Return what was saved, or None where the file is damaged.

    Raises:
        FileNotFoundError: there is no such file.

    """
    data = path.read_bytes()
    crc, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    if crc != b"%08x" % zlib.crc32(body):
        return None
    try:
        return msgspec.json.decode(body, type=Tombstones)
    except msgspec.MsgspecError:
        return None


def uncovered(new: Skipped, items: Sequence[Skipped]) -> list[Skipped]:
    """Return the parts of `new` that no item holds; its counts go with the first of them."""
    parts: list[Skipped] = []
    start = new.from_seq
    for item in [*(i for i in items if i.to_seq >= start and i.from_seq <= new.to_seq), None]:
        end = new.to_seq if item is None else item.from_seq - 1
        if start <= end:
            counted = new if not parts else Skipped(start, end, new.reason)
            parts.append(msgspec.structs.replace(counted, from_seq=start, to_seq=end))
        if item is not None:
            start = item.to_seq + 1
    return parts


def _merge_one(items: list[Skipped], floor: int, positions: Sequence[int]) -> bool:
    """Merge one pair of neighbours, or where none touch drop the oldest: its damage is found again when it is read."""
    touching = [i for i in range(len(items) - 1) if items[i].to_seq + 1 == items[i + 1].from_seq
                or items[i + 1].to_seq < floor]  # fmt: skip
    free = [i for i in touching if not any(items[i].from_seq < p <= items[i + 1].to_seq for p in positions)]
    same = [i for i in free if items[i].reason == items[i + 1].reason]
    for choice in (same, free, touching):
        if choice:
            i = choice[0]
            items[i : i + 2] = [_merged(items[i], items[i + 1])]
            return True
    if len(items) > MAX_TOMBSTONES:
        del items[next((i for i, item in enumerate(items) if item.from_seq >= floor), 0)]
        return True
    return False


def _merged(a: Skipped, b: Skipped) -> Skipped:
    readings = dict(a.readings)
    for device, number in b.readings.items():
        readings[device] = readings.get(device, 0) + number
    firsts = [t for t in (a.first, b.first) if t is not None]
    lasts = [t for t in (a.last, b.last) if t is not None]
    reason = a.reason if a.reason == b.reason else "lost"
    return Skipped(a.from_seq, b.to_seq, reason, readings, min(firsts, default=None), max(lasts, default=None))
