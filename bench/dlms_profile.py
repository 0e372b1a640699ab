"""Load profiles by the compiled layout, plain and ciphered, beside dlms-cosem and Gurux on the very same bytes.

All three turn one get-response with a regular buffer (clock, status, four registers) into rows with times; the ciphered
one is authenticated and encrypted under suite 0. CPU time of one core, best of some rounds, in one run.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.peers_run import ask_peers
from bench.row import Row
from collector.protocols.dlms import axdr, ciphering, clock
from collector.protocols.dlms.load_profile import BufferColumn, BufferReader

ROWS = 1_600  # Gurux takes no more than fits into one wrapper frame of 64 KiB
ROUNDS = 40
PEER_ROUNDS = 3
BAR = 1e6  # rows/s of one core

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEY = bytes(range(16))
AUTHENTICATION_KEY = bytes(range(0xD0, 0xE0))
SERVER_TITLE = b"MGT\x00\x00\x00\x00\x01"
SECURED = 0x30  # authenticated and encrypted, suite 0
HEAD = bytes.fromhex("C401C100")  # get-response-normal, data
GLO_GET_RESPONSE = 0xCC
COUNTER = 77


def run_plain() -> list[Row]:
    """Measure the plain reply."""
    return [_row("dlms-profile", "plain", _read_plain)]


def run_ciphered() -> list[Row]:
    """Measure the ciphered reply."""
    return [_row("dlms-profile-glo", "glo", _read_glo)]


def _row(name: str, kind: str, read: Callable[[bytes, BufferReader], int]) -> Row:
    plain = HEAD + _buffer()
    content = ciphering.protect(SECURED, KEY, AUTHENTICATION_KEY, SERVER_TITLE, COUNTER, plain)
    glo = ciphering.build_ciphered(ciphering.Ciphered(GLO_GET_RESPONSE, b"", SECURED, COUNTER, content))
    reader = BufferReader([BufferColumn(clock=True, null="clock+period"), *[BufferColumn()] * 5], 900, _to_utc)
    apdu = plain if kind == "plain" else glo
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        rows = read(apdu, reader)
        best = min(best, time.process_time() - begun)
        if rows != ROWS:
            raise RuntimeError(f"{rows} rows came out of {ROWS}")
    ours = ROWS / best
    peers = _peers(plain, glo)
    cosem, gurux = peers[f"dlms-cosem {kind}"], peers[f"gurux {kind}"]
    return Row(
        name=name,
        ours=ours,
        unit="rows/s of a core",
        against="dlms-cosem",
        other=cosem,
        ratio=ours / cosem,
        bar="1 M rows/s",
        holds=ours >= BAR,
        note=f"{len(apdu) / ROWS:.0f} B a row; Gurux {gurux:.3g} rows/s, {ours / gurux:.0f} times slower",
    )


def _read_plain(apdu: bytes, reader: BufferReader) -> int:
    return len(reader.rows(apdu[len(HEAD) :]).values)


def _read_glo(apdu: bytes, reader: BufferReader) -> int:
    came = ciphering.parse_ciphered(apdu)
    clear = ciphering.unprotect(came.control, KEY, AUTHENTICATION_KEY, SERVER_TITLE, came.counter, came.content)
    return _read_plain(clear, reader)


def _to_utc(octets: bytes) -> int:
    return clock.to_utc(clock.parse_datetime(octets))


def _buffer() -> bytes:
    rows = []
    for index in range(ROWS):
        at = BEGIN + timedelta(minutes=15 * index)
        fields = (at.year, at.month, at.day, at.isoweekday(), at.hour, at.minute, at.second, 0, 0, 0)
        values = [axdr.u32(1_000_000 + 7 * index + column) for column in range(4)]
        rows.append(axdr.structure(axdr.octets(clock.DateTime(*fields).to_bytes()), axdr.u8(0), *values))
    return axdr.encode(axdr.array(*rows))


def _peers(plain: bytes, glo: bytes) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("plain", "glo")]
        for file, content in zip(files, (plain, glo), strict=True):
            file.write_bytes(content)
        return ask_peers("dlms_rows.py", *files, ROWS, PEER_ROUNDS)
