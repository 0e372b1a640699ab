"""Properties of the mapping: every digit kept, every payload either read or refused with a reason."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.drivers.mqtt import MAX_LAYOUTS, Mapping
from collector.mqtt_profile import load_mqtt_profile, mqtt_profile_names
from collector.protocols.json_text import MAX_DEPTH, MAX_PAYLOAD_BYTES
from metering.errors import FrameError
from metering.model import Block
from metering.timing import from_rfc3339
from metering.values import to_decimal

NOW = from_rfc3339("2026-11-23T12:45:00Z")
PARAMETERS = {"zone": "Europe/Berlin"}
MAPPINGS = [Mapping(load_mqtt_profile(name), "m", "meter1", PARAMETERS) for name in mqtt_profile_names()]
TOPICS = [(mapping, topic) for mapping in MAPPINGS for topic in mapping.topics]
OWN = Mapping(load_mqtt_profile("mqtt_metergate"), "m", "meter1")
PRO = Mapping(load_mqtt_profile("mqtt_shelly_pro_3em"), "m", "meter1")

values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["params", "em:0", "Time"]), inner),
    max_leaves=8,
)


@given(
    place=st.sampled_from(TOPICS), payload=st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode())
)
def test_any_payload_is_read_or_refused_with_a_reason(place: tuple[Mapping, str], payload: bytes):
    mapping, topic = place
    reason = "none"
    try:
        if mapping.tells_state(topic):
            assert mapping.state(topic, payload) in {True, False}
        else:
            assert all(isinstance(block, Block) for block in mapping.map(topic, payload, NOW))
    except FrameError as error:
        reason = str(error)
    assert reason


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_every_digit_of_a_register_is_kept(number: Decimal):
    for value in (f'"{number}"', f"{number}"):
        readings = f'{{"1-0:1.8.0*255":{{"value":{value},"unit":"kWh"}}}}'
        payload = f'{{"time":"2026-11-23T12:45:00Z","readings":{readings}}}'
        (block,) = OWN.map("meter1/readings", payload.encode(), NOW)
        column = block.layout.columns[0]
        assert block.values[0] is not None
        assert to_decimal(block.values[0], column.scale, column.number) == number


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{" + b" " * MAX_PAYLOAD_BYTES + b"}", "at most 65536 are read"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested deeper than 32 levels"),
        (b"[" * 60_000, "nested deeper than 32 levels"),
        (b'{"params":{"ts":1,"em:0":{"a_current":1e999999999}}}', "more than 30 digits"),
        (b'{"params":{"ts":1,"em:0":{"a_current":1e-999999999}}}', "more than 30 digits"),
        (b'{"params":{"ts":1,"em:0":{"a_current":' + b"9" * 60_000 + b"}}}", "more than 30 digits"),
        (b'{"params":{"ts":1e400,"em:0":{"a_current":1}}}', "more than 30 digits"),
        (b'{"params":{"ts":Infinity}}', "Infinity is not a number"),
        (b"\xff\xfe{}", "no UTF-8"),
        (b"", "not JSON"),
    ],
)
def test_hostile_payloads_are_refused_quickly_and_quoted_shortly(payload: bytes, reason: str):
    with pytest.raises(FrameError) as caught:
        PRO.map("meter1/events/rpc", payload, NOW)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_same_channels_share_one_layout_and_ever_new_combinations_do_not_pile_up():
    mapping = Mapping(load_mqtt_profile("mqtt_shelly_pro_3em"), "m", "meter1")
    names = ["a_current", "b_current", "c_current", "a_voltage", "b_voltage", "c_voltage", "a_pf", "b_pf"]
    for mask in range(1, 256):
        power = {name: 1 for bit, name in enumerate(names) if mask >> bit & 1}
        payload = json.dumps({"params": {"ts": NOW // 1_000_000, "em:0": power}}).encode()
        first, second = (mapping.map("meter1/events/rpc", payload, NOW) for _ in range(2))
        assert sum(len(block.values) for block in first) == len(power)
        if mask < MAX_LAYOUTS:
            assert first[0].layout is second[0].layout
    assert len(mapping._layouts) == MAX_LAYOUTS
