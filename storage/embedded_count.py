"""How many readings an embedded store holds, counted in its file. It knows neither channels nor ranks."""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from metering.model import Layout
from storage import schema

_ROWS = """
SELECT definition, sum(times), sum(times - 1) FROM (
    SELECT series.layout AS layout, count(*) AS times FROM blocks JOIN series ON series.id = blocks.series
    GROUP BY series, measured_at) JOIN layouts ON layouts.id = layout
GROUP BY layouts.id
"""


class Held(NamedTuple):
    """Readings of a store: all, and those that stand beside another one of the same channel and time."""

    readings: int
    beside: int


def count_readings(path: Path) -> Held:
    """Return what the file holds. It is read as a whole. Raises `StorageError`."""
    readings = beside = 0
    with schema.told(path), closing(schema.connect(path, writer=False)) as connection:
        for definition, rows, more in connection.execute(_ROWS):
            width = len(msgspec.msgpack.decode(definition, type=Layout).columns)
            readings += rows * width
            beside += more * width
    return Held(readings, beside)
