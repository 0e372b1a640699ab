"""A gateway's answers to its head-end about meter keys: reservations, floors, wrapped keys, release."""

from pathlib import Path

import pytest

from gateway import counters as counters_module
from gateway.counters import BLOCK, LARGEST_RAISE, Counter
from gateway.key_desk import KeyDesk
from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metering.errors import AuthError, HaltedError
from metering.events import EventType
from metering.wire import Control
from trust.transport import Bound, MeterSecrets, public_key, wrap

GUEK, OTHER = bytes(range(16)), bytes(range(16, 32))
TITLE = b"MTG00001"


class Book:
    """What was journalled and raised."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str, dict[str, str]]] = []
        self.events: list[str] = []

    def journal(self, kind: str, name: str, state: str, **detail: str) -> None:
        self.entries.append((kind, name, state, detail))

    def raise_event(self, kind: EventType, device: str = "", **detail: str) -> None:
        self.events.append(f"{kind.name} {device} {detail.get('reason', '')}".strip())

    def states(self, kind: str) -> list[str]:
        return [state for each, _, state, _ in self.entries if each == kind]


class Edge:
    """One gateway's key store and desk in a folder."""

    def __init__(self, folder: Path, epoch: str = "e1") -> None:
        folder.mkdir(exist_ok=True)
        master = folder.parent / "master.key"
        if not master.exists():
            master.write_text(make_master())
        self.keys = KeyStore(folder, f"file:{master}", epoch=epoch, headend=True)
        self.book = Book()
        self.desk = KeyDesk("gw", self.keys, self.book, lambda: "boot")

    def counter(self, meter: str = "m1") -> Counter:
        return self.keys.counter_of(meter, TITLE)

    def floors(self, first: int = 1, last: int = 1, **floors: int) -> None:
        self.desk.on_counters(Control(f"c{first}", "counters", boot="boot", first=first, last=last, floors=floors))

    def bundle(self, version: int, lease: int, key: bytes = GUEK, *, device: str = "m1", floor: int = 0) -> Control:
        to = public_key(self.keys.transport_key())
        body = wrap(MeterSecrets({"encryption": key}, 0), Bound(device, "gw", version), to)
        return Control("k", "keys", device="m1", version=version, lease=lease, body=body, floors={"m1": floor})


@pytest.fixture
async def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path / "keys")
    edge.keys.put("m1", {"encryption": GUEK}, counter=0)
    return edge


async def test_each_reservation_is_told_under_a_name_without_secrets(edge: Edge):
    edge.desk.begin()
    edge.floors()
    edge.counter().next()
    kind, name, until, detail = edge.book.entries[-1]
    assert (kind, until, detail) == ("counter", str(BLOCK), {"device": "m1"})
    assert name.split()[0] == "m1"
    assert name.endswith(TITLE.hex())
    assert GUEK.hex() not in name
    assert edge.book.states("transport-key") == [public_key(edge.keys.transport_key()).hex()]


async def test_reservations_are_told_once_more_at_each_start(edge: Edge, tmp_path: Path):
    edge.counter().next()
    edge.keys.close()
    again = Edge(tmp_path / "keys")
    again.desk.begin()
    assert again.book.states("counter") == [str(BLOCK)]


async def test_after_a_start_no_counter_is_used_before_the_headend_spoke(edge: Edge):
    edge.counter()
    assert edge.keys.held("m1") == ""
    edge.desk.begin()
    assert "waits after the start" in edge.keys.held("m1")
    with pytest.raises(HaltedError, match="waits after the start"):
        edge.counter().raise_to(3)
    edge.floors()
    assert edge.keys.held("m1") == ""
    assert edge.counter().next() == 0


async def test_a_word_for_another_run_is_not_taken(edge: Edge):
    edge.counter()
    edge.desk.begin()
    edge.desk.on_counters(Control("c", "counters", boot="earlier", first=1, last=1))
    assert edge.keys.held("m1")
    assert edge.book.states("floors") == []


async def test_of_several_parts_all_are_waited_for(edge: Edge):
    edge.counter()
    edge.desk.begin()
    edge.floors(2, 2)
    assert edge.keys.held("m1")
    edge.floors(1, 2)
    assert not edge.keys.held("m1")


async def test_without_a_headend_in_reach_the_meter_is_asked_and_a_block_is_left_out(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
):
    edge.counter().next()
    monkeypatch.setattr(counters_module, "START_HOLD_S", 0.0)
    edge.desk.begin()
    counter = edge.counter()
    assert edge.keys.held("m1") == ""
    assert not counter.known
    counter.raise_to(700)
    assert counter.next() == 700 + BLOCK


async def test_where_the_meter_tells_nothing_either_a_distance_is_left_out(edge: Edge, monkeypatch: pytest.MonkeyPatch):
    edge.counter().next()
    monkeypatch.setattr(counters_module, "START_HOLD_S", 0.0)
    edge.desk.begin()
    counter = edge.counter()
    assert counter.skip()
    assert counter.next() == BLOCK + LARGEST_RAISE


async def test_a_floor_above_ours_shows_an_old_journal_and_halts_until_both_were_heard(edge: Edge, tmp_path: Path):
    edge.counter().next()
    edge.desk.begin()
    edge.floors(m1=5 * BLOCK)
    assert edge.book.events == ["counters-halted m1 the head-end knows of later values"]
    assert not edge.counter().known
    assert not edge.counter().skip()
    edge.keys.close()
    again = Edge(tmp_path / "keys")  # a restart makes nothing better
    counter = again.counter()
    assert counter.halted
    counter.raise_to(4)
    assert counter.next() == 6 * BLOCK


async def test_a_log_that_was_put_back_halts_within_a_block_until_the_headend_speaks_again(edge: Edge, tmp_path: Path):
    counter = edge.counter()
    edge.desk.begin()
    edge.floors(m1=0)
    assert [counter.next(), counter.next()] == [0, 1]
    edge.desk.put_back("e2")
    with pytest.raises(HaltedError):
        counter.next()
    assert "halted until the head-end" in edge.keys.held("m1")
    with pytest.raises(HaltedError):
        counter.raise_to(40)
    edge.floors(m1=3 * BLOCK)
    assert edge.keys.held("m1") == ""
    counter.raise_to(2)
    assert counter.next() == 4 * BLOCK
    edge.keys.close()
    assert Edge(tmp_path / "keys", epoch="e2").counter().known


@pytest.mark.parametrize("floor", [counters_module.CEILING + 1, counters_module.LARGEST_FLOOR + 2 * BLOCK])
async def test_a_headend_cannot_use_a_counter_up(edge: Edge, floor: int):
    edge.counter().next()
    edge.desk.begin()
    edge.floors(m1=floor)
    with pytest.raises(AuthError, match="not believed"):
        edge.counter().raise_to(2)


async def test_a_person_may_say_where_a_halted_counter_goes_on(edge: Edge):
    edge.counter().next()
    edge.desk.begin()
    edge.desk.put_back("e2")
    edge.keys.put("m1", {}, counter=90_000)
    assert edge.keys.held("m1") != ""  # of the counter as the driver has it still
    assert edge.counter().next() == 90_000
    assert edge.keys.held("m1") == ""


async def test_wrapped_keys_are_taken_and_begin_above_the_floor_and_the_meters_own(tmp_path: Path):
    edge = Edge(tmp_path / "keys")
    edge.desk.begin()
    edge.floors()
    assert edge.keys.held("m1") == "its keys are not here"
    edge.desk.on_keys(edge.bundle(1, 1, floor=1000))
    assert edge.book.states("keys") == ["taken"]
    assert edge.keys.keys_of("m1").encryption == GUEK
    counter = edge.counter()
    assert not counter.known
    counter.raise_to(900)
    assert counter.next() == 1000 + BLOCK


async def test_the_same_keys_asked_for_again_change_nothing(edge: Edge):
    edge.desk.begin()
    edge.floors()
    for _ in range(2):
        edge.desk.on_keys(edge.bundle(1, 1, OTHER))
    assert edge.book.states("keys") == ["taken", "taken"]


@pytest.mark.parametrize(
    ("version", "lease", "device", "why"),
    [(1, 3, "m1", "older than 2"), (2, 1, "m1", "lease 2 was here"), (3, 3, "m2", "do not open")],
    ids=["older version", "older lease", "for another device"],
)
async def test_what_is_older_or_foreign_is_refused_and_told(
    edge: Edge, version: int, lease: int, device: str, why: str
):
    edge.desk.on_keys(edge.bundle(2, 2, OTHER))
    edge.desk.on_keys(edge.bundle(version, lease, device=device))
    assert edge.book.states("keys") == ["taken", "refused"]
    assert why in edge.book.entries[-1][3]["reason"]
    assert why in edge.book.events[-1]
    assert edge.keys.keys_of("m1").encryption == OTHER


async def test_released_keys_are_gone_at_once_and_do_not_come_back_by_themselves(edge: Edge):
    edge.desk.begin()
    edge.floors()
    edge.desk.on_keys(edge.bundle(1, 1))
    counter = edge.counter()
    counter.raise_to(1)
    counter.next()
    edge.desk.on_release(Control("r", "release", device="m1", lease=1))
    assert edge.book.entries[-1][2:] == ("released", {"lease": "1", "version": "0", "reserved": str(2 * BLOCK + 1)})
    with pytest.raises(HaltedError):
        counter.next()
    assert edge.keys.held("m1") == "its keys are not here"
    edge.desk.on_keys(edge.bundle(1, 1))
    assert edge.book.states("keys")[-1] == "refused"
    edge.desk.on_keys(edge.bundle(1, 2))
    assert edge.book.states("keys")[-1] == "taken"
    edge.desk.on_release(Control("r", "release", device="m1", lease=1))  # late, of the earlier time
    assert edge.keys.held("m1") == ""


async def test_a_release_that_overtakes_the_keys_keeps_them_out(tmp_path: Path):
    edge = Edge(tmp_path / "keys")
    edge.desk.on_release(Control("r", "release", device="m1", lease=1))
    edge.desk.on_keys(edge.bundle(1, 1))
    assert edge.book.states("keys") == ["released", "refused"]


async def test_the_transport_key_outlives_a_new_master_key(edge: Edge, tmp_path: Path):
    before = edge.keys.transport_key()
    (tmp_path / "new.key").write_text(make_master())
    edge.keys.rotate(f"file:{tmp_path / 'new.key'}")
    assert KeyStore(tmp_path / "keys", f"file:{tmp_path / 'new.key'}").transport_key() == before
    assert [each.meter for each in edge.keys.list()] == ["m1"]
    assert before.hex().encode() not in (tmp_path / "keys" / "keys.json").read_bytes()
