import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.batch import Batch, decode, encode, outline
from metering.model import Block, Column, Event, Expectation, Kind, Layout, Skipped, Source

LAYOUT = Layout(
    Kind.REGISTER,
    Source.POLL,
    900,
    (Column("1-0:1.8.0*255", "kWh", -2, "int"), Column("1-0:2.8.0*255", "kWh", 0, "float32")),
)
VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False))
BLOCKS = st.builds(
    Block,
    st.just(LAYOUT),
    st.text(min_size=1, max_size=8),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.lists(VALUES, min_size=2, max_size=2),
    st.one_of(st.none(), st.integers(0, 2**53)),
    st.one_of(st.just([]), st.lists(st.integers(0, 65535), min_size=2, max_size=2)),
    st.integers(0, 9),
)


@given(st.lists(BLOCKS, max_size=5))
def test_what_is_encoded_is_decoded_value_for_value(blocks: list[Block]) -> None:
    batch = Batch(
        1,
        blocks,
        [Event("m1", 1, "3.1.0.85", "meter-silent", 2, {"a": "b"})],
        [Expectation("m1", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), 5)],
        [Skipped(1, 2, "evicted", {"m1": 7})],
    )
    assert decode(encode(batch)) == batch


@given(blocks=st.lists(BLOCKS, max_size=5), notes=st.booleans())
def test_an_outline_says_what_the_decoded_batch_says(blocks: list[Block], *, notes: bool) -> None:
    events = [Event("gateway:g", 1, "3.1.0.85", "meter-silent", 2)] if notes else []
    promises = [Expectation("m1", Kind.REGISTER, Source.POLL, 900, ("1-0:1.8.0*255",), 5)] if notes else []
    batch = Batch(1, blocks, events, promises)
    found = outline(encode(batch))
    assert found.devices == {each.device for each in (*blocks, *promises)}
    assert found.told == {event.device for event in events}
    assert found.readings == batch.count()
    assert found.latest == max((block.measured_at for block in blocks), default=None)


def test_a_layout_stands_once_in_a_batch_however_many_blocks_share_it() -> None:
    def block(n: int) -> Block:
        return Block(LAYOUT, "m", n, n, [n, n])

    one, ten = (len(encode(Batch(0, [block(n) for n in range(count)]))) for count in (1, 10))
    assert ten - one < 9 * 30


@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_end_in_a_value_error(raw: bytes) -> None:
    try:
        decode(raw)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            outline(raw)
        return
    assert raw[0] & 0xF0 == 0x80, "only a MessagePack map can be a batch"


def test_a_block_that_does_not_fit_its_layout_is_refused() -> None:
    good = encode(Batch(0, [Block(LAYOUT, "m", 1, 1, [1, 2])]))
    with pytest.raises(ValueError, match="values for 2 columns"):
        decode(good.replace(b"\x92\x01\x02\x90", b"\x91\x01\x90"))
    with pytest.raises(ValueError, match="values for 2 columns"):
        outline(good.replace(b"\x92\x01\x02\x90", b"\x91\x01\x90"))
