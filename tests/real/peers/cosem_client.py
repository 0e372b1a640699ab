"""Reads a meter with dlms-cosem. Runs in the peers' environment: cases come as JSON on stdin, one answer per line."""

import json
import logging
import sys
import traceback
from datetime import datetime

import structlog
from dlms_cosem import cosem, dlms_data, enumerations, utils
from dlms_cosem.client import DlmsClient
from dlms_cosem.cosem.capture_object import CaptureObject
from dlms_cosem.cosem.selective_access import RangeDescriptor
from dlms_cosem.io import BlockingTcpIO, HdlcTransport, TcpTransport
from dlms_cosem.security import (
    HighLevelSecurityGmacAuthentication,
    LowLevelSecurityAuthentication,
    NoSecurityAuthentication,
)

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
KINDS = enumerations.CosemInterface


class FrameIO(BlockingTcpIO):
    """Hands over HDLC frames flag by flag and never waits in the middle of one.

    The library looks for flags in the stream and waits for more where two of them came at once, as they do in
    ciphertext now and then.
    """

    pieces = ()
    owed = 0

    def recv_until(self, end):
        first = not self.pieces and not self.owed
        if first:
            head = self.recv(3)
            frame = head + self.recv((int.from_bytes(head[1:], "big") & 0x7FF) - 1)
            self.pieces = [part + end for part in frame.split(end)[:-1]]
        if not self.pieces:
            self.owed -= 1
            return b""
        piece = self.pieces.pop(0)
        self.owed += piece == end and not first
        return piece


def make_client(case):
    io = FrameIO(host="127.0.0.1", port=case["port"])
    if case["transport"] == "wrapper":
        transport = TcpTransport(case["client"], case["server"], io)
    else:
        transport = HdlcTransport(case["client"], case["server"], io, server_physical_address=case["physical"])
    kinds = {
        "none": NoSecurityAuthentication,
        "low": lambda: LowLevelSecurityAuthentication(secret=case["password"].encode()),
        "high-gmac": HighLevelSecurityGmacAuthentication,
    }
    keys = {}
    if case["security"] != "none":
        keys = {
            "encryption_key": bytes.fromhex(case["encryption"]),
            "authentication_key": bytes.fromhex(case["authentication"]),
            "client_initial_invocation_counter": case["counter"],
            "client_system_title": bytes.fromhex(case["title"]),
        }
    return DlmsClient(transport, kinds[case["mechanism"]](), max_pdu_size=case["max_pdu"], **keys)


def attribute(kind, obis, number):
    return cosem.CosemAttribute(interface=kind, instance=cosem.Obis.from_string(obis), attribute=number)


def rows(raw):
    found = utils.parse_as_dlms_data(raw)
    return [[bytes(v).hex() if isinstance(v, (bytes, bytearray)) else v for v in row] for row in found]


def read(case):
    with make_client(case).session() as client:
        answer = {"name": case["name"]}
        register = client.get(attribute(KINDS.REGISTER, "1-0:1.8.0", 2))
        answer["register"] = utils.parse_as_dlms_data(register)
        buffer = attribute(KINDS.PROFILE_GENERIC, "1-0:99.1.0", 2)
        answer["rows"] = rows(client.get(buffer))
        clock = CaptureObject(attribute(KINDS.CLOCK, "0-0:1.0.0", 2), data_index=0)
        first, last = (datetime.fromisoformat(text) for text in case["day"])
        day = client.get(buffer, RangeDescriptor(clock, first, last))
        answer["day"] = rows(day)
        state = attribute(KINDS.DISCONNECT_CONTROL, "0-0:96.3.10", 3)
        for name, number in (("disconnected", 1), ("reconnected", 2)):
            method = cosem.CosemMethod(KINDS.DISCONNECT_CONTROL, cosem.Obis.from_string("0-0:96.3.10"), number)
            client.action(method, dlms_data.IntegerData(0).to_bytes())
            answer[name] = utils.parse_as_dlms_data(client.get(state))
    answer["released"] = True
    return answer


for each in json.load(sys.stdin):
    try:
        print(json.dumps(read(each)), flush=True)
    except Exception:  # whatever it is, the test wants to see it
        print(json.dumps({"name": each["name"], "error": traceback.format_exc()[-1500:]}), flush=True)
