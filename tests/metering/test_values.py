import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.values import scaled_text, shortest_float32, to_decimal, to_text


@pytest.mark.parametrize(
    ("mantissa", "scale", "text"),
    [(12345, -2, "123.45"), (100, -2, "1.00"), (5, -3, "0.005"), (-5, -3, "-0.005"), (0, -1, "0.0"), (7, 0, "7")],
)
def test_an_integer_with_its_scale_shows_all_its_digits(mantissa: int, scale: int, text: str) -> None:
    assert scaled_text(mantissa, scale) == text


def test_a_float32_shows_the_digits_of_the_meter_and_not_those_of_a_double() -> None:
    value = struct.unpack(">f", bytes.fromhex("43663333"))[0]
    assert to_text(value, 0, "float32") == "230.2"
    assert to_text(value, 3, "float32") == "230200"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_text_of_a_float32_reads_back_as_the_same_bits(value: float) -> None:
    # adding zero turns the negative zero, which no display shows, into zero
    assert struct.pack(">f", float(shortest_float32(value))) == struct.pack(">f", value + 0.0)


@given(st.integers(-(2**64), 2**64), st.integers(-6, 6))
def test_text_and_decimal_of_an_integer_agree(mantissa: int, scale: int) -> None:
    assert Decimal(to_text(mantissa, scale, "int")) == to_decimal(mantissa, scale, "int")
    assert "E" not in to_text(mantissa, scale, "int")


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-3, 3))
def test_a_float64_keeps_its_value(value: float, scale: int) -> None:
    assert to_decimal(value, scale, "float64") == Decimal(repr(value)).scaleb(scale)
