"""The intake over a true log: what is stored, what is refused, and what receipts say."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headend.inbox.port import Delivery
from headend.intake import Intake
from headend.journal import Entries, JournalReader
from headend.kpi.collection import Collection
from headend.kpi.desk import CollectionDesk
from headend.ledger_file import LedgerFile
from headend.registry import MemoryRegistry
from headend.state.gaps import GapsQuery, SeqGap
from headend.state.held import HeldBack
from headend.state.store import State
from headend.strikes import STRIKES
from headend.tokens import Grant
from metering import wire
from metering.batch import Batch
from metering.errors import StorageError
from metering.model import SECOND, Block, Column, Event, JournalEntry, Kind, Layout, Skipped, Source
from metering.timing import now
from metering.wire import Status, Up
from storage.codec import is_quiet, origin_of, pack, unpack
from storage.embedded import EmbeddedStore
from storage.log import Log, Record
from storage.projection import Projection
from storage.quarantine import Quarantine

LAYOUT = Layout(Kind.INSTANTANEOUS, Source.POLL, 0, (Column("1-0:32.7.0*255", "V", 0, "int"),))


@dataclass
class Given:
    """A delivery of a test."""

    payload: bytes
    gateway: str = "g1"
    leaf: str = "up"
    deliveries: int = 1
    answers: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.answers.append("ack")

    async def nak(self, delay_s: float) -> None:
        del delay_s
        self.answers.append("nak")


class NoInbox:
    async def fetch(self, most: int) -> list[Delivery]:
        del most
        await asyncio.Event().wait()
        return []

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        raise NotImplementedError


def batch(device: str, value: int, at: int | None = None) -> bytes:
    return pack(Batch(now(), [Block(LAYOUT, device, at or now(), now(), [value])]))


class Centre:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        self.log = Log.open(self.folder / "log")
        self.quarantine = Quarantine(self.folder / "bad")
        ledger = LedgerFile(self.folder / "ledger", self.log)
        self.state = State.open(self.folder / "state.db")
        self.held = HeldBack(self.state)
        known, assigned = {"g1", "g2"}.__contains__, lambda g, d: d.startswith(g)
        self.intake = Intake(NoInbox(), self.log, ledger, self.quarantine, known, assigned, self.held)

    async def up(self, *records: bytes | Skipped, first: int = 1, epoch: str = "e", gateway: str = "g1") -> str:
        given = Given(wire.encode(Up(epoch, first, records)), gateway)
        await self.intake.take([given])
        return given.answers[0]

    def stored(self) -> list[Record]:
        return [item for item in self.log.read(1, 10_000) if isinstance(item, Record)]

    def alerts(self) -> list[Event]:
        return [event for item in self.stored() if not origin_of(item.payload) for event in unpack(item.payload).events]

    def told(self, gateway: str = "g1") -> tuple[int, list[tuple[int, int]]]:
        receipt = self.intake.receipt(gateway)
        assert receipt is not None
        return receipt.contiguous, list(receipt.held)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    yield made
    made.log.close()
    made.state.close()


async def test_records_are_stored_byte_for_byte_with_their_origin_and_told(centre: Centre):
    sent = [batch("g1-m", n) for n in range(3)]
    assert await centre.up(*sent, first=1) == "ack"
    assert await centre.up(batch("g1-m", 9), first=7) == "ack"
    assert centre.told() == (3, [(7, 7)])
    assert all(record.payload.endswith(raw) for record, raw in zip(centre.stored(), sent, strict=False))
    assert [(o.gateway, o.first) for r in centre.stored() if (o := origin_of(r.payload))] == [
        ("g1", n) for n in (1, 2, 3, 7)
    ]


async def test_what_comes_again_is_stored_once_even_within_one_group(centre: Centre):
    payload = wire.encode(Up("e", 1, [batch("g1-m", 1), batch("g1-m", 2)]))
    await centre.intake.take([Given(payload), Given(payload)])
    await centre.intake.take([Given(payload)])
    assert len(centre.stored()) == 2
    assert centre.intake.counts.duplicates == 4


async def test_the_same_seqs_of_a_new_epoch_are_new_records_and_operators_are_told(centre: Centre):
    await centre.up(batch("g1-m", 1))
    await centre.up(batch("g1-m", 2), epoch="f")
    assert [event.name for event in centre.alerts()] == ["gateway-log-replaced"]
    assert centre.told() == (1, [])


async def test_after_a_crash_the_ledger_is_read_from_the_log(centre: Centre):
    await centre.up(batch("g1-m", 1), Skipped(2, 9, "evicted"), batch("g1-m", 2))
    before = centre.intake.ledger.save()
    centre.log.close()
    centre.open()
    assert centre.intake.ledger.save() == before
    (centre.folder / "ledger").unlink()
    centre.log.close()
    centre.open()
    assert centre.intake.ledger.save() == before


async def test_readings_of_another_gateways_device_are_refused_with_an_alert_and_the_rest_is_kept(centre: Centre):
    blocks = [Block(LAYOUT, device, now(), now(), [1]) for device in ("g1-m", "g2-m")]
    await centre.up(pack(Batch(now(), blocks)))
    assert [block.device for block in unpack(centre.stored()[0].payload).blocks] == ["g1-m"]
    (event,) = centre.alerts()
    assert (event.device, event.name, event.detail) == ("gateway:g1", "readings-refused", {"device": "g2-m"})
    assert centre.intake.counts.refused_readings == 1
    assert centre.told() == (1, [])


async def test_readings_of_the_future_go_to_the_quarantine_and_old_rows_are_welcome(centre: Centre):
    blocks = [Block(LAYOUT, "g1-m", at, now(), [1]) for at in (1, now(), now() + 86400 * SECOND)]
    await centre.up(pack(Batch(now(), blocks)))
    assert len(unpack(centre.stored()[0].payload).blocks) == 2
    (heap,) = centre.held.heaps()
    assert (heap.gateway, heap.device, heap.blocks, heap.offset_to) == ("g1", "g1-m", 1, None)
    assert [event.name for event in centre.alerts()] == ["readings-from-future"]


async def test_a_record_for_whose_future_there_is_no_room_waits_in_its_gateways_log(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headend.state.held.MAX_OF_A_GATEWAY", 0)
    late = batch("g1-m", 1, now() + 86400 * SECOND)
    assert await centre.up(batch("g1-m", 1), late, batch("g1-m", 3)) == "nak"
    assert centre.told() == (1, [(3, 3)])
    assert centre.held.heaps() == []


async def test_a_record_that_is_no_batch_is_put_aside_after_some_deliveries_and_blocks_nobody(centre: Centre):
    for _ in range(STRIKES - 1):
        assert await centre.up(batch("g1-m", 1), b"\x01\xc1", batch("g1-m", 3)) == "nak"
        assert centre.told() == (1, [(3, 3)])
    assert await centre.up(batch("g1-m", 1), b"\x01\xc1", batch("g1-m", 3)) == "ack"
    assert centre.told() == (3, [])
    assert [item.payload for item in centre.quarantine.items()] == [b"\x01\xc1"]
    assert [event.name for event in centre.alerts()] == ["batch-quarantined"]


@pytest.mark.parametrize("payload", [bytes(2 << 20), b"\x01" + b"\x91" * 10_000], ids=["too long", "too deep"])
async def test_a_message_that_is_none_is_put_aside_in_the_end(centre: Centre, payload: bytes):
    for strike in range(STRIKES):
        given = Given(payload)
        await centre.intake.take([given, Given(wire.encode(Up("e", strike + 1, [batch("g1-m", 1)])))])
        assert centre.told() == (strike + 1, [])
    assert given.answers == ["ack"]
    assert centre.intake.counts.quarantined == 1


async def test_an_unknown_version_is_never_taken_for_stored_and_told(centre: Centre):
    await centre.intake.take([Given(b"\x07\x80")])
    assert [event.name for event in centre.alerts()] == ["version-refused"]
    assert centre.intake.receipt("g1") is None


async def test_a_gateway_that_nobody_knows_is_refused(centre: Centre):
    assert await centre.up(batch("g9-m", 1), gateway="g9") == "ack"
    assert centre.stored() == []
    assert centre.intake.counts.unknown_gateway == 1


async def test_what_was_evicted_or_cannot_be_read_is_shown_as_gaps_of_seqs(centre: Centre, tmp_path: Path):
    gone = Skipped(2, 5, "evicted", {"g1-m": 40}, 10, 90)
    for _ in range(STRIKES):
        await centre.up(batch("g1-m", 1), gone, b"\x01\xc1", batch("g1-m", 2))
    state, store = centre.state, EmbeddedStore(tmp_path / "readings.db")
    projection = Projection(centre.log, store, "store", centre.quarantine)
    registry = MemoryRegistry([], [], [])
    projection.on_stored = Collection(state, store, registry, None, ("head", centre.log.epoch)).stored
    while projection.step():
        pass
    desk = CollectionDesk(state, registry, lambda: [SeqGap("g1", "e", 90, 95, "")])
    query, everything = GapsQuery(0, 1, 9), Grant("t", "t", frozenset(), ("",))
    found, _ = desk.gaps(everything, query, ("seqs",), "")
    assert [(gap.gateway, gap.first_seq, gap.last_seq, gap.state, gap.reason, gap.readings) for gap in found] == [
        ("g1", 2, 5, "lost", "evicted", 40),
        ("g1", 6, 6, "lost", "quarantined", 0),
        ("g1", 90, 95, "open", "", 0),
    ]
    assert desk.gaps(Grant("t", "t", frozenset(), ("js",)), query, ("seqs",), "") == ([], "")
    pages, cursor = [], ""
    while True:
        page, cursor = desk.gaps(everything, GapsQuery(0, 1, 1), ("intervals", "seqs"), cursor)
        pages += page
        if not cursor:
            break
    assert pages == found
    store.close()


async def test_an_alert_that_the_log_did_not_take_is_in_it_once_it_takes_again(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headend.intake.REFUSED_PAUSE_S", 0.0)
    for boot in ("first", "second", "first"):  # the first answers the call, so that the second is told to leave
        centre.intake.statuses.take(Given(wire.encode(Status("g1", "e", boot)), leaf="status"))
    with monkeypatch.context() as full:

        def refuse(_payloads: object) -> None:
            raise StorageError("no space left", retry=True)

        full.setattr(centre.log, "append_now", refuse)
        assert await centre.up(batch("g1-m", 1)) == "nak"
    assert centre.alerts() == []
    assert await centre.up(batch("g1-m", 1)) == "ack"
    assert await centre.up(batch("g1-m", 2), first=2) == "ack"
    assert [event.name for event in centre.alerts()] == ["second-gateway-refused"]


async def test_records_without_a_journal_are_marked_so_that_no_journal_is_passed_over(centre: Centre):
    entry = JournalEntry(1, "supply", "c1", "done")
    foreign = [Block(LAYOUT, "g2-m", now(), now(), [1])]
    await centre.up(batch("g1-m", 1), pack(Batch(1, journal=(entry,))), pack(Batch(1, foreign, journal=(entry,))))
    found: list[JournalEntry] = []
    JournalReader(centre.log, {"supply": lambda entries: found.extend(each for _, each in entries)}).step()
    assert found == [entry, entry]
    assert [is_quiet(each.payload) for each in centre.stored() if origin_of(each.payload)] == [True, False, False]


async def test_reserved_counters_are_kept_before_the_receipt_and_without_that_there_is_none(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headend.intake.REFUSED_PAUSE_S", 0.0)
    found: list[tuple[str, str, int]] = []
    away = True

    def keep(entries: Entries) -> None:
        if away:
            raise StorageError("the database is away", retry=True)
        found.extend((gateway, entry.state, len(centre.stored())) for gateway, entry in entries)

    centre.intake.reserved = keep
    report = pack(Batch(1, journal=(JournalEntry(1, "counter", "g1-m a b", "512", {"device": "g1-m"}),)))
    assert await centre.up(report) == "nak"
    assert centre.stored() == []
    away = False
    assert await centre.up(report) == "ack"
    assert found == [("g1", "512", 0)]
