"""Two gateways never hold a device's keys together, whatever is lost, late, doubled or in another order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headend import key_leases
from headend.key_leases import TABLE, Answer, Lease

GATEWAYS = ("g1", "g2", "g3")


class Gateway:
    """What a gateway does (`gateway.key_desk.KeyDesk`), without keys."""

    def __init__(self) -> None:
        self.holds = False
        self.lease = 0
        self.reserved = 0

    def offered(self, number: int) -> Answer:
        if number < self.lease or (number == self.lease and not self.holds):
            return "refused"
        self.lease, self.holds = number, True
        return "taken"

    def released(self, number: int) -> bool:
        if self.lease > number:
            return False
        self.lease, self.holds = number, False
        return True


class Fleet(RuleBasedStateMachine):
    """One device, three gateways, and messages that arrive when and as often as they like."""

    @initialize()
    def begin(self) -> None:
        self.lease = Lease("m1")
        self.wanted = "g1"
        self.versions = dict.fromkeys(GATEWAYS, 0)
        self.gateways = {name: Gateway() for name in GATEWAYS}
        self.down: list[tuple[str, str, int]] = []
        self.up: list[tuple[str, Answer, int, int]] = []

    @rule(gateway=st.sampled_from(GATEWAYS))
    def assign(self, gateway: str) -> None:
        self.wanted = gateway

    @rule(gateway=st.sampled_from(GATEWAYS))
    def wrap(self, gateway: str) -> None:
        self.versions[gateway] += 1

    @rule()
    def advance(self) -> None:
        lease, version = self.lease, self.versions[self.wanted]
        if lease.state == "free" and version:
            self.lease = key_leases.offer(lease, self.wanted, version, 0)
        elif lease.state in {"offered", "held", "renewing"} and lease.holder != self.wanted:
            self.lease = key_leases.recall(lease, 0)
        elif lease.state == "held" and version > lease.version:
            self.lease = key_leases.offer(lease, self.wanted, version, 0)

    @precondition(lambda self: self.lease.next_at is not None)
    @rule()
    def ask(self) -> None:
        kind = "release" if self.lease.state == "releasing" else "keys"
        self.down.append((self.lease.holder, kind, self.lease.number))

    @precondition(lambda self: self.down)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, *, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.down) - 1))
        name, kind, number = self.down[place] if again else self.down.pop(place)
        gateway = self.gateways[name]
        if kind == "keys":
            self.up.append((name, gateway.offered(number), number, gateway.reserved))
        elif gateway.released(number):
            self.up.append((name, "released", number, gateway.reserved))

    @precondition(lambda self: self.up)
    @rule(data=st.data(), again=st.booleans())
    def answer(self, data: st.DataObject, *, again: bool) -> None:
        place = data.draw(st.integers(0, len(self.up) - 1))
        name, answer, number, reserved = self.up[place] if again else self.up.pop(place)
        self.lease = key_leases.answered(self.lease, name, number, answer, reserved, 0)

    @rule(name=st.sampled_from(GATEWAYS))
    def use(self, name: str) -> None:
        gateway = self.gateways[name]
        if gateway.holds:
            gateway.reserved = max(gateway.reserved, self.lease.floor) + key_leases.BLOCK

    @invariant()
    def never_two_holders(self) -> None:
        holding = {name for name, gateway in self.gateways.items() if gateway.holds}
        assert len(holding) <= 1
        assert holding <= self.lease.holders

    @invariant()
    def nothing_is_owed_by_nobody(self) -> None:
        assert (self.lease.next_at is not None) == (self.lease.state in {"offered", "renewing", "releasing"})
        assert bool(self.lease.holder) == (self.lease.state != "free")

    @invariant()
    def a_free_lease_knows_all_reservations(self) -> None:
        if self.lease.state == "free":
            assert self.lease.floor >= max(gateway.reserved for gateway in self.gateways.values())


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_each_state_is_left_and_reached() -> None:
    states = {state for state, _ in TABLE}
    assert states == set(TABLE.values())


def test_keys_that_are_at_another_gateway_are_not_offered() -> None:
    held = Lease("m1", "held", "g1", 3)
    with pytest.raises(ValueError, match="are at g1"):
        key_leases.offer(held, "g2", 1, 0)


def test_a_person_can_only_force_what_was_asked_for() -> None:
    with pytest.raises(ValueError, match="force is not possible"):
        key_leases.forced(Lease("m1", "held", "g1", 3))
    assert key_leases.forced(Lease("m1", "releasing", "g1", 3, floor=7)).holders == frozenset()


def test_keys_that_nobody_leased_are_held_by_whoever_counts_with_them() -> None:
    assert key_leases.counted(Lease("m1"), "g1", 256) == Lease("m1", "held", "g1", floor=256)
    assert key_leases.counted(Lease("m1", number=4), "g1", 256) == Lease("m1", number=4, floor=256)
