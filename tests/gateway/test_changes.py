"""What differs between two configurations: buses that open and close, meters that are kept, buses to be tried."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.changes import Changes, differences
from gateway.settings import GatewayFile

ONE = {"id": "one", "kind": "tcp", "host": "10.0.0.1"}
TWO = {"id": "two", "kind": "tcp", "host": "10.0.0.2"}
M1 = {"id": "m1", "bus": "one", "unit": 1, "profile": "eastron_sdm120", "point": "p1", "region": "r"}
M2 = {**M1, "id": "m2", "bus": "two", "point": "p2"}
M3 = {**M2, "id": "m3", "unit": 2, "point": "p3"}


def file(*meters: dict[str, Any], buses: Sequence[dict[str, Any]] = (ONE, TWO), **more: object) -> GatewayFile:
    tables = {"gateway": {"id": "g1", "data": "."}, "bus": list(buses), "meter": list(meters), **more}
    return GatewayFile.model_validate(tables)


def changes(opened: str = "", closed: str = "", kept: str = "", touched: str = "") -> Changes:
    return Changes(*(frozenset(names.split()) for names in (opened, closed, kept, touched)))


OLD = file(M1, M2)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (OLD, changes(kept="m1 m2")),
        (file(M2, M1, buses=(TWO, ONE)), changes(kept="m1 m2")),
        (file(M1, M2, M3), changes(kept="m1 m2", touched="two")),
        (file(M1), changes(kept="m1", touched="two")),
        (file(M1, {**M2, "unit": 9}), changes(kept="m1", touched="two")),
        (file(M1, {**M2, "bus": "one", "unit": 9}), changes(kept="m1", touched="one two")),
        (file(M1, {**M2, "removed": "2026-01-01T00:00:00Z"}), changes(kept="m1", touched="two")),
        (file(M1, buses=(ONE,)), changes(closed="two", kept="m1")),
        (
            file(M1, M2, buses=(ONE, {**TWO, "host": "10.0.0.3"})),
            changes(opened="two", closed="two", kept="m1", touched="two"),
        ),
        (
            file(M1, {**M2, "bus": "three"}, buses=(ONE, {**TWO, "id": "three"})),
            changes(opened="three", closed="two", kept="m1"),
        ),
        (file(M1, M2, schedule={"registers": "30s"}), changes(touched="one two")),
    ],
    ids=[
        "nothing",
        "another order",
        "a new meter",
        "a meter less",
        "another unit",
        "a meter that moved",
        "a meter marked removed",
        "a bus less",
        "another wire",
        "another name of a bus",
        "another schedule for all",
    ],
)
def test_each_difference_touches_what_it_must_and_no_more(new: GatewayFile, expected: Changes) -> None:
    assert differences(OLD, new) == expected


def test_the_way_back_is_the_way_there_turned_round() -> None:
    new = file(M1, {**M2, "bus": "three"}, buses=(ONE, {**TWO, "id": "three"}))
    there, back = differences(OLD, new), differences(new, OLD)
    assert (back.opened, back.closed, back.kept) == (there.closed, there.opened, there.kept)
