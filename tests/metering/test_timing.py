import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model import SECOND
from metering.timing import from_rfc3339, parse_duration, slot_at_or_before, to_rfc3339


@given(st.integers(0, 4_000_000_000 * SECOND))
def test_an_instant_survives_its_text(instant: int) -> None:
    assert from_rfc3339(to_rfc3339(instant)) == instant


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="no offset"):
        from_rfc3339("2026-11-23T12:45:00")


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("1s", 1), ("15min", 900), ("2h", 7200), ("40d", 3456000)]
)
def test_a_duration_says_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["15", "15 minutes", "-1s", "", "s"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**15), st.sampled_from([1, 15, 900, 86400]))
def test_a_slot_is_the_boundary_at_or_before(instant: int, interval: int) -> None:
    slot = slot_at_or_before(instant, interval)
    assert slot <= instant < slot + interval * SECOND
    assert slot % (interval * SECOND) == 0
