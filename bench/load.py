"""The readings that benches of the whole way send: which gateways with which meters, and their batches. Pure."""

import random
from collections.abc import Iterator, Sequence

import msgspec

from metering import timing
from metering.batch import Batch
from metering.model import SECOND, Block, Column, Kind, Layout, Source

BATCH = 200  # readings
BEGIN_AGO_S = 3_600  # the first reading's age: none is of the future, and none of a day that is judged already


class Load(msgspec.Struct, frozen=True):
    """Gateways `name-0` and so on, each with `meters` meters whose points have `width` values.

    Each has `fill` batches in its log from before; then, for `live_s` seconds, `rate` batches a second come in.
    `begin` is the time of the first reading, and a meter has one each `step_s` seconds.
    """

    name: str
    gateways: int
    meters: int
    width: int
    begin: int
    step_s: float = 1.0
    fill: int = 0
    rate: float = 0.0
    live_s: float = 0.0

    @property
    def live(self) -> int:
        """Return how many batches come in live at each gateway."""
        return int(self.rate * self.live_s)

    @property
    def readings(self) -> int:
        """Return how many readings there are in all."""
        return self.gateways * (self.fill + self.live) * BATCH

    def names(self) -> list[str]:
        """Return the gateways' ids."""
        return [f"{self.name}-{number}" for number in range(self.gateways)]

    def devices(self, gateway: str) -> list[str]:
        """Return the ids of a gateway's meters."""
        return [f"{gateway}-m{meter:04d}" for meter in range(self.meters)]

    def batches(self, gateway: str) -> Iterator[Batch]:
        """Yield a gateway's batches without end: the same each time it is called."""
        chance = random.Random(gateway)
        layout = layout_of(self.width)
        devices = self.devices(gateway)
        a_batch = BATCH // self.width
        instant = 0
        while True:
            at = self.begin + int(instant * self.step_s * SECOND)
            for first in range(0, len(devices), a_batch):
                blocks = [
                    Block(layout, device, at, at + SECOND, _values(layout, instant, chance), slot=at)
                    for device in devices[first : first + a_batch]
                ]
                yield Batch(at + 2 * SECOND, blocks)
            instant += 1


def begin_now() -> int:
    """Return the time of a load's first reading, so that the head-end takes them as readings of today."""
    return (timing.now() // SECOND - BEGIN_AGO_S) * SECOND


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that this part of the values does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def layout_of(width: int) -> Layout:
    """Return a layout as meters have them: of five columns, one is a register's integer, four are floats."""
    columns = [
        Column(f"1-0:{1 + index}.8.0*255", "Wh", -2, "int")
        if index % 5 == 0
        else Column(f"1-0:{1 + index}.7.0*255", "V", 0, "float64")
        for index in range(width)
    ]
    return Layout(Kind.REGISTER, Source.POLL, 900, tuple(columns))


def _values(layout: Layout, instant: int, chance: random.Random) -> list[int | float]:
    uniform = chance.random
    return [
        instant * 1000 + int(uniform() * 1000) if column.number == "int" else round(uniform() * 400, 2)
        for column in layout.columns
    ]
