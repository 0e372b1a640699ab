"""What the log already knows when a gateway starts: the last running totals, and a time that is surely past."""

import structlog

from gateway.checks import RegisterWatch
from storage.codec import unpack
from storage.log import Log, Record

REMEMBER_RECORDS = 256  # how far back in the log the last running totals are looked for
REMEMBER_BYTES = 4 << 20

logger = structlog.get_logger(__name__)


def newest_at(log: Log) -> int:
    """Return when the newest record was appended: a clock that is before it has lost its time."""
    newest = log.read(log.next_seq - 1) if log.next_seq > log.first_seq else []
    return max((item.appended_at for item in newest if isinstance(item, Record)), default=0)


def remember(log: Log, watch: RegisterWatch) -> None:
    """Take the last running totals out of the log's end, so that a fall over a restart is seen."""
    first = max(log.first_seq, log.next_seq - REMEMBER_RECORDS)
    size = 0
    while first < log.next_seq and size < REMEMBER_BYTES:
        items = log.read(first, REMEMBER_RECORDS, REMEMBER_BYTES)
        if not items:
            return
        for item in items:
            if isinstance(item, Record):
                first, size = item.seq + 1, size + len(item.payload)
                _remember_batch(item.payload, watch)
            else:
                first = item.to_seq + 1


def _remember_batch(payload: bytes, watch: RegisterWatch) -> None:
    try:
        batch = unpack(payload)
    except ValueError as error:  # the projection quarantines it; here it only holds nothing to remember
        logger.warning("a record of the log cannot be read", reason=str(error))
        return
    for block in batch.blocks:
        watch.remember(block)
