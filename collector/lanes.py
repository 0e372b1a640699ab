"""Who may use a wire next: four queues by urgency, bounded in length and in how long a lower one waits. No I/O."""

from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(IntEnum):
    """How urgent a job is; the lowest number goes first."""

    COMMAND = 0
    ON_DEMAND = 1
    SCHEDULE = 2
    BACKFILL = 3


# A lane that waits lets this many turns of others pass; then it is its turn. Several impatient lanes go in order of
# urgency, so a lane's longest wait is its patience and one turn for each impatient lane above it.
PATIENCE = {Lane.COMMAND: 0, Lane.ON_DEMAND: 4, Lane.SCHEDULE: 8, Lane.BACKFILL: 16}
LONGEST_WAIT = {Lane.COMMAND: 3, Lane.ON_DEMAND: 4, Lane.SCHEDULE: 9, Lane.BACKFILL: 18}  # in turns of others

DEPTHS = {Lane.COMMAND: 32, Lane.ON_DEMAND: 64, Lane.SCHEDULE: 1024, Lane.BACKFILL: 256}


class Lanes(Generic[T]):
    """Waiting jobs. `depths` bounds what `push` takes; `push_front`, for a job that had its turn, is not bounded."""

    __slots__ = ("_depths", "_passed", "_queues")

    def __init__(self, depths: dict[Lane, int]) -> None:
        self._queues: tuple[deque[T], ...] = tuple(deque() for _ in Lane)
        self._passed = [0] * len(Lane)
        self._depths = tuple(depths[lane] for lane in Lane)

    def __bool__(self) -> bool:
        return any(self._queues)

    def depth(self, lane: Lane) -> int:
        """Return how many jobs wait in this lane."""
        return len(self._queues[lane])

    def waiting(self, lane: Lane) -> tuple[T, ...]:
        """Return the jobs of a lane in their order."""
        return tuple(self._queues[lane])

    def push(self, lane: Lane, item: T) -> bool:
        """Put a job at the end of its lane; False when the lane is full."""
        queue = self._queues[lane]
        if len(queue) >= self._depths[lane]:
            return False
        queue.append(item)
        return True

    def push_front(self, lane: Lane, item: T) -> None:
        """Put a job back that goes on where it was."""
        self._queues[lane].appendleft(item)

    def push_back(self, lane: Lane, item: T) -> None:
        """Put a job behind all others of its lane, once more."""
        self._queues[lane].append(item)

    def remove(self, lane: Lane, item: T) -> None:
        """Take out a job that is not wanted any more; one that is not there is no error."""
        queue = self._queues[lane]
        if item in queue:
            queue.remove(item)

    def more_urgent(self, lane: Lane) -> bool:
        """Tell whether a job waits in a lane above this one."""
        return any(self._queues[:lane])

    def pop(self) -> T | None:
        """Return the job whose turn it is; None when nobody waits."""
        chosen = -1
        for lane, queue in enumerate(self._queues):
            if not queue:
                self._passed[lane] = 0
            elif chosen < 0:
                chosen = lane
        if chosen < 0:
            return None
        chosen = next((lane for lane in range(chosen + 1, len(Lane)) if self._impatient(lane)), chosen)
        return self._take(chosen)

    def _impatient(self, lane: int) -> bool:
        return bool(self._queues[lane]) and self._passed[lane] >= PATIENCE[Lane(lane)]

    def _take(self, chosen: int) -> T:
        for lane, queue in enumerate(self._queues):
            if queue and lane != chosen:
                self._passed[lane] += 1
        self._passed[chosen] = 0
        return self._queues[chosen].popleft()
