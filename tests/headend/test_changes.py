from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from headend.changes import Change, Feed, Position, TooOldError, cursor_position, cursor_text
from metering.batch import Batch
from metering.model import Block, Column, Event, Kind, Layout, Skipped, Source
from storage.codec import pack, unpack
from storage.log import Log, LogLimits

LAYOUT = Layout(
    Kind.REGISTER,
    Source.POLL,
    900,
    (Column("1-0:1.8.0*255", "kWh", 0, "int"), Column("1-0:2.8.0*255", "kWh", 0, "int")),
)


def batch(at: int, value: int, revision: int = 0) -> bytes:
    block = Block(LAYOUT, "m", at, at + 5, (value, 2**63), at, (), revision)
    return pack(Batch(at, [block], [Event("m", at, "3.26.0.85", "power-off", at)]))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "log")
    yield opened
    opened.close()


def changes(feed: Feed, position: Position) -> list[Change]:
    return [each for each in feed.changes(position) if isinstance(each, Change)]


def test_all_that_is_appended_comes_in_its_order(log: Log) -> None:
    log.append_now([batch(1, 10), batch(2, 20)])
    feed = Feed(log, unpack)
    found = changes(feed, feed.start(""))
    assert [type(each.item).__name__ for each in found] == ["Reading", "Reading", "Event"] * 2


def test_every_change_can_be_gone_on_from(log: Log) -> None:
    log.append_now([batch(1, 10), batch(2, 20), batch(3, 30)])
    feed = Feed(log, unpack)
    found = changes(feed, feed.start(""))
    for index, each in enumerate(found):
        position = feed.start(cursor_text(log.epoch, each.after))
        assert [rest.id for rest in changes(feed, position)] == [rest.id for rest in found[index + 1 :]]


def test_a_change_keeps_its_id_when_it_comes_again_and_a_correction_has_its_own(log: Log) -> None:
    log.append_now([batch(1, 10), batch(1, 10), batch(1, 11), batch(1, 10, revision=1)])
    feed = Feed(log, unpack)
    ids = [each.id for each in changes(feed, feed.start(""))][::3]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_what_was_skipped_upstream_or_cannot_be_read_is_a_gap(log: Log) -> None:
    log.append_now([pack(Batch(1, skipped=[Skipped(5, 9, "evicted", {"m": 3})])), b"\xff no batch"])
    feed = Feed(log, unpack)
    items = [each.item for each in changes(feed, feed.start(""))]
    assert items == [Skipped(5, 9, "evicted", {"m": 3}), Skipped(log.next_seq - 1, log.next_seq - 1, "quarantined")]


@pytest.mark.parametrize("text", ["x", "####", "", cursor_text("e", Position(-1, 0))])
def test_what_is_no_cursor_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        cursor_position(text, "e")


def test_a_cursor_of_another_log_or_from_the_future_is_too_old(log: Log) -> None:
    feed = Feed(log, unpack)
    with pytest.raises(TooOldError, match="replaced"):
        feed.start(cursor_text("other", Position(0, 0)))
    with pytest.raises(TooOldError, match="ahead"):
        feed.start(cursor_text(log.epoch, Position(log.next_seq + 1, 0)))


def test_a_cursor_at_the_end_waits_for_what_comes(log: Log) -> None:
    log.append_now([batch(1, 10)])
    feed = Feed(log, unpack)
    after = cursor_text(log.epoch, Position(log.next_seq, 0))
    assert changes(feed, feed.start(after)) == []
    log.append_now([batch(2, 20)])
    assert len(changes(feed, feed.start(after))) == 3


def fill(log: Log) -> None:
    for at in range(600):
        log.append_now([pack(Batch(at, events=[Event("m", at, "1", "x", 0, {"pad": token_hex(200)})]))])
    log.trim()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "small", LogLimits(max_bytes=70_000, segment_bytes=8_000))
    yield opened
    opened.close()


def test_what_was_evicted_unread_is_a_gap(small: Log) -> None:
    small.cursor("store", "first")
    start = small.first_seq
    fill(small)
    assert small.first_seq > start
    feed = Feed(small, unpack)
    for position in (feed.start(""), feed.start(cursor_text(small.epoch, Position(start, 0)))):
        found = changes(feed, position)
        assert isinstance(found[0].item, Skipped)
        assert found[0].item.reason == "evicted"
        assert isinstance(found[-1].item, Event)


def test_what_was_read_and_let_go_is_too_old(small: Log) -> None:
    reader = small.cursor("store", "first")
    start = small.first_seq
    for _ in range(20):
        small.append_now([pack(Batch(0, events=[Event("m", 0, "1", "x", 0, {"pad": token_hex(4000)})]))])
        reader.move(small.next_seq)
    small.trim()
    assert small.first_seq > start
    feed = Feed(small, unpack)
    with pytest.raises(TooOldError, match="older"):
        feed.start(cursor_text(small.epoch, Position(start, 0)))
    assert feed.start("").seq == small.first_seq
