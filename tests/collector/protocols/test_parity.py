from hypothesis import given
from hypothesis import strategies as st

from collector.protocols.parity import strip_parity, with_parity


@given(st.binary(max_size=50))
def test_parity_goes_on_and_comes_off_again(data: bytes):
    seven = bytes(byte & 0x7F for byte in data)
    sent = with_parity(data)
    assert strip_parity(sent) == seven
    assert all(byte.bit_count() % 2 == 0 for byte in sent)


@given(st.binary(min_size=1, max_size=20), st.integers(0, 7))
def test_a_bit_that_fell_over_becomes_nul(data: bytes, bit: int):
    sent = bytearray(with_parity(data))
    sent[0] ^= 1 << bit
    assert strip_parity(bytes(sent))[0] == 0
