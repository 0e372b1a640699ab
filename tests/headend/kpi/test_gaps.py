"""What a day's gaps have come to: what is missing is in the ledger, whole and once, and nothing settled is lost."""

from collections.abc import Iterable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.kpi.figures import DAY
from headend.kpi.gaps import settled
from headend.kpi.judge import Holes
from headend.state.gaps import Gap
from metering.model import Device, Kind, Source
from metering.ranges import Ranges

DAY_NUMBER = 0  # instants are small here: a slot is a microsecond
NOW = (DAY_NUMBER + 2) * DAY
METER = Device("m", "1", "x", "g1", memory_days=30)
LENGTH = 12
_WORDS = st.sampled_from(("held", "missing", "lost", "no-supply"))
_DAYS = st.lists(_WORDS, min_size=LENGTH, max_size=LENGTH)


def runs(words: list[str], word: str) -> Ranges:
    return Ranges((number + 1, number + 2) for number, each in enumerate(words) if each == word)


def holes(words: list[str]) -> list[Holes]:
    found = runs(words, "missing"), {"why": runs(words, "lost")}, runs(words, "no-supply")
    return [Holes(Kind.REGISTER, Source.PROFILE, 900, *found, askable=True)] if any(map(len, words)) else []


def numbers(gaps: Iterable[Gap]) -> list[int]:
    return [number for gap in gaps for number in range(gap.start, gap.end)]


def asked(gaps: list[Gap]) -> list[Gap]:
    return [
        msgspec.structs.replace(gap, state="asked", tries=gap.tries + 1) if gap.state == "open" else gap for gap in gaps
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(_DAYS, min_size=1, max_size=6), st.booleans())
def test_the_ledger_holds_what_is_missing_whole_and_once(days: list[list[str]], ask: bool) -> None:  # noqa: FBT001 - drawn
    known: list[Gap] = []
    owed: set[int] = set()  # was ever asked for
    for words in days:
        known = settled(known, holes(words), METER, DAY_NUMBER, NOW)
        places = numbers(known)
        assert len(places) == len(set(places))
        still = {number for number, word in enumerate(words) if word == "missing"}
        assert set(numbers(gap for gap in known if gap.state in {"open", "asked"})) == still
        lost = {number for number, word in enumerate(words) if word == "lost"}
        assert lost <= set(numbers(gap for gap in known if gap.state == "lost"))
        assert all(words[number] == "held" for number in numbers(gap for gap in known if gap.state == "recovered"))
        assert owed <= set(places)  # what was asked for never vanishes
        assert all(gap.next_at is None for gap in known if gap.state in {"recovered", "lost"})
        assert len({(gap.device, gap.profile, gap.start) for gap in known}) == len(known)
        if ask:
            known = asked(known)
            owed |= still


def test_a_gap_that_shrinks_goes_on_as_it_was_asked_for() -> None:
    (first,) = settled([], holes(["missing"] * 4), METER, DAY_NUMBER, NOW)
    question = msgspec.structs.replace(first, state="asked", ask="q", tries=3, next_at=NOW + 5)
    found = settled([question], holes(["missing", "held", "no-supply", "missing"]), METER, DAY_NUMBER, NOW)
    assert [(gap.start, gap.end, gap.state, gap.reason, gap.ask, gap.tries) for gap in found] == [
        (0, 1, "asked", "", "q", 3),
        (1, 2, "recovered", "", "", 3),
        (2, 3, "lost", "no-supply", "", 3),
        (3, 4, "asked", "", "q", 3),
    ]


def test_a_day_full_of_holes_keeps_a_bounded_list() -> None:
    words = ["missing", "held"] * 2000
    found = settled([], holes(words), METER, DAY_NUMBER, NOW)
    assert len(found) == 400
    assert set(numbers(found)) >= {number for number, word in enumerate(words) if word == "missing"}
