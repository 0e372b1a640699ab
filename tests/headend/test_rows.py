from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.rows import from_moment, judge, moment, moments, multiplier, rows_of
from metering.model import Column, Installation, Kind, Number, Source
from metering.ports import Channel, Reading
from metering.quality import Quality
from metering.runs import Readings, Run
from metering.timing import to_rfc3339


def installed(ct: str = "1", pt: str = "1", registers: str = "secondary") -> Installation:
    return Installation("p", "m", "1", 0, None, {}, {}, ct, pt, registers)  # type: ignore[arg-type]  # of two words


def figures(value: float, column: Column, installation: Installation | None) -> tuple[str | None, str | None]:
    reading = Reading(Channel("m", Kind.REGISTER, Source.POLL, 900, column), 0, 0, value)
    (row,) = rows_of([reading], installation, "1")
    return row.value, row.primary_value


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("A", "40"),
        ("V", "100"),
        ("kW", "4000"),
        ("kWh", "4000"),
        ("kvarh", "4000"),
        ("Hz", None),
        ("", None),
        ("deg", None),
    ],
)
def test_each_unit_takes_the_ratios_that_belong_to_it(unit: str, factor: str | None) -> None:
    found = multiplier(installed("40", "100"), unit)
    assert (str(found) if found is not None else None) == factor
    assert multiplier(installed("40", "100", "primary"), unit) is None


@pytest.mark.parametrize(
    ("value", "column", "installation", "expected"),
    [
        (12345, Column("1-0:1.8.0*255", "kWh", -2, "int"), installed("40"), ("123.45", "4938.00")),
        (5, Column("1-0:1.8.0*255", "kWh", -2, "int"), installed("2.5"), ("0.05", "0.125")),
        (-5, Column("1-0:1.8.0*255", "kWh", -2, "int"), installed("2"), ("-0.05", "-0.10")),
        (7, Column("1-0:1.8.0*255", "kWh", 3, "int"), installed("2"), ("7000", "14000")),
        (2**64 - 1, Column("1-0:1.8.0*255", "Wh", 0, "int"), installed("7"), (f"{2**64 - 1}", f"{7 * (2**64 - 1)}")),
        (230.1999969482422, Column("1-0:32.7.0*255", "V", 0, "float32"), installed("1", "10"), ("230.2", "2302.0")),
        (12345, Column("1-0:1.8.0*255", "kWh", -2, "int"), installed("40", "1", "primary"), ("123.45", "123.45")),
        (12345, Column("1-0:1.8.0*255", "kWh", -2, "int"), None, ("123.45", None)),
    ],
)
def test_both_figures_are_exact(
    value: float, column: Column, installation: Installation | None, expected: tuple[str, str | None]
) -> None:
    assert figures(value, column, installation) == expected


@given(
    st.integers(-(2**70), 2**70),
    st.integers(-6, 3),
    st.decimals(min_value="0.001", max_value="99999", places=3),
)
def test_the_primary_value_is_the_product_digit_for_digit(mantissa: int, scale: int, ratio: Decimal) -> None:
    shown, primary = figures(mantissa, Column("1-0:1.8.0*255", "kWh", scale, "int"), installed(str(ratio)))
    assert shown is not None
    assert primary is not None
    numerator = int(ratio.scaleb(3)) * mantissa
    assert int(Decimal(shown).scaleb(6)) == mantissa * 10 ** (scale + 6)
    assert int(f"{primary}.".split(".")[0] + f"{primary}.".split(".")[1].ljust(9, "0")) == numerator * 10 ** (scale + 6)


@given(st.integers(-(10**15), 10**17))
def test_an_instant_keeps_every_microsecond(instant: int) -> None:
    assert from_moment(moment(instant)) == instant
    assert moments([instant, instant + 1]) == [moment(instant), moment(instant + 1)]
    assert moment(instant).isoformat().replace("+00:00", "Z") == to_rfc3339(instant)


def test_what_is_derived_or_worthless_is_never_valid() -> None:
    assert judge(0).valid
    assert not judge(int(Quality.DERIVED)).valid
    assert [code.name for code in judge(int(Quality.ROLLOVER | Quality.DERIVED)).codes] == ["rollover", "derived"]


TIMES = st.integers(0, 2**51)
RATIOS = st.sampled_from(["1", "40", "2.5", "0.001"])


@given(
    st.sampled_from(["int", "float32", "float64"]),
    st.integers(-6, 2),
    st.sampled_from(list(Kind)),
    st.one_of(st.none(), st.builds(installed, RATIOS, RATIOS, st.sampled_from(["primary", "secondary"]))),
    st.lists(st.tuples(TIMES, TIMES, st.integers(-(2**63), 2**63 - 1), st.one_of(st.none(), TIMES), TIMES), min_size=1),
)
def test_a_run_gives_the_rows_of_its_readings(
    number: Number,
    scale: int,
    kind: Kind,
    installation: Installation | None,
    rows: list[tuple[int, int, int, int | None, int]],
) -> None:
    channel = Channel("m", kind, Source.POLL, 900, Column("1-0:1.8.0*255", "kWh", scale, number))
    values = [row[2] if number == "int" else float(row[2] % 2**20) / 8 for row in rows]
    times, arrivals, _, slots, revisions = zip(*rows, strict=True)
    run = Run(channel, times, arrivals, values, slots, revisions)
    assert list(rows_of(Readings([run]), installation, "1")) == list(rows_of(list(run), installation, "1"))
