"""A simulated DLMS meter answers garbage as a meter does: with a refusal or not at all, never with an accident."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import acse, axdr
from collector.protocols.dlms.acse import Conformance, Context
from collector.protocols.dlms.action import ActionRequest
from collector.protocols.dlms.get import GetListRequest, GetNextRequest, GetRequest
from collector.protocols.dlms.hdlc import Frame, build_frame
from collector.protocols.dlms.references import Attribute, Method, entry_access
from collector.protocols.dlms.set import SetRequest
from collector.protocols.dlms.wrapper import wrap
from metering.errors import FrameError
from metering.model import SECOND
from simulators.dlms_association import Association
from simulators.dlms_hdlc import HdlcStations
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_security import AccessSettings, Client
from simulators.dlms_tcp import WrapperStation
from simulators.meter import Meter, MeterSettings

NOW = 1_795_000_000 * SECOND
CLIENT = 17
EVERYTHING = Conformance(0xFFFFFF)
OPEN = acse.Aarq(Context.LN, user_information=acse.InitiateRequest(EVERYTHING, 500).to_bytes()).to_bytes()
PROFILE, CLOCK = Attribute(7, "1-0:99.1.0*255", 2), Attribute(8, "0-0:1.0.0*255", 2)
REQUESTS = [
    OPEN,
    GetRequest(0xC1, PROFILE, entry_access(1, 3)).to_bytes(),
    GetListRequest(0xC1, ((CLOCK, None), (PROFILE, None))).to_bytes(),
    GetNextRequest(0xC1, 1).to_bytes(),
    SetRequest(0xC1, CLOCK, None, axdr.octets(bytes(12))).to_bytes(),
    SetRequest(0xC1, Attribute(71, "0-0:17.0.0*255", 8), None, axdr.structure(axdr.u16(1))).to_bytes(),
    ActionRequest(0xC1, Method(9, "0-0:10.0.106*255", 1), axdr.u16(1)).to_bytes(),
    ActionRequest(0xC1, Method(64, "0-0:43.0.0*255", 2), axdr.array(axdr.structure(axdr.enum_(0)))).to_bytes(),
    acse.Rlrq(0).to_bytes(),
    bytes.fromhex("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"),
    bytes.fromhex("DB084D4D4D0000BC614E1E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"),
]


def meter() -> DlmsMeter:
    settings = DlmsSettings(
        history=False, profile=ProfileSettings(days=1), access=AccessSettings((Client(CLIENT),), lock_after=10**6)
    )
    return DlmsMeter(Meter(MeterSettings(seed=3)), settings, now=lambda: NOW)


METER = meter()


@st.composite
def spoilt(draw: Any) -> bytes:  # noqa: ANN401 - hypothesis gives a function
    """A request with some bytes changed, taken out or put in."""
    request = bytearray(draw(st.sampled_from(REQUESTS)))
    chance = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(request))
        kind = chance.randrange(3)
        if kind == 0:
            request[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 1 and len(request) > 2:
            del request[place : place + chance.randrange(1, 5)]
            request = request or bytearray(b"\0")
        else:
            request[place:place] = chance.randbytes(3)
    return bytes(request) or b"\0"


@given(st.lists(spoilt(), min_size=1, max_size=6))
def test_any_request_has_an_answer(requests: list[bytes]):
    association = Association(METER, CLIENT)
    association.serve(OPEN, NOW)
    for request in requests:
        assert association.serve(request, NOW)


@given(st.lists(st.one_of(spoilt(), st.binary(min_size=1, max_size=40)), max_size=5), st.integers(0, 60))
def test_a_stream_of_wrapped_garbage_is_answered_or_given_up(requests: list[bytes], cut: int):
    station = WrapperStation({1: METER})
    stream = b"".join(wrap(CLIENT, 1, request) for request in requests)[cut:]
    try:
        answers = station.heard(stream)
    except FrameError:
        station.close()
        answers = []
    assert len(answers) <= len(requests)


@given(st.lists(st.one_of(spoilt(), st.binary(max_size=40)), max_size=5), st.binary(max_size=9), st.integers(0, 255))
def test_garbage_in_frames_never_hurts(requests: list[bytes], noise: bytes, control: int):
    stations = HdlcStations({1: METER})
    client, server = bytes((CLIENT << 1 | 1,)), bytes((2, 35))
    frames = [Frame(server, client, 0x93), *(Frame(server, client, 0x10, b"\xe6\xe6\x00" + x) for x in requests)]
    frames.append(Frame(server, client, control, noise))
    answers = stations.heard(noise.join(build_frame(frame) for frame in frames))
    assert len(answers) <= len(frames)
