"""The readings store in an InfluxDB server (1.8, 2.x or 3.x): a view of the log that can be asked, not the log.

Give it a bucket without an end of retention, and write into a bucket from one process only.
"""

import threading
from collections.abc import Iterator, Sequence

from metering.batch import Batch
from metering.model import Event, Expectation, Kind
from metering.ports import Arrivals, Page, Reading, ReadingsQuery, SlotsQuery, WriteResult
from storage.influx_link import InfluxLink, InfluxSettings
from storage.influx_pages import read_arrivals, read_events, read_latest, read_page, read_slots
from storage.influx_read import Catalogue, expectations_of
from storage.influx_write import InfluxWriter

__all__ = ["InfluxSettings", "InfluxStore"]


class InfluxStore:
    """Implements `metering.ports.ReadingsStore`. Making one asks the server nothing, so it may be down meanwhile."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._link = InfluxLink(settings)
        self._catalogue = Catalogue(self._link)
        self._writer = InfluxWriter(self._link, self._catalogue)
        self._writing = threading.Lock()

    def write(self, batches: Sequence[Batch]) -> WriteResult:
        """Store readings, events and expectations; durable in the server when it returns.

        A block that the server refuses for good is in `rejected` with the server's words; it never holds up others.

        Raises:
            StorageError: the server cannot be reached or refuses us as a whole; some may be stored, so write it again.

        """
        with self._writing:
            self._link.check_open()
            return self._writer.write(batches)

    def readings(self, query: ReadingsQuery) -> Page:
        """Return one page of one device's readings; with `versions`, a channel's current version comes first."""
        return read_page(self._link, self._catalogue, query)

    def latest(self, devices: Sequence[str], kinds: Sequence[Kind] = ()) -> Iterator[Reading]:
        """Yield the current value at the latest time of each channel of these devices."""
        return read_latest(self._link, self._catalogue, devices, kinds)

    def count_slots(self, query: SlotsQuery) -> int:
        """Return the number of distinct slots that hold a record."""
        return sum(1 for _ in self.slots(query))

    def slots(self, query: SlotsQuery) -> Iterator[int]:
        """Yield the distinct slots (interval ends) that hold a record, in order."""
        return read_slots(self._link, self._catalogue, query)

    def arrivals(self, device: str, first: int, last: int) -> Sequence[Arrivals]:
        """Return when each slot (interval end) with first <= slot <= last of a device came, layout by layout."""
        return read_arrivals(self._link, self._catalogue, device, first, last)

    def events(
        self, devices: Sequence[str], start: int, end: int, limit: int, after: str = ""
    ) -> tuple[Sequence[Event], str]:
        """Return events with start <= time < end in the order of (time, id), and the cursor of the next page."""
        return read_events(self._link, devices, start, end, limit, after)

    def expectations(self, device: str) -> Sequence[Expectation]:
        """Return all promises to read this device, in the order of `since`."""
        return expectations_of(self._link, device)

    def ping(self) -> None:
        """Return quietly when the bucket can be read and written; raise `StorageError` otherwise."""
        self._link.check()

    def close(self) -> None:
        """Release the connections; later calls raise `StorageError`."""
        self._link.close()
