"""The fewest Modbus requests for a set of values, and what a meter was found not to answer. Asks nobody; reads nothing.

A request may read registers that nobody wants only where that is cheaper on the wire than one more request.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.protocols.modbus import MAX_READ_REGISTERS
from collector.protocols.modbus_times import character_time, exchange_time

# Over TCP a request costs a round trip, which no gap that fits into one reply is worth.
TCP_MAX_GAP = MAX_READ_REGISTERS
_REQUEST_PDU = 5  # function, address, quantity
_REPLY_HEAD = 2  # function, byte count


class Span(NamedTuple):
    """Registers that one value occupies. `value` says which it is, to the caller."""

    function: int
    address: int
    registers: int
    value: int

    @property
    def end(self) -> int:
        """Return the address after the last register."""
        return self.address + self.registers


class Request(NamedTuple):
    """One read of so many registers, and the values in it."""

    function: int
    address: int
    registers: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Holes:
    """What one meter refused with exception 2: `cuts` no request may read across, `unreadable` values.

    A cut (function, address) parts the registers below the address from those at and above it.
    """

    cuts: frozenset[tuple[int, int]] = frozenset()
    unreadable: frozenset[tuple[int, int, int]] = frozenset()  # function, address, registers

    def __or__(self, other: "Holes") -> "Holes":
        return Holes(self.cuts | other.cuts, self.unreadable | other.unreadable)

    def __bool__(self) -> bool:
        return bool(self.cuts or self.unreadable)

    def __str__(self) -> str:
        """Say which registers are not there: address and count; empty where all of them are."""
        return ", ".join(f"{address}+{count}" for _, address, count in sorted(self.unreadable))


def rtu_max_gap(baud: int, bits_per_character: int, turnaround_s: float) -> int:
    """Return the longest gap (registers) that is quicker to read over than to ask once more, on this serial line."""
    extra = exchange_time(_REQUEST_PDU, _REPLY_HEAD, baud, bits_per_character, turnaround_s)
    register = 2 * character_time(baud, bits_per_character)
    return min(math.ceil(extra / register) - 1, MAX_READ_REGISTERS)


def plan(
    spans: Iterable[Span],
    max_registers: int = MAX_READ_REGISTERS,
    max_gap: int = TCP_MAX_GAP,
    holes: Holes = Holes(),
) -> tuple[Request, ...]:
    """Return the fewest requests that read all these values, and of those with the fewest the one with least registers.

    No request is longer than `max_registers`, reads over a gap longer than `max_gap`, splits a value, or reads across
    a cut; unreadable values are left out. The same spans in any order give the same requests, by function and address.

    Raises:
        ValueError: a value alone is longer than `max_registers`.

    """
    wanted = [s for s in spans if (s.function, s.address, s.registers) not in holes.unreadable]
    requests: list[Request] = []
    for function in sorted({span.function for span in wanted}):
        group = sorted(s for s in wanted if s.function == function)
        # What lies under an unreadable value must not be read over either.
        refused = {(f, address) for f, address, _ in holes.unreadable}
        cuts = sorted(address for f, address in holes.cuts | refused if f == function)
        requests.extend(_fewest(group, max_registers, max_gap, cuts))
    return tuple(requests)


def _fewest(spans: Sequence[Span], max_registers: int, max_gap: int, cuts: Sequence[int]) -> list[Request]:
    """Find the best split of spans (one function, in order) by the best split of each shorter beginning."""
    # best[n]: (requests, registers, start of the last request) for the first n spans
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for n in range(1, len(spans) + 1):
        choices = []
        for start in range(n - 1, -1, -1):
            length = _length(spans[start:n], max_gap, cuts)
            if length is not None and length <= max_registers:
                choices.append((best[start][0] + 1, best[start][1] + length, start))
            elif length is not None and start == n - 1:
                raise ValueError(f"a value of {length} registers, {max_registers} may be read at once")
            elif spans[n - 1].end - spans[start].address > max_registers:
                break
        best.append(min(choices))
    requests = []
    n = len(spans)
    while n:
        start = best[n][2]
        part = tuple(spans[start:n])
        end = max(span.end for span in part)
        requests.append(Request(part[0].function, part[0].address, end - part[0].address, part))
        n = start
    return requests[::-1]


def _length(spans: Sequence[Span], max_gap: int, cuts: Sequence[int]) -> int | None:
    """Return the registers that one request over these spans reads; None where a gap or a cut forbids it."""
    first = spans[0].address
    end = spans[0].end
    for span in spans[1:]:
        if span.address - end > max_gap:
            return None
        end = max(end, span.end)
    # A cut inside a value would make it unreadable, so it counts only between values.
    if any(first < cut < end and not any(s.address < cut < s.end for s in spans) for cut in cuts):
        return None
    return end - first


def split(request: Request) -> tuple[Request, Request] | None:
    """Return the two halves of a refused request: at its widest gap, otherwise in the middle; None for one value."""
    spans = request.spans
    gaps = []
    end = spans[0].end
    for position in range(1, len(spans)):
        gap = spans[position].address - end
        if gap >= 0:
            gaps.append((-gap, abs(2 * position - len(spans)), position))
        end = max(end, spans[position].end)
    if not gaps:
        return None  # one value, or values that lie over each other
    position = min(gaps)[2]
    return _request(spans[:position]), _request(spans[position:])


def _request(spans: tuple[Span, ...]) -> Request:
    end = max(span.end for span in spans)
    return Request(spans[0].function, spans[0].address, end - spans[0].address, spans)
