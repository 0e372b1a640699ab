import pytest

from metering.obis import canonical_obis, is_cumulative, parse_obis


def test_a_code_is_six_value_groups_and_255_where_f_is_left_out() -> None:
    assert parse_obis("1-0:1.8.0*255") == (1, 0, 1, 8, 0, 255)
    assert canonical_obis("1-0:01.8.0") == "1-0:1.8.0*255"


@pytest.mark.parametrize("text", ["1.8.0", "1-0:1.8.256", "1-0:1.8.0*", "kWh", "", "1-0:1.8.0*255 "])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not an OBIS code"):
        parse_obis(text)


def test_a_running_total_is_known_by_group_d() -> None:
    assert is_cumulative("1-0:1.8.0*255")
    assert not is_cumulative("1-0:16.7.0*255")
