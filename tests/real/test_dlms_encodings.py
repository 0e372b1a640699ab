"""Our client decodes what Gurux's own encoder makes of the simulated meter's data: answers, blocks, ciphered APDUs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from collector.keys import MeterKeys
from collector.protocols.conversation import Conversation
from collector.protocols.dlms import axdr
from collector.protocols.dlms.acse import AARQ
from collector.protocols.dlms.apdu import parse_apdu
from collector.protocols.dlms.association import Association
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.ciphering import GENERAL_GLO, parse_ciphered, unprotect
from collector.protocols.dlms.clock import parse_datetime, to_utc
from collector.protocols.dlms.get import GetBlockResponse, GetNextRequest, GetRequest, GetResponse
from collector.protocols.dlms.load_profile import BufferColumn, BufferReader
from collector.protocols.dlms.references import Attribute
from collector.protocols.dlms.session import Session
from metering.model import SECOND
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_objects import Ask
from simulators.dlms_security import test_keys as keys_of_tests
from simulators.meter import Meter, MeterSettings

pytestmark = pytest.mark.real

PEERS = Path(__file__).parents[2] / ".peers" / "bin" / "python"
PROGRAM = Path(__file__).parent / "peers" / "gurux_encoder.py"
NOW = 1_795_000_000 * SECOND
TITLE = b"MGT00001"
COUNTER = 77
REGISTER, SCALER = Attribute(3, "1-0:1.8.0*255", 2), Attribute(3, "1-0:1.8.0*255", 3)
BUFFER, OBJECTS = Attribute(7, "1-0:99.1.0*255", 2), Attribute(7, "1-0:99.1.0*255", 3)
NAMES = {REGISTER: "register", SCALER: "scaler", BUFFER: "rows", OBJECTS: "objects"}
COLUMNS = ("1-0:1.8.0*255", "1-0:2.8.0*255")
T = TypeVar("T")


class Encoder:
    """Gurux's encoder in its own process, and the meter whose data it encodes."""

    def __init__(self, meter: DlmsMeter, max_pdu: int) -> None:
        self.meter = meter
        self.rows = [
            [capture.shown // SECOND, *(value.value for value in meter.load_profile.row(capture)[1:])]
            for capture in meter.load_profile.captures(NOW)
        ]
        keys = keys_of_tests()
        made = {
            "max_pdu": max_pdu,
            "scaler": 0,
            "register": meter.registers.value(REGISTER.obis, NOW).value,
            "rows": self.rows,
            "title": TITLE.hex(),
            "encryption": keys.encryption.hex(),
            "authentication": keys.authentication.hex(),
            "counter": COUNTER,
        }
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([PEERS, PROGRAM], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._say(made)

    def _say(self, what: dict[str, Any]) -> None:
        assert self.process.stdin
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def encode(self, what: str, **how: object) -> bytes:
        assert self.process.stdout
        self._say({"what": what, **how})
        return bytes.fromhex(self.process.stdout.readline())

    def carry(self, conversation: Conversation[T]) -> T:
        """Carry one of our client's conversations; Gurux encodes the answers."""
        asked = next(conversation)
        while True:
            try:
                asked = conversation.send(self._answer(asked))
            except StopIteration as done:
                value: T = done.value
                return value

    def _answer(self, asked: bytes) -> bytes:
        if asked[0] == AARQ:
            return self.encode("aare")
        request = parse_apdu(asked)
        if isinstance(request, GetNextRequest):
            return self.encode("next", invoke=request.invoke)
        assert isinstance(request, GetRequest)
        return self.encode(NAMES[request.attribute], invoke=request.invoke)


@pytest.fixture(params=[500, 65_000])
def encoder(request: pytest.FixtureRequest) -> Iterator[Encoder]:
    assert PEERS.exists(), "the peers' environment is not there; make it with: make peers"
    settings = DlmsSettings(profile=ProfileSettings(days=4, columns=COLUMNS))
    made = Encoder(DlmsMeter(Meter(MeterSettings(seed=3)), settings, now=lambda: NOW), request.param)
    yield made
    assert made.process.stdin
    made.process.stdin.close()
    made.process.wait(10)


def times_and_values(rows: tuple[Data, ...]) -> list[list[object]]:
    return [
        [to_utc(parse_datetime(row.value[0].value)) // SECOND, *(value.value for value in row.value[1:])]
        for row in rows
    ]


def test_registers_and_profiles_are_what_the_meter_itself_says(encoder: Encoder):
    session = Session(Association(16), MeterKeys(), None)
    encoder.carry(session.associate())
    objects = encoder.meter.objects
    for attribute in (REGISTER, SCALER, OBJECTS):
        own = objects[attribute.obis].get(attribute.attribute, Ask(NOW))
        assert encoder.carry(session.get(attribute)) == own
    raw = encoder.carry(session.get_raw(BUFFER))
    assert len(encoder.rows) > 300
    assert times_and_values(objects[BUFFER.obis].get(2, Ask(NOW)).value) == encoder.rows
    assert times_and_values(encoder.carry(session.get(BUFFER)).value) == encoder.rows
    columns = [BufferColumn(clock=True), *[BufferColumn() for _ in range(3)]]
    read = BufferReader(columns, 900, lambda octets: to_utc(parse_datetime(octets))).rows(raw)
    assert [[at // SECOND, *values] for at, values in zip(read.times, read.values, strict=True) if at] == encoder.rows


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("security", ["authenticated", "encrypted", "authenticated-encrypted"])
def test_what_gurux_ciphered_opens_with_the_same_keys(encoder: Encoder, security: str, general: bool):  # noqa: FBT001 - a parameter of the test
    keys = keys_of_tests()

    def opened(apdu: bytes) -> object:
        closed = parse_ciphered(apdu)
        assert (closed.tag == GENERAL_GLO, closed.title) == (general, TITLE if general else b"")
        assert closed.counter >= COUNTER
        plain = unprotect(closed.control, keys.encryption, keys.authentication, TITLE, closed.counter, closed.content)
        return parse_apdu(plain)

    answer = opened(encoder.encode("register", invoke=0xC1, security=security, general=general))
    assert isinstance(answer, GetResponse)
    value = encoder.meter.registers.value(REGISTER.obis, NOW).value
    assert answer.data == b"\x06" + value.to_bytes(4, "big")
    raw, last = b"", False
    answer = opened(encoder.encode("rows", invoke=0xC2, security=security, general=general))
    while not last:
        assert isinstance(answer, GetBlockResponse | GetResponse)
        part = answer.raw if isinstance(answer, GetBlockResponse) else answer.data
        assert isinstance(part, bytes)
        raw += part
        last = isinstance(answer, GetResponse) or answer.last
        answer = answer if last else opened(encoder.encode("next", invoke=0xC2))
    assert times_and_values(axdr.decode_all(raw).value) == encoder.rows
