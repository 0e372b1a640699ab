"""The summary of a fleet says what was measured, and calls a loss a loss."""

import msgspec
import pytest

from metergate.fleet.accounts import Account
from metergate.fleet.machine import Cost
from metergate.fleet.plan import Fleet
from metergate.fleet.report import Report
from metergate.fleet.summary import Moment, Outcome, kept, lines

GOOD = Account(4800, 4800, 4800, 0, 0, 0, 0, 0, (48_000, 24_000, 96_000))


def outcome(account: Account | None = GOOD, *problems: str) -> Outcome:
    begin = Moment(100.0, 800, (Cost(10.0), Cost(1.0), Cost(2.0)))
    stopped = Moment(160.0, 4400, (Cost(10.5, 30_000_000, 40), Cost(1.0, 8_000_000), Cost(2.5, 90_000_000)))
    end = Moment(161.5, 4800, (Cost(10.4), Cost(1.02), Cost(2.1)))
    final = Report(12, 12, 4840, 4800, sent=100, delays={100: 98, 2000: 2}, errors={"meter late": 10})
    return Outcome(Fleet(12, 60, 10, ""), "mosquitto", begin, stopped, end, final, account, 3, 7, 0.5, problems)


def test_what_was_measured_is_told():
    text = "\n".join(lines(outcome()))
    for words in (
        "12 gateways, 60 meters, 4 registers each every 10 s: 24 readings/s, as 5,400 meters every 15 min",
        "60 readings/s over 60 s (3,600 readings); all stored 1.5 s after",
        "gateways 100.0 us, broker (mosquitto) 5.0 us, head-end 25.0 us; in all 0.4 s, 0.0 s, 0.1 s",
        "gateways 30 MB in 1 processes (2500 kB a gateway, 500.0 kB a meter, 40 threads)",
        "p50 0.100 s, p99 2.000 s (100 commits)",
        "store lag: 3 records when the reads ended, 7 at most",
        "gaps: 40 of 4,840 readings due were not read",
        "taken 4,800, in the head-end's log 4,800, stored 4,800, skipped and told 0: lost 0, doubled 0",
        "gateways' logs 10.0, head-end's log 5.0, its store 20.0",
        "errors: meter late 10; messages sent again 0 of 100",
    ):
        assert words in text


@pytest.mark.parametrize("name", ["lost", "doubled", "missing_records", "doubled_records"])
def test_a_reading_that_is_lost_or_stands_twice_breaks_the_promise(name: str):
    assert kept(outcome())
    broken = outcome(msgspec.structs.replace(GOOD, **{name: 1}))
    assert not kept(broken)
    assert "LOST" in "\n".join(lines(broken))


def test_what_did_not_come_through_in_time_is_told_and_not_called_kept():
    late = outcome(None, "7 records had no receipt")
    assert not kept(late)
    assert "PROBLEM: 7 records had no receipt" in "\n".join(lines(late))
