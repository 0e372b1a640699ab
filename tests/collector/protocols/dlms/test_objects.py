"""Objects made of attribute values: what is wrong in them is named, and never more than a `FrameError`."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.calendar import ActivityCalendar, ScriptTable
from collector.protocols.dlms.object_parts import CosemValue
from collector.protocols.dlms.objects import (
    ControlState,
    DisconnectControl,
    Limiter,
    ListedObject,
    PushSetup,
    SecuritySetup,
    parse_object_list,
)
from collector.protocols.dlms.references import CaptureObject, logical_name
from metering.errors import FrameError

KINDS: list[type[CosemValue]] = [DisconnectControl, Limiter, ScriptTable, ActivityCalendar, PushSetup, SecuritySetup]
CLOCK = CaptureObject(8, "0-0:1.0.0*255", 2)
LEAVES = st.one_of(
    st.builds(lambda n: Data(Tag.UNSIGNED, n), st.integers(0, 255)),
    st.builds(lambda b: Data(Tag.OCTET_STRING, b), st.binary(max_size=13)),
    st.builds(lambda b: Data(Tag.BOOLEAN, b), st.booleans()),
    st.builds(lambda t: Data(Tag.BIT_STRING, t), st.text("01", max_size=9)),
    st.builds(lambda f: Data(Tag.FLOAT32, f), st.floats(width=32)),
    st.just(Data(Tag.NULL, None)),
)
DATA = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda tag, items: Data(tag, tuple(items)),
        st.sampled_from([Tag.ARRAY, Tag.STRUCTURE]),
        st.lists(inner, max_size=8),
    ),
    max_leaves=20,
)


@given(st.sampled_from(KINDS), st.dictionaries(st.integers(2, 11), DATA))
def test_any_values_make_an_object_or_a_frame_error(kind: type[CosemValue], values: dict[int, Data]):
    found: CosemValue | None = None
    with contextlib.suppress(FrameError):
        found = kind.of(values)
    assert found is None or isinstance(found, kind)


@given(DATA)
def test_any_value_makes_an_object_list_or_a_frame_error(data: Data):
    found: tuple[ListedObject, ...] = ()
    with contextlib.suppress(FrameError):
        found = parse_object_list(data)
    assert all(isinstance(each, ListedObject) for each in found)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({2: axdr.boolean(value=True), 3: axdr.enum_(1)}, "attribute 4 is missing"),
        ({2: axdr.boolean(value=True), 3: axdr.enum_(3), 4: axdr.enum_(4)}, "control_state 3"),
        ({2: axdr.boolean(value=True), 3: axdr.enum_(1), 4: axdr.enum_(7)}, "control_mode 7"),
        ({2: axdr.text("closed"), 3: axdr.enum_(1), 4: axdr.enum_(4)}, "output_state is neither true nor false"),
    ],
)
def test_a_switch_that_cannot_be_is_told(values: dict[int, Data], words: str):
    with pytest.raises(FrameError, match=words):
        DisconnectControl.of(values)


def test_an_armed_switch_is_not_a_connected_one():
    values = {2: axdr.boolean(value=False), 3: axdr.enum_(2), 4: axdr.enum_(1)}
    assert DisconnectControl.of(values) == DisconnectControl(output=False, state=ControlState.READY, mode=1)


def test_a_push_setup_of_any_version_tells_what_it_sends():
    later = axdr.structure(*CLOCK.to_data().value, axdr.structure(axdr.enum_(0), axdr.null()))
    for item in (CLOCK.to_data(), later):
        values = {
            2: axdr.array(item),
            3: axdr.structure(axdr.enum_(0), axdr.octets(b"10.0.0.1:4059"), axdr.enum_(0)),
            5: axdr.u16(30),
        }
        push = PushSetup.of(values)
        assert (push.objects, push.destination, push.randomisation_s, push.retries) == (
            (CLOCK,),
            b"10.0.0.1:4059",
            30,
            0,
        )


def test_rights_of_methods_are_flags_in_early_versions():
    rights = axdr.structure(
        axdr.array(axdr.structure(axdr.i8(2), axdr.enum_(1), axdr.null())),
        axdr.array(axdr.structure(axdr.i8(1), axdr.boolean(value=True))),
    )
    item = axdr.structure(axdr.u16(70), axdr.u8(0), axdr.octets(logical_name("0-0:96.3.10*255")), rights)
    (listed,) = parse_object_list(axdr.array(item))
    assert (listed.obis, listed.attributes, listed.methods) == ("0-0:96.3.10*255", {2: 1}, {1: 1})
    assert listed.allows(2)
    assert not listed.allows(3)
