"""The audit in both databases: appended with the decision that it tells; whatever is done to it later is found."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.audit.chain import GENESIS, Entry, Head, Link, Trail, append, end
from headend.audit.heads import HeadsFile, open_head, read_heads, sign_head
from headend.audit.spool import MAX_BYTES, Spool
from headend.audit.verify import verify
from headend.state.store import State
from headend.state.tables import audit, tokens
from metering.errors import StorageError
from trust.keys import SigningKey
from trust.signatures import BadSignatureError


def entry(number: int) -> Entry:
    return Entry(number, "token:ab", "command-requested", f"c{number}", "js/nj", {"number": number, "text": "Müller"})


def filled(state: State, count: int = 5) -> Trail:
    trail = Trail(state)
    trail.write(*(entry(number) for number in range(count)))
    return trail


def said(trail: Trail, *anchors: Head) -> list[tuple[int, str]]:
    return [tuple(each) for each in verify(trail.all(), anchors).findings]


def test_what_was_appended_is_whole(state: State):
    trail = filled(state)
    assert [link.seq for link in trail.all()] == [1, 2, 3, 4, 5]
    assert verify(trail.all(), [trail.head()]) == (5, 1, [])


def test_no_audit_no_decision(state: State):
    def decide(connection: sa.Connection) -> None:
        values = {"id": "12345678", "name": "x", "person": "x", "hash": b"", "scopes": "[]", "regions": "[]"}
        values |= {"created_at": 0}
        connection.execute(sa.insert(tokens).values(values))
        append(connection, [Entry(0, "a", "k", "s", "", {"body": "x" * 300_000})])

    with pytest.raises(ValueError, match="the limit"):
        state.write(decide)
    assert state.read(lambda connection: connection.execute(sa.select(tokens)).all()) == []
    assert state.read(end) == Head(0, GENESIS.hex())


@pytest.mark.parametrize(
    "statement",
    [sa.update(audit).values(actor="nobody"), sa.delete(audit).where(audit.c.seq == 5)],
    ids=["change", "remove"],
)
def test_the_database_itself_refuses_to_change_it(state: State, statement: sa.Executable):
    trail = filled(state)
    with pytest.raises(StorageError, match="append-only"):
        state.write(lambda connection: connection.execute(statement))
    assert said(trail) == []


def unguarded(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        for verb in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
    else:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")


def by_hand(*statements: sa.Executable) -> Callable[[sa.Connection], None]:
    def edit(connection: sa.Connection) -> None:
        unguarded(connection)
        for each in statements:
            connection.execute(each)

    return edit


def test_a_changed_entry_is_found(state: State):
    trail = filled(state)
    state.write(by_hand(sa.update(audit).where(audit.c.seq == 3).values(actor="token:zz")))
    assert said(trail) == [(3, "was changed: its content has another hash")]


def test_a_removed_entry_is_found(state: State):
    trail = filled(state)
    state.write(by_hand(sa.delete(audit).where(audit.c.seq == 3)))
    assert (4, "entries 3 to 3 are missing") in said(trail)


def test_an_end_that_was_taken_away_is_found_by_a_head_that_was_kept_elsewhere(state: State):
    trail = filled(state)
    head = trail.head()
    state.write(by_hand(sa.delete(audit).where(audit.c.seq > 3)))
    assert said(trail) == []
    assert said(trail, head) == [(5, "cut off: a signed head reaches to 5, the audit ends at 3")]


def test_a_history_that_was_made_anew_is_found_by_a_head_that_was_kept_elsewhere(state: State):
    trail = filled(state)
    head = trail.head()
    state.write(by_hand(sa.delete(audit)))
    trail.write(*(entry(number + 10) for number in range(5)))
    assert said(trail) == []
    assert said(trail, head) == [(5, "the signed head of this entry has another hash: rewritten since")]


def test_two_histories_are_found_by_their_heads(state: State):
    trail = filled(state)
    found = said(trail, trail.head(), Head(5, "00" * 32))
    assert found == [(5, "two signed heads differ here: one of two histories was told")]


def test_many_append_at_once_and_it_is_one_chain(state: State):
    def work(number: int) -> None:
        for each in range(5):
            Trail(state).write(entry(number * 10 + each))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(Trail(state).all(), [Trail(state).head()]) == (20, 1, [])


@settings(deadline=None)
@given(st.data())
def test_any_change_of_any_field_is_found(data: st.DataObject):
    links: list[Link] = []
    prev = GENESIS
    for seq in range(1, 6):
        made = Link(seq, seq, "a", "k", "s", "r", "{}", prev, b"")
        links.append(made._replace(hash=made.computed()))
        prev = links[-1].hash
    at = data.draw(st.integers(0, 4))
    name = data.draw(st.sampled_from(Link._fields))
    was = getattr(links[at], name)
    kinds = {bytes: st.binary(min_size=32, max_size=32), int: st.integers(0, 2**62), str: st.text(max_size=9)}
    value = data.draw(kinds[type(was)].filter(lambda each: each != was))
    head = Head(5, links[-1].hash.hex())
    links[at] = links[at]._replace(**{name: value})
    assert verify(links, [head]).findings


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_head_is_known_by_its_key_alone(tmp_path: Path):
    key, other = SigningKey.generate(), SigningKey.generate()
    signed = sign_head(Head(7, "ab" * 32), 123, key)
    assert open_head(signed, key.public).head == Head(7, "ab" * 32)
    with pytest.raises(BadSignatureError):
        open_head(sign_head(Head(7, "ab" * 32), 123, other), key.public)
    file = HeadsFile(tmp_path / "heads.jsonl")
    file.add(signed)
    file.add(signed)
    with (tmp_path / "heads.jsonl").open("ab") as torn:
        torn.write(signed[:50])
    assert list(file.read()) == [signed, signed]
    assert list(read_heads(tmp_path / "none")) == []


# --- the spool --------------------------------------------------------------------------------------------------------


def test_what_waited_joins_the_chain_in_order(state: State, tmp_path: Path):
    spool, trail = Spool(tmp_path / "spool.jsonl"), Trail(state)
    for number in range(3):
        spool.put(entry(number))
    with (tmp_path / "spool.jsonl").open("ab") as torn:
        torn.write(b'{"crc":1,"entry":{"at"')
    assert Spool(tmp_path / "spool.jsonl").drain(trail) == 3
    assert [msgspec.json.decode(link.body)["number"] for link in trail.all()] == [0, 1, 2]
    assert spool.waiting() == []
    assert spool.drain(trail) == 0


def test_the_spool_is_bounded(tmp_path: Path):
    path = tmp_path / "spool.jsonl"
    path.write_bytes(b" " * MAX_BYTES)
    with pytest.raises(StorageError, match="full"):
        Spool(path).put(entry(1))
