"""What a running part tells about itself as numbers: the shape that parts hand over, without any metrics library."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple


class Measure(NamedTuple):
    """One number. Labels come from configuration (a bus, a cursor), never from readings or requests."""

    name: str  # [a-z_]+, prefixed with metergate_ on the way out; counters without _total
    kind: Literal["gauge", "counter"]
    help: str
    value: float
    labels: Mapping[str, str] = {}


Measures = Callable[[], Iterable[Measure]]
