"""What became of the readings that a fleet took: gateways' logs against the head-end's log and store. Runs nothing."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from metergate.fleet.report import Edge
from metergate.parts import log_directory
from metering.errors import StorageError
from metering.ranges import Ranges
from storage.codec import origin_of, unpack
from storage.embedded_count import count_readings
from storage.log import Log, Record

READ_RECORDS = 1024
READ_BYTES = 16 << 20


class Account(msgspec.Struct, frozen=True):
    """Readings at each station. `lost` and `doubled` are of the whole way; both are 0 when it kept its promise."""

    taken: int
    logged: int
    stored: int
    missing_records: int  # of the gateways' logs, that the head-end's log has not
    doubled_records: int  # that it has more than once
    gaps: int  # readings that the head-end holds no value for and says so: skipped records
    lost: int
    doubled: int
    disk: tuple[int, int, int] = (0, 0, 0)  # bytes of the gateways' logs, the head-end's log and its store


class Ledger:
    """What a head-end's log holds of each gateway and epoch, counted record by record."""

    def __init__(self) -> None:
        self.seqs: dict[tuple[str, str], Ranges] = {}
        self.readings: Counter[tuple[str, str]] = Counter()
        self.doubled_records = 0
        self.doubled_readings = 0
        self.skipped = 0

    def take(self, payload: bytes) -> None:
        """Count a record of the head-end's log."""
        origin = origin_of(payload)
        if origin is None:
            return  # the head-end's own
        key = origin.gateway, origin.epoch
        batch = unpack(payload)
        seqs = self.seqs.setdefault(key, Ranges())
        already = seqs.count(origin.first, origin.last + 1)
        self.doubled_records += already
        self.doubled_readings += batch.count() if already else 0
        seqs.add(origin.first, origin.last + 1)
        self.readings[key] += batch.count()
        self.skipped += sum(sum(each.readings.values()) for each in batch.skipped)


def read_log(data: Path) -> Ledger:
    """Return what the log of a head-end that has ended holds. Raises `StorageError`."""
    ledger = Ledger()
    log = Log.open(log_directory(data))
    try:
        position = log.first_seq
        while found := log.read(position, READ_RECORDS, READ_BYTES):
            for item in found:
                if not isinstance(item, Record):
                    raise StorageError(f"the head-end's log lacks seqs {item.from_seq} to {item.to_seq}", retry=False)
                ledger.take(item.payload)
                position = item.seq + 1
    finally:
        log.close()
    return ledger


def account(edges: Iterable[Edge], ledger: Ledger, store: Path) -> Account:
    """Return the account of gateways that have ended, against a head-end's log and store. Raises `StorageError`."""
    edges = list(edges)
    taken = sum(edge.readings for edge in edges)
    logged = sum(ledger.readings.values())
    held = count_readings(store)
    missing = sum(
        edge.records - ledger.seqs.get((edge.gateway, edge.epoch), Ranges()).count(1, edge.records + 1)
        for edge in edges
    )
    doubled = ledger.doubled_readings + held.beside + max(0, held.readings - held.beside - taken)
    return Account(
        taken,
        logged,
        held.readings,
        missing,
        ledger.doubled_records,
        ledger.skipped,
        max(0, taken - ledger.skipped - (held.readings - held.beside)),
        doubled,
    )
