"""Commands, approvals, crashes and meters in any order: what supply control at the gateway never does, whatever comes.

Each rule is something that happens; the invariants are judged when an order leaves and after every rule.
"""

import shutil

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from gateway.supply.executor import Step
from metering.model import SECOND
from metering.supply import RESTORING, WITHHOLDING, Action
from metering.supply_states import FINAL, State
from tests.gateway.supply.commanded import FAULTS, Commanded
from tests.gateway.supply.judged import DEVICES, DOCUMENT, HOLDERS, KEYS, NEVER_CUT, heard_of
from tests.gateway.supply.sim_meter import SimMeter
from trust.document import Holder

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # it dies before its first step
A = Action
# What custodians change, and back again.
DOCUMENTS: list[dict[str, object]] = [
    {"never_cut": (NEVER_CUT, "MP-1")},
    {"approvers": (HOLDERS["anna"], HOLDERS["cleo"])},
    {"approvers": (HOLDERS["anna"], Holder("ben", str(KEYS["ben's new key"].public)), HOLDERS["cleo"])},
    {"k": 3},
    {"services": ()},
]
AS_IT_WAS = {name: getattr(DOCUMENT, name) for name in ("never_cut", "approvers", "k", "services")}
PLACES = [*(str(step) for step in Step), "before-put", "after-put"]


class Supply(Commanded):
    """Whatever may happen to a gateway that holds commands for three meters."""

    def teardown(self) -> None:
        try:
            self._all_is_well()
        finally:
            self.world.drop()
            self._patch.undo()
            shutil.rmtree(self.folder)

    # --- time, crashes, clocks ----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.05, 2.0, 10.0, 70.0]), asleep_s=st.sampled_from([0, 0, 0, 100, 900, 4000, 90_000]))
    def time_passes(self, seconds: float, asleep_s: int) -> None:
        self.world.time += asleep_s
        self.world.run(seconds)

    @rule(ticks=st.integers(0, 120), torn=st.booleans(), away_s=st.sampled_from([0.0, 1.0, 60.0]))
    def the_gateway_dies_at_an_await(self, ticks: int, torn: bool, away_s: float) -> None:  # noqa: FBT001 - drawn
        world = self.world
        world.ticks(ticks)
        world.torn = torn
        world.crash()
        world.time += away_s
        world.calm()

    @rule(place=st.sampled_from(PLACES), passes=st.integers(0, 2), seconds=st.sampled_from([1.0, 10.0]))
    def the_gateway_dies_at_a_step(self, place: str, passes: int, seconds: float) -> None:
        self.world.cut_at = (place, passes)
        self.world.run(seconds)
        self.world.cut_at = ("", 0)

    @rule(
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.LIMIT, A.RESTORE]),
        place=st.sampled_from(PLACES),
        passes=st.integers(0, 2),
    )
    def the_gateway_dies_in_mid_command(self, device: str, action: Action, place: str, passes: int) -> None:
        self.world.cut_at = (place, passes)
        self._order(device, action, limit=(1500, 60) if action is A.LIMIT else None)
        self.world.run(8.0)
        self.world.cut_at = ("", 0)

    @rule(seconds=st.sampled_from([-7200, -60, 45, 3700, 200_000]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.world.latest = max(self.world.latest, self.world.now())
        self.world.offset += seconds * SECOND
        self.offsets.append(self.world.offset)
        self.world.calm()

    # --- what is not as it should be ----------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["clock", "lockout", "dry run", "stranger", "no power", "silent", "fault"]),
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.DISCONNECT, A.LIMIT, A.RESTORE]),
        seconds=st.sampled_from([0.05, 2.0, 12.0]),
        fault=st.sampled_from(FAULTS),
    )
    def something_is_wrong_for_a_while(
        self, what: str, device: str, action: Action, seconds: float, fault: str
    ) -> None:
        world, meter = self.world, self.world.meters[device]
        world.trusted, world.lockout = what != "clock", "the key switch" if what == "lockout" else ""
        serial = meter.serial
        if what == "stranger":  # whatever was said to the other one has broken off
            meter.serial, meter.identity = "stranger", "serial:stranger"
        meter.power, meter.silent = what != "no power", 5 if what == "silent" else 0
        meter.faults.extend([fault] if what == "fault" else [])
        if what == "dry run":
            world.dry_run = True
            world.crash()
        self._order(device, action, limit=(1500, 60) if action is A.LIMIT else None)
        world.run(seconds)
        world.trusted, world.lockout, meter.power = True, "", True
        meter.serial, meter.identity = serial, f"serial:{serial}"
        if what == "dry run":
            world.dry_run = False
            world.crash()

    @rule(device=st.sampled_from(DEVICES), cause=st.sampled_from(["manual_reconnect", "manual_disconnect"]))
    def a_hand_moves_the_switch(self, device: str, cause: str) -> None:
        self.world.meters[device].by_hand(cause)

    @rule(
        change=st.sampled_from(DOCUMENTS),
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.DISCONNECT, A.LIMIT, A.RESTORE]),
        signers=st.sampled_from([("anna", "ben"), ("payments",)]),
        ticks=st.integers(0, 120),
        back=st.booleans(),
        waits=st.booleans(),
    )
    def the_trust_document_is_another_in_mid_command(
        self,
        change: dict[str, object],
        device: str,
        action: Action,
        signers: tuple[str, ...],
        ticks: int,
        *,
        back: bool,
        waits: bool,
    ) -> None:
        self._order(device, action, signers, go=not waits, limit=(1500, 60) if action is A.LIMIT else None)
        self.world.ticks(ticks)
        self.world.renew(**(AS_IT_WAS | change))
        if waits:
            self.world.let_go(self.messages[-1][0].id)
        self.world.run(12.0)
        if back:
            self.world.renew(**AS_IT_WAS)

    @rule(
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.LIMIT, A.RESTORE]),
        ticks=st.integers(0, 120),
    )
    def a_meter_is_exchanged_in_mid_command(self, device: str, action: Action, ticks: int) -> None:
        self._order(device, action, limit=(1500, 60) if action is A.LIMIT else None)
        self.world.ticks(ticks)
        self.world.exchange(device)
        self.world.run(12.0)

    @rule(device=st.sampled_from(DEVICES[:2]), ticks=st.integers(0, 120))
    def the_key_switch_is_turned_in_mid_command(self, device: str, ticks: int) -> None:
        self._order(device, A.DISCONNECT)
        self.world.ticks(ticks)
        self.world.lockout = "the key switch"
        self.world.run(2.0)
        self.world.lockout = ""

    # --- what is always so --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_was_wrong_with_any_order(self) -> None:
        if self.world.errors:
            raise self.world.errors[0]

    @invariant()
    def relay_and_record_agree_once_settled(self) -> None:
        for device, meter in self.world.meters.items():
            meter.settle()
            if not self._settled(device, meter):
                continue
            record = self.world.record
            if not meter.touched:
                assert (device in record.openings) == (not meter.output), device
                opener = record.held.get(meter.opened_by)  # None: its clock leapt, and it is forgotten
                if opener is not None:
                    assert opener.state is State.VERIFIED, (opener.command.action, opener.state)
            if meter.output and not any(held.state is State.ARMED for held in record.held.values()):
                meter.touched = meter.touched and device in record.openings
            kept = record.limits.get(device)
            if kept is not None and kept.until <= self.world.now():
                continue  # its end is on its way, and is read again until the meter says so
            assert (device in record.limits) == (meter.normal != meter.base), device
            assert (device in record.limits) == (device in record.limited), device

    def _settled(self, device: str, meter: SimMeter) -> bool:
        states = [held.state for held in self.world.record.held.values() if held.command.device == device]
        task = self.world.service._tasks.get(device)  # a limit's end has no state of its own
        at_it = task is not None and not task.done()
        return meter.late is None and not at_it and not {State.EXECUTING, State.UNKNOWN, State.ARMED} & set(states)

    @invariant()
    def nothing_that_gives_back_is_dropped(self) -> None:
        for held in self.world.record.held.values():
            if held.command.action in RESTORING:
                assert held.state not in {State.SUPERSEDED, State.CANCELLED, State.FAILED}, held.state
            if held.command.action in WITHHOLDING and held.command.point == NEVER_CUT:
                assert held.state is not State.VERIFIED or held.does == ""

    def _all_is_well(self) -> None:
        """Put everything right: then all comes to its end, and every limit is given back."""
        world = self.world
        world.trusted, world.lockout, world.dry_run = True, "", False
        for meter in world.meters.values():
            meter.power, meter.silent, meter.identity = True, 0, f"serial:{meter.serial}"
            meter.faults.clear()
        world.crash()
        world.run(70.0)
        world.time += 8000.0
        world.offset = max(self.offsets)
        world.run(140.0)
        for held in world.record.held.values():
            assert held.state in FINAL | {State.ARMED}, (held.command.id, held.state, held.why)
        assert world.record.limits == {}
        self.relay_and_record_agree_once_settled()
        self.nothing_was_wrong_with_any_order()
        heard = heard_of(world)
        for name, held in world.record.held.items():
            # What gives back is taken though it was told as refused before: its head-end makes it anew (DOMAIN 21).
            renewed = held.command.action in RESTORING and heard[name] is State.REFUSED_BY_GUARD
            assert heard[name] is held.state or renewed, (name, held.command.action, heard[name], held.state)


TestShort = Supply.TestCase
TestShort.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=[Phase.generate],  # always the same examples; `make soak` looks for the smallest
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.soak
class TestLong(Supply.TestCase):  # type: ignore[name-defined,misc]  # hypothesis makes this class as it runs
    settings = settings(
        max_examples=1_500,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
