"""Register values: encode and decode are each other's inverse; the compiled decoder says what the plain one says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.modbus_decoder import Decoder
from collector.protocols.modbus_values import REGISTERS, ValueSpec, decode, decode_text, encode, encode_text
from metering.quality import Quality


@st.composite
def specs(draw: st.DrawFn) -> ValueSpec:
    kind = draw(st.sampled_from([*REGISTERS, "bits"]))
    count = REGISTERS.get(kind) or draw(st.integers(1, 4))
    shift = draw(st.integers(0, 16 * count - 1)) if kind == "bits" else 0
    bits = 16 * count
    return ValueSpec(
        type=kind,
        count=count,
        word_order=draw(st.sampled_from(["msw_first", "lsw_first"])),
        byte_order=draw(st.sampled_from(["big", "little"])),
        shift=shift,
        width=draw(st.integers(1, bits - shift)) if kind == "bits" else 0,
        multiplier=1 if kind.startswith("float") else draw(st.sampled_from([1, 5, 25])),
        not_available=frozenset(draw(st.lists(st.sampled_from([0, (1 << bits) - 1, 1 << (bits - 1)]), max_size=2))),
        nan_not_available=draw(st.booleans()),
        low=draw(st.none() | st.integers(-1000, 0)),
        high=draw(st.none() | st.integers(1, 10**6)),
    )


@given(specs(), st.data())
def test_what_is_decoded_is_encoded_to_the_same_bytes(spec: ValueSpec, data: st.DataObject):
    raw = data.draw(st.binary(min_size=2 * spec.count, max_size=2 * spec.count))
    value, quality = decode(spec, raw)
    if value is None:
        assert quality in (Quality.NOT_AVAILABLE, Quality.NOT_A_NUMBER)
    elif spec.type == "bits":
        assert decode(spec, encode(spec, value))[0] in (value, None)
    else:
        assert encode(spec, value) == raw


@given(st.lists(st.tuples(st.integers(0, 40), specs()), min_size=1, max_size=12), st.data())
def test_the_compiled_decoder_agrees_with_the_plain_one(fields: list[tuple[int, ValueSpec]], data: st.DataObject):
    registers = max(offset + spec.count for offset, spec in fields)
    reply = data.draw(st.binary(min_size=2 * registers, max_size=2 * registers))
    plain = [decode(spec, reply[2 * offset : 2 * (offset + spec.count)]) for offset, spec in fields]
    values, quality = Decoder(fields, registers).decode(reply)
    assert list(values) == [value for value, _ in plain]
    assert list(quality or [0] * len(fields)) == [flags for _, flags in plain]


@pytest.mark.parametrize(
    ("spec", "hexadecimal", "value", "quality"),
    [
        (ValueSpec("int32", 2, word_order="lsw_first"), "0000FFFF", -65536, Quality.VALID),
        (ValueSpec("uint64", 4), "FFFFFFFFFFFFFFFE", 2**64 - 2, Quality.VALID),
        (ValueSpec("float32", 2, byte_order="little"), "66433433", 230.2, Quality.VALID),
        (ValueSpec("float32", 2), "7FC00000", None, Quality.NOT_A_NUMBER),
        (ValueSpec("float32", 2, nan_not_available=True), "FFC00000", None, Quality.NOT_AVAILABLE),
        (ValueSpec("float32", 2, nan_not_available=True), "FF800000", None, Quality.NOT_A_NUMBER),
        (ValueSpec("int16", 1, not_available=frozenset([0x7FFF])), "7FFF", None, Quality.NOT_AVAILABLE),
        (ValueSpec("int16", 1, low=-1000, high=1000), "03E9", 1001, Quality.OUT_OF_RANGE),
        (ValueSpec("bcd48", 3), "000123456789", 123456789, Quality.VALID),
        (ValueSpec("bcd16", 1), "12A4", None, Quality.NOT_A_NUMBER),
        (ValueSpec("bits", 1, shift=4, width=3), "0050", 5, Quality.VALID),
        (ValueSpec("uint16", 1, multiplier=25), "0003", 75, Quality.VALID),
    ],
)
def test_values_come_out_as_the_meter_means_them(spec: ValueSpec, hexadecimal: str, value: float | None, quality: int):
    got, flags = decode(spec, bytes.fromhex(hexadecimal))
    assert flags == quality
    assert got == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (ValueSpec("uint16", 1), 65536),
        (ValueSpec("uint16", 1), -1),
        (ValueSpec("uint16", 1), 0.5),
        (ValueSpec("int16", 1), 32768),
        (ValueSpec("bcd16", 1), 10000),
        (ValueSpec("float32", 2), 1e39),
        (ValueSpec("uint16", 1, multiplier=25), 26),
        (ValueSpec("uint16", 1), None),
        (ValueSpec("uint16", 1), math.inf),
        (ValueSpec("bits", 1, width=2), 4),
    ],
)
def test_a_value_that_the_type_cannot_show_is_refused(spec: ValueSpec, value: float | None):
    with pytest.raises(ValueError):
        encode(spec, value)


@given(st.text("ABCabc0123 -", max_size=12).map(str.strip), st.sampled_from(["big", "little"]))
def test_text_survives_its_registers(text: str, order: str):
    spec = ValueSpec("ascii", 6, byte_order=order)
    assert decode_text(spec, encode_text(spec, text)) == text


def test_a_serial_number_in_a_number_is_its_digits():
    assert decode_text(ValueSpec("uint32", 2), bytes.fromhex("00CF33EE")) == "13579246"
