"""Blocks as line protocol and back, without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.model import Block, Column, Kind, Layout, Source
from metering.quality import Quality
from storage.line_protocol import BOOKKEEPING, LayoutLines, field_names, quoted, tag

KWH = Column("1-0:1.8.0*255", "kWh", -2, "int")
VOLT = Column("1-0:32.7.0*255", "V", 0, "float32")
LAYOUT = Layout(Kind.REGISTER, Source.POLL, 900, (KWH, VOLT))
LINES = LayoutLines(LAYOUT)
TAGS = f"interval=900,kind=register,layout={LAYOUT.key},source=poll"


def block(
    *values: float | None, quality: tuple[int, ...] = (), slot: int | None = 900, revision: int = 2, device: str = "m1"
) -> Block:
    return Block(LAYOUT, device, 1000, 1003, values, slot, quality, revision)


@pytest.mark.parametrize(
    ("one", "values", "exceptions"),
    [
        (block(5, 230.5), "1-0:1.8.0*255_i=5i,1-0:32.7.0*255_f=230.5", ""),
        (block(None, 1.0), "1-0:32.7.0*255_f=1.0", "0:0:"),
        (block(5, 1.0, quality=(8, 0)), "1-0:1.8.0*255_i=5i,1-0:32.7.0*255_f=1.0", "0:8:="),
        (block(2**63, 1.0), "1-0:32.7.0*255_f=1.0", f"0:0:{2**63}"),
        (block(5, float("nan")), "1-0:1.8.0*255_i=5i", "1:2:"),
        (block(5, float("inf")), "1-0:1.8.0*255_i=5i", "1:2:"),
        (block(5, -0.0), "1-0:1.8.0*255_i=5i", "1:0:-0.0"),
        (block(5.0, 1), "1-0:1.8.0*255_i=5i,1-0:32.7.0*255_f=1.0", ""),
        (block(5, 1e-7), "1-0:1.8.0*255_i=5i,1-0:32.7.0*255_f=1e-07", ""),
    ],
)
def test_a_block_is_one_line_with_everything_that_is_known_of_it(one: Block, values: str, exceptions: str) -> None:
    odd = f',exceptions="{exceptions}"' if exceptions else ""
    assert LINES.line(one) == f"readings,device=m1,{TAGS} {values},received=1003i,slot=900i,revision=2i{odd} 1000"


@pytest.mark.parametrize("values", [(5, 1.0), (5, None)])
def test_bookkeeping_that_says_nothing_is_not_written(values: tuple[float | None, ...]) -> None:
    line = LINES.line(block(*values, slot=None, revision=0))
    assert "received=1003i" in line
    assert "slot" not in line
    assert "revision" not in line
    assert ("exceptions" in line) is (None in values)


def test_a_value_that_does_not_fit_its_column_exactly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5\.5 does not fit"):
        LINES.line(block(5.5, 1.0))
    with pytest.raises(ValueError, match="does not fit"):
        LINES.line(block(5, 2**60 + 1))


def test_a_block_that_does_not_fit_its_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 2 columns"):
        LINES.line(block(5, 1.0, 2.0))


@pytest.mark.parametrize("device", ["", "a\nb", "a\\", "a\x00"])
def test_what_line_protocol_cannot_write_is_no_tag(device: str) -> None:
    with pytest.raises(ValueError, match="cannot be a tag"):
        LINES.line(block(5, 1.0, device=device))


def test_signs_of_line_protocol_are_escaped() -> None:
    assert tag("a b,c=d") == r"a\ b\,c\=d"
    assert quoted('a "b" \\ c') == r'"a \"b\" \\ c"'


def test_columns_of_one_code_have_fields_of_their_own_by_type_and_place() -> None:
    code = "1-0:1.8.0*255"
    columns = (
        Column(code, "kWh", 0, "int"),
        Column(code, "kWh", -2, "int"),
        Column(code, "kWh", 0, "float64"),
        Column(code, "Wh", 0, "float32"),
    )
    names = field_names(Layout(Kind.REGISTER, Source.POLL, 0, columns))
    assert names == (f"{code}_i", f"{code}_i_1", f"{code}_f", f"{code}_f_3")


def test_an_exception_goes_before_a_field_that_something_older_left() -> None:
    copy = LINES.copy_from([5, 230.5, 1003, None, None, "0:1:;1:8:="], (0, 1))
    assert copy == ((None, 230.5), (1, 8), 1003, None, 0)


_values = st.tuples(
    st.none() | st.integers(-(2**70), 2**70), st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(
    values=_values,
    flags=st.tuples(st.integers(0, 2**15), st.integers(0, 2**15)),
    slot=st.none() | st.integers(0, 9),
    revision=st.integers(0, 2),
)
def test_what_a_line_says_is_what_its_row_gives_back(
    values: tuple[int | None, float | None], flags: tuple[int, int], slot: int | None, revision: int
) -> None:
    line = LINES.line(block(*values, quality=flags, slot=slot, revision=revision))
    fields = dict(pair.split("=", 1) for pair in line.split(" ")[1].replace('"', "").split(","))
    cells: list[object] = [
        None if name not in fields else float(fields[name]) if name.endswith("_f") else int(fields[name].rstrip("i"))
        for name in (*LINES.names, *BOOKKEEPING[:3])
    ]
    # InfluxDB's answer is JSON from Go: a float without a fraction comes as an integer.
    cells = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in cells]
    copy = LINES.copy_from([*cells, fields.get("exceptions")], (0, 1))
    assert repr(copy.values) == repr(values)
    assert (copy.quality, copy.slot, copy.received, copy.revision) == (flags, slot, 1003, revision)


def test_flags_survive_where_there_is_no_value() -> None:
    line = LINES.line(block(None, None, quality=(Quality.NOT_AVAILABLE, 0)))
    assert 'exceptions="0:1:;1:0:"' in line
