"""What the supply view says for histories of commands and of the meter's own words: what is known, not hoped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from headend.state.store import State as Database
from headend.supply.standing import relay_of
from headend.supply.views import MeterView, SupplyView
from metering.model import SECOND, Device, Installation
from metering.supply import Action, SupplyState
from metering.supply_states import LIMIT_GIVEN_BACK, Cause
from metering.timing import to_rfc3339
from tests.headend.supply.centre import CLERK, START, Centre

HOUR = 3600 * SECOND
CLOSED = '{"output":true,"control":1,"mode":1}'
OPEN = '{"output":false,"control":0,"mode":1}'
READY = '{"output":false,"control":2,"mode":1}'
STUCK = '{"output":true,"control":0,"mode":1}'
LIMITED = '{"output":true,"control":1,"mode":1,"limit_w":500}'
OTHER_LIMIT = '{"output":true,"control":1,"mode":1,"limit_w":9000}'
TRIP = "above the limit for 60 s it opens the supply; the customer closes it at the meter"
APPROVED_BACK = "a restore that one approver signs, or the payment service for what was opened for a debt"


class History:
    """Commands at one meter point, a minute apart, each told by its gateway."""

    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.names: list[str] = []

    async def send(self, action: Action, **changes: Any) -> str:  # noqa: ANN401 - any field
        """Request, approve and send a command until the gateway executes it."""
        self.centre.now += 60 * SECOND
        made = self.centre.request(action, "MP-1", key=f"k{len(self.names)}", **changes)
        name: str = made.commands[0].id
        self.names.append(name)
        if self.centre.state(name) == "awaiting-approval":
            self.centre.approve(name, "anna", "ben")
        await self.centre.step()
        self.centre.say(name, "accepted", Cause.GATEWAY_ACCEPTED)
        return name

    async def do(
        self, action: Action, end: str, cause: str, changes: dict[str, Any] | None = None, **told: str
    ) -> None:
        """Let a command come to an end, and the gateway tell it with what the meter said."""
        name = await self.send(action, **(changes or {}))
        if end != "refused-by-guard":
            self.centre.say(name, "executing", Cause.BEGAN)
        self.centre.say(name, end, cause, **told)

    @property
    def view(self) -> SupplyView:
        return self.centre.desk.supply(CLERK, "MP-1")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    database = Database.open(tmp_path / "state.db")
    yield History(Centre(database))
    database.close()


def exchange(centre: Centre, new: str | None) -> None:
    """Take the meter away from MP-1, and hang another one there."""
    model, gateway = "example_switched", "gw1"
    gone = Installation("MP-1", "mMP-1", "SMP-1", 0, centre.now - SECOND)
    centre.registrar.put_device(Device("mMP-1", "SMP-1", model, gateway), gone)
    if new is not None:
        hung = Installation("MP-1", new, "N1", centre.now - SECOND)
        centre.registrar.put_device(Device(new, "N1", model, gateway), hung)
    centre.registry.refresh()


VERIFIED = ("verified", Cause.AS_ASKED)
FAILED = ("failed", Cause.NOT_AS_ASKED)
REFUSED = ("refused-by-meter", Cause.METER_REFUSED)
LIMIT: dict[str, Any] = {"limit_w": 500, "limit_until": START + HOUR}
A, D, R = Action, Action.DISCONNECT, Action.RESTORE

# What was done, each step: action, end, cause, what the gateway told. Then: state, since which of the steps (from 1;
# None: never), which step made it so (from 0; None: none from here), what must happen, a piece of why.
HISTORIES: dict[str, tuple[list[Any], tuple[str, int | None, int | None, str | None, str]]] = {
    "nothing": ([], ("unknown", None, None, "a read-state asks the meter", "neither a command nor the meter")),
    "read, closed": (
        [(A.READ_STATE, *VERIFIED, {"before": CLOSED})],
        ("connected", 1, None, None, "the meter says"),
    ),
    "read, open": (
        [(A.READ_STATE, *VERIFIED, {"before": OPEN})],
        ("disconnected", 1, None, "a restore that approvers sign: it was not opened from here", "no command from here"),
    ),
    "read, says nothing": (
        [(A.READ_STATE, *VERIFIED, {"before": '{"load_a":1.0}'})],
        ("unknown", None, None, "a read-state asks the meter", "neither"),
    ),
    "read, cut text": (
        [(A.READ_STATE, *VERIFIED, {"before": '{"outp'})],
        ("unknown", None, None, "a read-state asks the meter", "neither"),
    ),
    "read, contradicts": (
        [(A.READ_STATE, *VERIFIED, {"before": STUCK})],
        ("unknown", 1, None, "somebody looks at the meter", "contradicts itself"),
    ),
    "disconnected": (
        [(D, *VERIFIED, {"before": CLOSED, "after": OPEN})],
        ("disconnected", 1, 0, APPROVED_BACK, "opened by disconnect"),
    ),
    "disconnected, read again": (
        [(D, *VERIFIED, {"after": OPEN}), (A.READ_STATE, *VERIFIED, {"before": OPEN})],
        ("disconnected", 1, 0, APPROVED_BACK, "for debt"),
    ),
    "disconnected, somebody closed it": (
        [(D, *VERIFIED, {"after": OPEN}), (A.READ_STATE, *VERIFIED, {"before": CLOSED})],
        ("connected", 2, None, None, "no command from here closed it"),
    ),
    "disconnected, a restore fails": (
        [(D, *VERIFIED, {"after": OPEN}), (R, "unknown", Cause.OUTCOME_LOST, {})],
        ("unknown", 2, 1, "the gateway reads the relay and settles it", "not known yet"),
    ),
    "disconnected, a restore is refused": (
        [(D, *VERIFIED, {"after": OPEN}), (R, *REFUSED, {"before": OPEN})],
        ("disconnected", 1, 0, APPROVED_BACK, "opened by disconnect"),
    ),
    "a disconnect failed, closed": (
        [(D, *FAILED, {"before": CLOSED, "after": CLOSED})],
        ("connected", 1, None, None, "the meter says that it is closed"),
    ),
    "a disconnect failed, not read": (
        [(D, *FAILED, {})],
        ("unknown", None, None, "a read-state asks the meter", "neither"),
    ),
    "a disconnect refused, open before": (
        [(D, *REFUSED, {"before": OPEN})],
        ("disconnected", 1, None, "a restore that approvers sign", "no command from here opened it"),
    ),
    "a restore refused by the guard, open before": (
        [
            (D, *VERIFIED, {"after": OPEN}),
            (R, "refused-by-guard", Cause.GUARD_REFUSED, {"before": OPEN}),
        ],
        ("disconnected", 1, 0, "restore", "opened by disconnect"),
    ),
    "disconnected, somebody closed and opened it": (
        [
            (D, *VERIFIED, {"after": OPEN}),
            (A.READ_STATE, *VERIFIED, {"before": CLOSED}),
            (A.READ_STATE, *VERIFIED, {"before": OPEN}),
        ],
        ("disconnected", 3, None, "a restore that approvers sign", "no command from here opened it"),
    ),
    "restored, somebody opened and closed it": (
        [
            (R, *VERIFIED, {"after": CLOSED}),
            (A.READ_STATE, *VERIFIED, {"before": OPEN}),
            (A.READ_STATE, *VERIFIED, {"before": CLOSED}),
        ],
        ("connected", 3, None, None, "the meter says that it is closed"),
    ),
    "restored": (
        [(D, *VERIFIED, {"after": OPEN}), (R, *VERIFIED, {"before": OPEN, "after": CLOSED})],
        ("connected", 2, 1, None, "closed by restore"),
    ),
    "restored, opened by somebody": (
        [(R, *VERIFIED, {"after": CLOSED}), (A.READ_STATE, *VERIFIED, {"before": OPEN})],
        ("disconnected", 2, None, "a restore that approvers sign", "no command from here opened it"),
    ),
    "armed": (
        [(D, *VERIFIED, {"after": OPEN}), (R, "armed", Cause.READY, {"after": READY})],
        ("armed", 2, 1, "the customer closes it at the meter", "armed by restore"),
    ),
    "limited": (
        [(A.LIMIT, *VERIFIED, {"after": LIMITED, "at_trip": TRIP}, LIMIT)],
        ("limited", 1, 0, f"it ends by itself at {to_rfc3339(START + HOUR)}; sooner by", "to 500 W"),
    ),
    "limited, tripped": (
        [
            (A.LIMIT, *VERIFIED, {"after": LIMITED, "at_trip": TRIP}, LIMIT),
            (A.READ_STATE, *VERIFIED, {"before": '{"output":false,"control":2,"mode":1,"limit_w":500}'}),
        ],
        ("armed", 2, 0, "the customer closes it at the meter", "may have tripped"),
    ),
    "limited, another limit at the meter": (
        [
            (A.LIMIT, *VERIFIED, {"after": LIMITED, "at_trip": TRIP}, LIMIT),
            (A.READ_STATE, *VERIFIED, {"before": OTHER_LIMIT}),
        ],
        ("connected", 1, None, None, "the meter says that it is closed"),
    ),
    "limited, lifted": (
        [(A.LIMIT, *VERIFIED, {"after": LIMITED}, LIMIT), (A.UNLIMIT, *VERIFIED, {"after": OTHER_LIMIT})],
        ("connected", 2, None, None, "the meter says that it is closed"),
    ),
    "keep-power tells the relay": (
        [(A.KEEP_POWER_ON, *VERIFIED, {"after": '{"output":true,"keep_power":true}'})],
        ("connected", 1, None, None, "the meter says"),
    ),
}


@pytest.mark.parametrize("name", list(HISTORIES), ids=lambda name: name.replace(" ", "-").replace(",", ""))
async def test_the_view_says_what_its_history_tells(history: History, name: str):
    steps, (state, since, by, back, why) = HISTORIES[name]
    for action, end, cause, told, *changes in steps:
        await history.do(action, end, cause, changes[0] if changes else None, **told)
    view = history.view
    assert view.state == state
    assert view.since == (None if since is None else to_rfc3339(START + since * 60 * SECOND))
    assert view.command == (None if by is None else history.names[by])
    assert (view.case, view.reason) == ((None, None) if by is None else ("case-7", "debt"))
    assert (view.to_come_back or "").startswith(back or "\0") or view.to_come_back is back
    assert why in view.why


@pytest.mark.parametrize("reason", ["safety", "field-work", "vacancy", "theft"])
async def test_what_was_opened_for_another_reason_no_payment_ends(history: History, reason: str):
    await history.do(D, *VERIFIED, {"reason": reason}, after=OPEN)
    view = history.view
    assert (view.state, view.reason, view.case) == ("disconnected", reason, "case-7")
    assert view.to_come_back == f"a restore that approvers sign: it was opened for {reason}, which no payment ends"


async def test_an_order_that_may_have_left_makes_it_unknown_until_the_gateway_tells(history: History):
    await history.do(A.READ_STATE, *VERIFIED, before=CLOSED)
    name = await history.send(D)
    assert history.view.state == "connected", "accepted: nothing has left for the meter"
    history.centre.say(name, "executing", Cause.BEGAN)
    assert (history.view.state, history.view.command) == ("unknown", name)
    assert [each.id for each in history.view.open] == [name]
    history.centre.say(name, "unknown", Cause.OUTCOME_LOST)
    assert history.view.to_come_back == "the gateway reads the relay and settles it"
    history.centre.say(name, "failed", Cause.NOT_AS_ASKED, after=CLOSED)
    assert (history.view.state, history.view.command) == ("connected", None)


async def test_what_is_armed_and_never_closed_is_open_still(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    await history.do(R, "armed", Cause.READY, after=READY)
    history.centre.now += HOUR
    history.centre.say(history.names[-1], "lapsed", Cause.TIME_OVER)
    view = history.view
    assert (view.state, view.since) == ("disconnected", to_rfc3339(START + 60 * SECOND))
    assert view.command == history.names[-1]
    assert view.to_come_back == "a new restore; or the customer closes it, while the meter still lets him"


async def test_what_is_armed_and_closed_by_the_customer_is_full_supply(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    await history.do(R, "armed", Cause.READY, after=READY)
    history.centre.now += 60 * SECOND
    history.centre.say(history.names[-1], "verified", Cause.AS_ASKED, after=CLOSED)
    assert (history.view.state, history.view.since) == ("connected", to_rfc3339(history.centre.now))


async def test_a_limit_shows_until_when_and_what_its_limiter_does_when_it_trips(history: History):
    await history.do(A.LIMIT, *VERIFIED, LIMIT, after=LIMITED, at_trip=TRIP)
    view = history.view
    assert (view.limit_w, view.limit_until, view.at_trip) == (500, to_rfc3339(START + HOUR), TRIP)
    history.centre.now = START + 2 * HOUR
    assert history.view.state == "limited", "nobody told that it ended"
    assert "the gateway has not told yet" in history.view.why
    history.centre.say(history.names[-1], "verified", LIMIT_GIVEN_BACK, after=OTHER_LIMIT)
    view = history.view
    assert (view.state, view.limit_w, view.at_trip) == ("connected", None, None)
    assert view.since == to_rfc3339(history.centre.now)


async def test_a_command_shows_what_the_meter_said_before_and_after_it(history: History):
    name = await history.send(A.LIMIT, **LIMIT)
    assert history.centre.desk.view(CLERK, name).meter is None
    history.centre.say(name, "executing", Cause.BEGAN)
    history.centre.say(name, *VERIFIED, before=CLOSED, after=LIMITED, at_trip=TRIP)
    closed = SupplyState(output=True, control=1, mode=1)
    shown = MeterView(closed, replace(closed, limit_w=500.0), TRIP)
    assert history.centre.desk.view(CLERK, name).meter == shown


async def test_what_was_told_of_another_meter_is_no_word_of_the_one_that_hangs_there_now(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    centre = history.centre
    centre.now += HOUR
    exchange(centre, "new-1")
    view = history.view
    assert (view.state, view.since, view.command) == ("unknown", None, None)
    assert "another meter hangs there now" in view.why
    assert view.to_come_back == "a read-state asks the meter"


async def test_where_no_meter_hangs_the_supply_is_unknown(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    history.centre.now += HOUR
    exchange(history.centre, None)
    view = history.view
    assert (view.state, view.why, view.to_come_back) == (
        "unknown",
        "no meter is installed there now",
        "a meter is installed",
    )


async def test_a_restore_under_way_is_named_before_what_else_would_help(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    name = history.centre.request(R, "MP-1", key="back").commands[0].id
    assert (history.view.to_come_back or "").startswith(
        f"restore {name} is under way: it is awaiting-approval; else: a"
    )


async def test_what_opened_it_is_known_however_often_it_was_read_or_failed_since(history: History):
    await history.do(D, *VERIFIED, after=OPEN)
    for _ in range(30):
        await history.do(A.READ_STATE, *VERIFIED, before=OPEN)
    for _ in range(30):
        await history.do(A.UNLIMIT, *REFUSED)
    view = history.view
    assert (view.state, view.command, view.reason) == ("disconnected", history.names[0], "debt")


@pytest.mark.parametrize(
    ("state", "relay"),
    [
        (SupplyState(), None),
        (SupplyState(control=2), "armed"),
        (SupplyState(output=True), "connected"),
        (SupplyState(output=False), "disconnected"),
        (SupplyState(output=False, ordered_open=False), "armed"),
        (SupplyState(output=False, ordered_open=True), "disconnected"),
        (SupplyState(output=True, ordered_open=True), "unknown"),
        (SupplyState(output=True, control=2), "unknown"),
        (SupplyState(output=False, control=1), "unknown"),
    ],
    ids=lambda value: str(value).replace(" ", "") if isinstance(value, str) else None,
)
def test_a_relay_is_what_contact_and_switch_both_say(state: SupplyState, relay: str | None):
    assert relay_of(state) == relay
