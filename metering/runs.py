"""Readings as columns: a month of one channel without an object for each of them. Reads like the list that it is."""

from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from metering.ports import Channel, Reading


class Run(msgspec.Struct, frozen=True):
    """Readings of one channel in the order of time: all have a value, no flags, and are current. Columns of one length.

    Instants in microseconds, UTC.
    """

    channel: Channel
    measured_at: Sequence[int]
    received_at: Sequence[int]
    values: Sequence[float]
    slots: Sequence[int | None]
    revisions: Sequence[int]

    def __len__(self) -> int:
        return len(self.measured_at)

    def __iter__(self) -> Iterator[Reading]:
        columns = (self.measured_at, self.received_at, self.values, self.slots, self.revisions)
        for time, received_at, value, slot, revision in zip(*columns, strict=True):
            yield Reading(self.channel, time, received_at, value, slot, 0, revision)

    def cut(self, start: int, stop: int) -> "Run":
        """Return the readings from `start` to before `stop`."""
        part = slice(start, stop)
        return Run(
            self.channel,
            self.measured_at[part],
            self.received_at[part],
            self.values[part],
            self.slots[part],
            self.revisions[part],
        )


Part = Run | list[Reading]


class Readings(Sequence[Reading]):
    """The readings of some parts, one after the other. `parts` are for those who take columns as they are."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Reading]:
        for part in self.parts:
            yield from part

    @overload
    def __getitem__(self, at: int) -> Reading: ...
    @overload
    def __getitem__(self, at: slice) -> list[Reading]: ...
    def __getitem__(self, at: int | slice) -> Reading | list[Reading]:
        """Return readings as objects: not for long loops."""
        return list(self)[at]

    @property
    def last(self) -> Reading:
        """Return the last reading; there must be one."""
        part = self.parts[-1]
        return next(iter(part.cut(len(part) - 1, len(part)))) if isinstance(part, Run) else part[-1]

    def first(self, count: int) -> "Readings":
        """Return the first readings of it."""
        kept: list[Part] = []
        for part in self.parts:
            if count <= 0:
                break
            if len(part) <= count:
                kept.append(part)
            else:
                kept.append(part.cut(0, count) if isinstance(part, Run) else part[:count])
            count -= len(part)
        return Readings(kept)


def parts_of(readings: Sequence[Reading]) -> Sequence[Run | Sequence[Reading]]:
    """Return readings as the parts that they are made of."""
    return readings.parts if isinstance(readings, Readings) else (readings,)
