"""Reads a load profile by range with dlms-cosem, as often as asked, and prints the CPU time of a read as JSON.

A program of its own: it runs in the environment of the peers (`make peers`), and imports nothing of metergate.
Argument: the case as JSON, see `bench/dlms_day_range.py`.
"""

import hashlib
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import structlog
from dlms_cosem import cosem
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.enumerations import CosemInterface
from dlms_cosem.io import BlockingTcpIO, TcpTransport
from dlms_cosem.parsers import ProfileGenericBufferParser
from dlms_cosem.security import HighLevelSecurityGmacAuthentication, NoSecurityAuthentication

# What it would log of each APDU costs it nothing here.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

CLOCK = cosem.CosemAttribute(CosemInterface.CLOCK, cosem.Obis(0, 0, 1, 0, 0), 2)
COLUMNS = [
    CLOCK,
    cosem.CosemAttribute(CosemInterface.DATA, cosem.Obis(0, 0, 96, 10, 1), 2),
    *(cosem.CosemAttribute(CosemInterface.REGISTER, cosem.Obis(1, 0, c, 8, 0), 2) for c in (1, 2, 3, 4)),
]
BUFFER = cosem.CosemAttribute(CosemInterface.PROFILE_GENERIC, cosem.Obis(1, 0, 99, 1, 0), 2)


def make_client(case: dict[str, Any], counter: int) -> DlmsClient:
    """Return a client as the case wants it."""
    transport = TcpTransport(case["client"], 1, BlockingTcpIO(host="127.0.0.1", port=case["port"]))
    if not case["secured"]:
        return DlmsClient(transport, NoSecurityAuthentication(), max_pdu_size=case["max_pdu"])
    return DlmsClient(
        transport,
        HighLevelSecurityGmacAuthentication(),
        max_pdu_size=case["max_pdu"],
        encryption_key=bytes.fromhex(case["encryption"]),
        authentication_key=bytes.fromhex(case["authentication"]),
        client_initial_invocation_counter=counter,
        client_system_title=bytes.fromhex(case["title"]),
    )


def read(case: dict[str, Any], client: DlmsClient) -> list[list[Any]]:
    """Return the rows with their times."""
    begin, end = (datetime.fromtimestamp(case[name], UTC) for name in ("begin", "end"))
    with client.session() as session:
        raw = session.get(BUFFER, RangeDescriptor(CaptureObject(CLOCK, data_index=0), begin, end))
        return ProfileGenericBufferParser(capture_objects=COLUMNS, capture_period=15).parse_bytes(raw)


def main() -> None:
    """Measure."""
    case = json.loads(sys.argv[1])
    spent, digest = [], ""
    for number in range(case["rounds"]):
        client = make_client(case, case["counter"] + 100_000 * number)
        begun = time.process_time()
        rows = read(case, client)
        spent.append(time.process_time() - begun)
        shown = [[round(row[0].value.timestamp()), [column.value for column in row[2:]]] for row in rows]
        digest = hashlib.sha256(json.dumps(shown).encode()).hexdigest()
    print(json.dumps({"cpu_s": min(spent), "digest": digest}))


if __name__ == "__main__":
    main()
