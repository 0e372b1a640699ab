"""Sets of whole numbers kept as ranges: small where gaps are few. It knows nothing of what they count."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of whole numbers as sorted, disjoint, half-open ranges. Its size is that of its gaps."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    @property
    def total(self) -> int:
        """Return how many numbers are in it."""
        return sum(self._ends) - sum(self._starts)

    @property
    def last(self) -> int | None:
        """Return the highest number; None where there is none."""
        return self._ends[-1] - 1 if self._ends else None

    def add(self, start: int, end: int) -> None:
        """Put start <= n < end in."""
        if start >= end:
            return
        low, high = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take start <= n < end out."""
        if start >= end:
            return
        low, high = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if low >= high:
            return
        pieces = [(self._starts[low], start), (end, self._ends[high - 1])]
        kept = [piece for piece in pieces if piece[0] < piece[1]]
        self._starts[low:high] = [piece[0] for piece in kept]
        self._ends[low:high] = [piece[1] for piece in kept]

    def update(self, other: "Ranges") -> None:
        """Put all of another set in."""
        for start, end in other:
            self.add(start, end)

    def inside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts that lie in start <= n < end, in order."""
        at = bisect_right(self._ends, start)
        while at < len(self._starts) and max(start, self._starts[at]) < end:
            yield max(start, self._starts[at]), min(end, self._ends[at])
            at += 1

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of start <= n < end that are not in it, in order."""
        for low, high in self.inside(start, end):
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end

    def count(self, start: int, end: int) -> int:
        """Return how many of start <= n < end are in it."""
        return sum(high - low for low, high in self.inside(start, end))
