"""The record of supply commands over restarts, torn ends and kills: the last word counts, and nothing comes twice."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.supply.items import Cut, Held, KeptLimit, Opening, Refused, held_of
from gateway.supply.record import KEPT_S, Record
from metering.errors import StorageError
from metering.model import SECOND
from metering.supply import Action, SupplyCommand
from metering.supply_states import State

NOW = 1_795_000_000 * SECOND
HOUR = 3_600 * SECOND


def command(number: int = 1, **changes: object) -> SupplyCommand:
    made = SupplyCommand(
        f"c{number}",
        Action.DISCONNECT,
        f"MP-{number}",
        f"m{number}",
        "123",
        0,
        "gw1",
        "debt",
        "cleo",
        f"{number:032x}",
        number,
        NOW,
        NOW + HOUR,
        "case-7",
    )
    return msgspec.structs.replace(made, **changes)


def held(number: int = 1, state: State = State.ACCEPTED, **changes: object) -> Held:
    return held_of(command(number, **changes), ["anna", "ben"], "", NOW, NOW, state)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path):
    record = Record(tmp_path / "record")
    record.put(held(1))
    record.put(held(1, State.EXECUTING), Cut("c1", NOW), Opening("m1", "c1", "debt", NOW))
    record.put(KeptLimit("m2", "c2", {4: 4600}, 4600, NOW + HOUR))
    again = Record(tmp_path / "record")
    assert again.held["c1"].state is State.EXECUTING
    assert again.command("c1") == command(1)
    assert (again.openings["m1"].reason, again.limits["m2"].limit_w) == ("debt", 4600)
    assert again.is_spent(f"{1:032x}") == "c1"
    assert again.last_seq("m1") == 1
    assert [each.id for each, _ in again.open_at("MP-1")] == ["c1"]
    again.put(Opening("m1", "", "", NOW), KeptLimit("m2", "", {}, None, 0), held(1, State.VERIFIED))
    last = Record(tmp_path / "record")
    assert (last.openings, last.limits, last.open_items(), last.open_at("MP-1")) == ({}, {}, [], [])


@pytest.mark.parametrize("left", [1, 7, 8, 9, 40])
def test_a_torn_end_was_never_acted_upon(tmp_path: Path, left: int):
    record = Record(tmp_path / "record")
    record.put(held(1))
    size = (tmp_path / "record").stat().st_size
    record.put(held(1, State.EXECUTING), Cut("c1", NOW))
    raw = (tmp_path / "record").read_bytes()
    (tmp_path / "record").write_bytes(raw[: size + left])
    again = Record(tmp_path / "record")
    assert again.held["c1"].state is State.ACCEPTED
    assert again.cuts_since(0) == 0
    again.put(held(2))
    assert set(Record(tmp_path / "record").held) == {"c1", "c2"}


def test_a_record_that_is_damaged_before_its_end_is_not_used(tmp_path: Path):
    record = Record(tmp_path / "record")
    for number in range(1, 400):
        record.put(held(number))
    raw = bytearray((tmp_path / "record").read_bytes())
    raw[20] ^= 1
    (tmp_path / "record").write_bytes(raw)
    with pytest.raises(StorageError, match="damaged at byte 0"):
        Record(tmp_path / "record")


def test_what_is_long_over_is_forgotten_and_is_still_not_taken_again(tmp_path: Path):
    record = Record(tmp_path / "record")
    record.put(held(1, State.VERIFIED))
    record.put(held(2))
    record.tidy(NOW + (KEPT_S + 7200) * SECOND)
    for each in (record, Record(tmp_path / "record")):
        assert set(each.held) == {"c2"}
        assert each.floor == NOW + HOUR
        assert each.last_seq("m1") == 1


def test_cuts_in_the_future_count_a_clock_was_put_back(tmp_path: Path):
    record = Record(tmp_path / "record")
    record.put(Cut("c1", NOW + HOUR))
    assert record.cuts_since(NOW - HOUR) == 1


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path):
    record = Record(tmp_path / "not" / "there" / "record")
    with pytest.raises(StorageError):
        record.put(held(1))
    assert record.held == {}


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(list(State))), max_size=30), st.integers(0, 40))
def test_whatever_is_cut_off_the_rest_is_a_beginning_of_what_was_put(
    tmp_path: Path, steps: list[tuple[int, State]], cut: int
):
    path = tmp_path / "record"
    path.unlink(missing_ok=True)
    record = Record(path)
    expected: list[dict[str, State]] = [{}]
    for number, state in steps:
        record.put(held(number, state))
        expected.append({**expected[-1], f"c{number}": state})
    if path.exists():
        raw = path.read_bytes()
        path.write_bytes(raw[: max(0, len(raw) - cut)])
    assert {name: each.state for name, each in Record(path).held.items()} in expected


def test_what_was_told_as_refused_is_remembered_and_what_is_forgotten_counts_as_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.supply.record.MAX_REFUSED", 2)
    record = Record(tmp_path / "record")
    early, late = command(7, not_before=NOW), command(8, not_before=NOW + 2)
    assert not record.was_refused(early)
    for number in (1, 2, 3):
        record.put(Refused(f"c{number}", NOW + number - 1))
    for each in (record, Record(tmp_path / "record")):
        assert [each.was_refused(command(number, not_before=NOW + 9)) for number in (1, 2, 3)] == [False, True, True]
        assert (each.was_refused(early), each.was_refused(late)) == (True, False)
    record.tidy(NOW + (KEPT_S + 1) * SECOND)
    record.put(held(5, State.VERIFIED))
    record.tidy(NOW + (3 * KEPT_S) * SECOND)  # written anew
    again = Record(tmp_path / "record")
    assert again.was_refused(late)
    assert not again.was_refused(command(9, not_before=NOW + 3))
