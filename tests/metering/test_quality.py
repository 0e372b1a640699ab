import pytest

from metering.quality import CODES, Quality, codes, is_valid, rank


def test_every_flag_has_its_codes() -> None:
    assert set(CODES) == {flag for flag in Quality if flag}


@pytest.mark.parametrize(("quality", "names"), [(0, ["valid"]), (8 | 32, ["backwards", "clock-suspect"])])
def test_flags_are_told_in_words(quality: int, names: list[str]) -> None:
    assert [code.name for code in codes(quality)] == names


def test_edited_wins_over_validated_over_read_over_suspect_over_estimate_over_worthless() -> None:
    order = [
        Quality.EDITED,
        Quality.VALIDATED,
        Quality.VALID,
        Quality.CLOCK_SUSPECT,
        Quality.ESTIMATED,
        Quality.NOT_A_NUMBER,
    ]
    assert [rank(quality) for quality in order] == sorted({rank(quality) for quality in order}, reverse=True)


@pytest.mark.parametrize("quality", [Quality.VALID, Quality.ROLLOVER, Quality.VALIDATED, Quality.EDITED])
def test_only_what_has_no_remark_against_it_is_billed(quality: Quality) -> None:
    assert is_valid(quality)
    assert not is_valid(quality | Quality.BACKWARDS)
