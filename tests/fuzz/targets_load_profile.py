"""Target for the buffers of load profiles: both readers agree, whatever comes."""

from collector.protocols.dlms.load_profile import BufferColumn, BufferReader, Rows
from metering.errors import FrameError


def _to_utc(octets: bytes) -> int:
    return int.from_bytes(octets[5:8], "big")


READERS = (
    BufferReader([BufferColumn(clock=True, null="clock+period"), BufferColumn(), BufferColumn()], 900, _to_utc),
    BufferReader([BufferColumn(), BufferColumn(null="none")], 0, _to_utc),
)


def _outcome(reader: BufferReader, data: bytes, *, compiled: bool) -> str:
    try:
        rows: Rows = reader.rows(data) if compiled else reader.rows_one_by_one(data)
    except FrameError:
        return "FrameError"
    return repr(rows)


def fuzz_load_profile(data: bytes) -> None:
    """Read a buffer in both ways."""
    for reader in READERS:
        assert _outcome(reader, data, compiled=True) == _outcome(reader, data, compiled=False)
