"""Meter keys at the head-end over its state: what goes to which gateway, when, and what is known of it."""

from collections.abc import Mapping
from typing import Any

import pytest

from headend.audit.chain import Trail
from headend.key_floors import FloorTeller, Run
from headend.key_leases import BLOCK
from headend.key_office import KeyOffice
from headend.readings import BadRequestError, NotFoundError
from headend.state.assignments import Assignments
from headend.state.keys import KeyBook
from headend.state.registrar import Registrar
from headend.state.store import State
from headend.tokens import Grant
from metering.errors import LinkDownError
from metering.model import SECOND, Device, JournalEntry
from metering.wire import Control, decode

GRANT = Grant("t1", "custodian", frozenset({"admin"}), ("",))
KEY = "ab" * 32


class Centre:
    """The office with a clock that is set by hand, and what it sent."""

    def __init__(self, state: State) -> None:
        self.now = 1_000 * SECOND
        self.sent: list[tuple[str, Control]] = []
        self.runs: dict[str, Run] = {}
        self.progress = (10, 10)
        self.down = False
        self.book = KeyBook(state)
        floors = FloorTeller(self.book, self.publish, self.runs_now, lambda: self.progress, self.clock)
        self.office = KeyOffice(self.book, self.publish, floors, self.clock)
        Registrar(state).put_device(Device("m1", "1", "dlms_generic"))
        self.assignments = Assignments(state)
        self.assignments.assign("m1", "g1", 0)

    def clock(self) -> int:
        return self.now

    def runs_now(self) -> Mapping[str, Run]:
        return self.runs

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert not retain
        if self.down:
            raise LinkDownError("no broker")
        self.sent.append((topic.split("/")[2], decode(payload, Control)))

    async def step(self) -> list[tuple[str, Control]]:
        self.sent = []
        await self.office.step()
        return self.sent

    def say(self, gateway: str, kind: str, name: str, state: str, **detail: Any) -> None:  # noqa: ANN401 - as text
        entry = JournalEntry(self.now, kind, name, state, {key: str(value) for key, value in detail.items()})
        take = self.office.reserved if kind == "counter" else self.office.handlers()[kind]
        take([(gateway, entry)])


@pytest.fixture
def centre(state: State) -> Centre:
    return Centre(state)


def kinds(sent: list[tuple[str, Control]]) -> list[tuple[str, str, int]]:
    return [(gateway, control.kind, control.lease) for gateway, control in sent]


async def test_keys_go_to_the_gateway_of_their_device_until_it_answers(centre: Centre):
    assert await centre.step() == []
    centre.office.put(GRANT, "m1", "g1", 1, b"wrapped")
    ((gateway, control),) = await centre.step()
    assert (gateway, control.kind, control.body, control.version, control.lease) == ("g1", "keys", b"wrapped", 1, 1)
    assert control.floors == {"m1": BLOCK}
    assert await centre.step() == []
    centre.now += 11 * SECOND
    assert kinds(await centre.step()) == [("g1", "keys", 1)]
    centre.say("g1", "keys", "m1", "taken", lease=1, version=1)
    centre.now += 3600 * SECOND
    assert await centre.step() == []
    assert centre.office.view(GRANT, "m1").state == "held"


async def test_a_reassigned_meters_keys_wait_for_the_release_and_begin_above_the_last_reservation(centre: Centre):
    centre.office.put(GRANT, "m1", "g1", 1, b"one")
    await centre.step()
    centre.say("g1", "keys", "m1", "taken", lease=1, version=1)
    centre.say("g1", "counter", "m1 aa bb", "512", device="m1")
    centre.office.put(GRANT, "m1", "g2", 1, b"two")
    assert await centre.step() == []
    centre.assignments.assign("m1", "g2", 500)
    assert kinds(await centre.step()) == [("g1", "release", 1)]
    centre.now += 11 * SECOND
    assert kinds(await centre.step()) == [("g1", "release", 1)]
    centre.say("g2", "keys", "m1", "released", lease=1, reserved=0)  # not its to say
    centre.say("g1", "keys", "m1", "released", lease=1, reserved=768)
    ((gateway, control),) = await centre.step()
    assert (gateway, control.kind, control.lease, control.body) == ("g2", "keys", 2, b"two")
    assert control.floors == {"m1": 768 + BLOCK}


async def test_a_gateway_that_is_gone_is_vouched_for_by_a_person_and_that_is_audited(centre: Centre, state: State):
    centre.office.put(GRANT, "m1", "g1", 1, b"one")
    centre.office.put(GRANT, "m1", "g2", 1, b"two")
    await centre.step()
    with pytest.raises(BadRequestError, match="force is not possible"):
        centre.office.force(GRANT, "m1")
    centre.assignments.assign("m1", "g2", 500)
    await centre.step()
    assert centre.office.force(GRANT, "m1").state == "free"
    assert kinds(await centre.step()) == [("g2", "keys", 2)]
    assert [each.kind for each in Trail(state).all()] == ["keys-wrapped", "keys-wrapped", "keys-forced"]


async def test_keys_that_were_put_in_on_site_are_released_as_well(centre: Centre):
    centre.say("g1", "counter", "m1 aa bb", "256", device="m1")
    centre.office.put(GRANT, "m1", "g2", 1, b"two")
    centre.assignments.assign("m1", "g2", 500)
    assert kinds(await centre.step()) == [("g1", "release", 0)]


async def test_refused_keys_are_not_sent_again_until_others_come(centre: Centre):
    centre.office.put(GRANT, "m1", "g1", 1, b"one")
    await centre.step()
    centre.say("g1", "keys", "m1", "refused", lease=1, version=1, reason="do not open")
    assert kinds(await centre.step()) == [("g1", "release", 1)]
    centre.say("g1", "keys", "m1", "released", lease=1, reserved=0)
    assert await centre.step() == []
    assert centre.office.view(GRANT, "m1").refused == "do not open"
    centre.office.put(GRANT, "m1", "g1", 2, b"other")
    assert kinds(await centre.step()) == [("g1", "keys", 2)]


async def test_newer_keys_renew_the_lease_and_refused_ones_leave_it(centre: Centre):
    centre.office.put(GRANT, "m1", "g1", 1, b"one")
    await centre.step()
    centre.say("g1", "keys", "m1", "taken", lease=1, version=1)
    centre.office.put(GRANT, "m1", "g1", 2, b"two")
    assert kinds(await centre.step()) == [("g1", "keys", 2)]
    assert centre.office.view(GRANT, "m1").state == "renewing"
    centre.say("g1", "keys", "m1", "refused", lease=2, version=2, reason="damaged")
    assert centre.office.view(GRANT, "m1").state == "held"
    assert await centre.step() == []


def test_an_older_version_and_other_keys_of_the_same_are_refused(centre: Centre):
    centre.office.put(GRANT, "m1", "g1", 2, b"two")
    assert centre.office.put(GRANT, "m1", "g1", 2, b"two").wrapped_version == 2
    for version, body in ((1, b"one"), (2, b"other")):
        with pytest.raises(BadRequestError, match="are here already"):
            centre.office.put(GRANT, "m1", "g1", version, body)


def test_an_unknown_device_and_a_token_of_a_region_find_nothing(centre: Centre):
    with pytest.raises(NotFoundError):
        centre.office.view(GRANT, "m2")
    with pytest.raises(NotFoundError):
        centre.office.view(Grant("t2", "n", frozenset({"admin"}), ("js",)), "m1")


async def test_each_run_is_told_how_far_counters_were_reserved_once_all_before_it_was_read(centre: Centre):
    centre.say("g1", "counter", "m1 aa bb", "512", device="m1")
    centre.say("g1", "counter", "m1 aa bb", "256", device="m1")  # late: the highest stays
    centre.say("g2", "counter", "m1 cc dd", "768", device="m1")
    centre.runs = {"g1": Run("boot-1", "e1")}
    centre.progress = (10, 12)
    assert await centre.step() == []
    centre.progress = (12, 15)
    ((gateway, control),) = await centre.step()
    assert (gateway, control.boot, control.floors, control.first, control.last) == ("g1", "boot-1", {"m1": 768}, 1, 1)
    centre.now += 11 * SECOND
    ((_, control),) = await centre.step()  # no answer yet
    centre.say("g1", "floors", control.id, "heard")
    centre.now += 3600 * SECOND
    assert await centre.step() == []
    centre.runs = {"g1": Run("boot-1", "e2")}  # its log was put back
    centre.progress = (15, 15)
    assert [control.kind for _, control in await centre.step()] == ["counters"]


async def test_a_gateway_with_keys_and_no_counters_yet_hears_that_nothing_is_known(centre: Centre):
    centre.runs = {"g1": Run("b", "e"), "g3": Run("b", "e")}
    centre.say("g1", "transport-key", "g1", KEY)
    centre.say("g3", "transport-key", "g1", "cd" * 32)  # another's name
    assert [(gateway, control.floors) for gateway, control in await centre.step()] == [("g1", {})]
    assert centre.office.view(GRANT, "m1").transport_key == KEY


@pytest.mark.parametrize("text", ["", "-1", "1.5", "99999999999", "٣"])
def test_what_is_no_reservation_is_passed_over(centre: Centre, text: str) -> None:
    centre.say("g1", "counter", "m1 aa bb", text, device="m1")
    centre.say("g1", "transport-key", "g1", text)
    assert centre.book.floors("g1") == {}
    assert centre.book.transport("g1") is None


async def test_while_the_broker_is_down_nothing_counts_as_sent(centre: Centre):
    centre.office.put(GRANT, "m1", "g1", 1, b"one")
    centre.down = True
    with pytest.raises(LinkDownError):
        await centre.step()
    centre.down = False
    assert kinds(await centre.step()) == [("g1", "keys", 1)]
