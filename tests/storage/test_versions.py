"""Which version is the current one, and how readings are ordered."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import StorageError
from metering.model import Column, Kind, Number, Source
from metering.ports import Channel, Reading
from metering.quality import Quality
from storage.versions import Place, Version, bounds, fitted, from_cursor, merged, place_of, resolve, to_cursor

VERSIONS = st.builds(
    Version,
    value=st.sampled_from([None, 0.0, -0.0, 1.0]),
    quality=st.sampled_from([0, Quality.EDITED, Quality.ESTIMATED]),
    received_at=st.integers(0, 3),
    slot=st.none() | st.integers(0, 1),
    revision=st.integers(0, 2),
)


@given(st.lists(VERSIONS, min_size=1), st.randoms())
def test_order_and_repetition_do_not_decide(versions: list[Version], chance: Random):
    shuffled = versions * 2
    chance.shuffle(shuffled)
    assert repr(resolve(shuffled)) == repr(resolve(versions))


@given(VERSIONS, VERSIONS, VERSIONS)
def test_merging_is_associative(one: Version, two: Version, three: Version):
    two, three = (other._replace(value=one.value, quality=one.quality) for other in (two, three))
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Version(1, Quality.EDITED, 0, None, 0), Version(2, 0, 9, None, 9)),
        (Version(1, Quality.VALIDATED, 0, None, 0), Version(2, 0, 9, None, 9)),
        (Version(1, 0, 0, None, 0), Version(2, Quality.ESTIMATED, 9, None, 9)),
        (Version(1, 0, 0, None, 1), Version(2, 0, 9, None, 0)),
        (Version(1, 0, 2, None, 0), Version(2, 0, 1, None, 0)),
        (Version(2, 0, 1, None, 0), Version(1, 0, 1, None, 0)),
        (Version(0.0, 0, 1, None, 0), Version(-0.0, 0, 1, None, 0)),
        (Version(-5, 0, 1, None, 0), Version(None, 0, 1, None, 0)),
    ],
)
def test_rank_then_revision_then_arrival_then_value(better: Version, worse: Version):
    assert resolve([worse, better])[0] is better


@pytest.mark.parametrize(
    ("number", "value", "quality", "kept"),
    [
        ("int", 12.0, 0, (12, 0)),
        ("int", 2**70, 0, (2**70, 0)),
        ("float64", 3, 0, (3.0, 0)),
        ("float32", None, 1, (None, 1)),
        ("float32", float("nan"), 4, (None, 4 | Quality.NOT_A_NUMBER)),
        ("int", float("inf"), 0, (None, Quality.NOT_A_NUMBER)),
    ],
)
def test_a_value_is_kept_as_its_column_has_it(number: Number, value: float, quality: int, kept: tuple[object, int]):
    got = fitted(number, value, quality)
    assert got == kept
    assert type(got[0]) is type(kept[0])


@pytest.mark.parametrize(("number", "value", "quality"), [("int", 1.5, 0), ("float64", 2**53 + 1, 0), ("int", 1, -1)])
def test_what_does_not_fit_exactly_is_refused(number: Number, value: float, quality: int):
    with pytest.raises(ValueError, match=r"fit|flags"):
        fitted(number, value, quality)


def test_an_integer_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        fitted("float64", 10**400, 0)


@pytest.mark.parametrize(
    ("kind", "first_last"), [(Kind.REGISTER, (10, 19)), (Kind.INTERVAL, (11, 20)), (Kind.INSTANTANEOUS, (10, 19))]
)
def test_bounds_of_instants_and_intervals(kind: Kind, first_last: tuple[int, int]):
    assert bounds(kind, 10, 20) == first_last


@pytest.mark.parametrize("value", [2**64 - 1, 2**70, 5, -0.0, 0.1, None])
def test_a_cursor_gives_back_its_place_and_refuses_anything_else(value: float | None):
    channel = Channel("m1", Kind.REGISTER, Source.POLL, 900, Column("1-0:1.8.0*255", "kWh", -2, "int"))
    place = place_of(Reading(channel, 5, 6, value))
    assert repr(from_cursor(to_cursor(place), Place)) == repr(place)  # digit for digit
    for text in ("x", "AAAA", to_cursor((1, "id"))):
        with pytest.raises(StorageError, match="not a cursor"):
            from_cursor(text, Place)
