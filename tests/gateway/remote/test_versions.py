"""Versions of a configuration on the disk: what stands after each step, and after a power cut at any of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.remote.versions import Standing, Verdict, Versions, given_up, proven, refused, tried

FRESH = Standing()
ONE = Standing(1, 0, Verdict(1, "applied"))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (tried(ONE, 2), Standing(1, 2, Verdict(1, "applied"))),
        (proven(tried(ONE, 2)), Standing(2, 0, Verdict(2, "applied"))),
        (given_up(tried(ONE, 2), "silent"), Standing(1, 0, Verdict(2, "rolled-back", "silent"))),
        (refused(ONE, 2, "wrong"), Standing(1, 0, Verdict(2, "refused", "wrong"))),
        (refused(FRESH, 1, "wrong"), Standing(0, 0, Verdict(1, "refused", "wrong"))),
    ],
    ids=["tried", "proven", "given up", "refused", "refused first"],
)
def test_each_step_leads_to_one_standing(after: Standing, expected: Standing) -> None:
    assert after == expected


@given(st.lists(st.sampled_from(["proven", "given up", "refused"]), max_size=20))
def test_what_is_applied_is_always_the_last_version_that_proved_itself(ends: list[str]) -> None:
    standing, expected = FRESH, 0
    for version, end in enumerate(ends, 1):
        if end == "refused":
            standing = refused(standing, version, "wrong")
        else:
            under_way = tried(standing, version)
            assert (under_way.applied, under_way.trying) == (expected, version)
            standing = proven(under_way) if end == "proven" else given_up(under_way, "silent")
            expected = version if end == "proven" else expected
        assert (standing.applied, standing.trying, standing.verdict.version) == (expected, 0, version)


def test_a_version_on_trial_is_still_known_as_such_after_a_power_cut_and_the_one_before_is_kept(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for version in (1, 2, 3):
        versions.put(version, b"text")
        versions.move(tried(versions.standing, version))
        if version < 3:
            versions.move(proven(versions.standing))
    again = Versions(tmp_path)
    assert (again.standing.applied, again.standing.trying) == (2, 3)
    again.move(given_up(again.standing, "power"))
    assert Versions(tmp_path).standing == Standing(2, 0, Verdict(3, "rolled-back", "power"))
    assert again.path(2).read_bytes() == b"text"
    assert not again.path(1).exists()
