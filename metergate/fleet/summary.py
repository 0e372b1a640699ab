"""What a run of a simulated fleet showed, in words and numbers. Pure: it measures nothing."""

from collections.abc import Iterator
from typing import NamedTuple

from metergate.fleet.accounts import Account
from metergate.fleet.machine import Cost
from metergate.fleet.plan import POINTS, QUARTER_S, Fleet
from metergate.fleet.report import Delays, Report

MB = 1e6
PARTS = ("gateways", "broker", "head-end")


class Moment(NamedTuple):
    """The fleet at one moment of the run: `at` is monotonic, `costs` are of gateways, broker and head-end."""

    at: float
    taken: int
    costs: tuple[Cost, Cost, Cost]


class Outcome(NamedTuple):
    """All that a run showed. From `begin` on all gateways were up; at `end` everything was stored."""

    fleet: Fleet
    broker: str
    begin: Moment
    stopped: Moment
    end: Moment
    final: Report
    account: Account | None
    stored_at_stop: int  # records of the head-end's log that the store had not when the reads ended
    highest_lag: int
    load: float  # of the machine when it ended
    problems: tuple[str, ...]


def kept(outcome: Outcome) -> bool:
    """Tell whether nothing was lost, nothing stands twice, and all came through."""
    account = outcome.account
    return account is not None and not (
        account.lost or account.doubled or account.missing_records or account.doubled_records or outcome.problems
    )


def progress(seconds: float, report: Report, lag: float | None) -> str:
    """Return one line of a run under way."""
    behind = "?" if lag is None else f"{lag:.0f}"
    return (
        f"{seconds:5.0f} s  gateways up {report.up} of {report.gateways}  readings taken {report.taken:,}  "
        f"records without receipt {report.behind}  store behind {behind} records"
    )


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield the summary."""
    fleet = outcome.fleet
    yield (
        f"fleet: {fleet.gateways:,} gateways, {fleet.meters:,} meters, {len(POINTS)} registers each every "
        f"{fleet.interval} s: {fleet.readings_per_s():,.0f} readings/s, as {_in_the_field(fleet):,} meters every 15 min"
    )
    yield from _speed(outcome)
    yield from _costs(outcome)
    yield from _delays(outcome.final)
    yield f"store lag: {outcome.stored_at_stop} records when the reads ended, {outcome.highest_lag} at most; then 0"
    yield from _account(outcome)
    errors = ", ".join(f"{name} {count}" for name, count in sorted(outcome.final.errors.items()))
    yield f"errors: {errors or 'none'}; messages sent again {outcome.final.sent_again} of {outcome.final.sent}"
    yield from (f"PROBLEM: {problem}" for problem in outcome.problems)


def _in_the_field(fleet: Fleet) -> int:
    return fleet.meters * QUARTER_S // fleet.interval


def _speed(outcome: Outcome) -> Iterator[str]:
    seconds = outcome.stopped.at - outcome.begin.at
    taken = outcome.stopped.taken - outcome.begin.taken
    drained = outcome.end.at - outcome.stopped.at
    yield (
        f"speed: {taken / seconds:,.0f} readings/s over {seconds:.0f} s ({taken:,} readings); "
        f"all stored {drained:.1f} s after the reads ended; load average {outcome.load:.1f}"
    )


def _costs(outcome: Outcome) -> Iterator[str]:
    taken = outcome.end.taken - outcome.begin.taken
    shares, spent = [], []
    for name, before, after in zip(PARTS, outcome.begin.costs, outcome.end.costs, strict=True):
        label = f"broker ({outcome.broker})" if name == "broker" else name
        shares.append(f"{label} {(after.cpu_s - before.cpu_s) / taken * 1e6:.1f} us" if taken else f"{label} -")
        spent.append(f"{after.cpu_s - before.cpu_s:.1f} s")
    yield f"CPU per reading: {', '.join(shares)}; in all {', '.join(spent)}"
    gateways, broker, headend = outcome.stopped.costs
    fleet = outcome.fleet
    yield (
        f"memory: gateways {gateways.resident / MB:.0f} MB in {len(fleet.workers())} processes "
        f"({gateways.resident / fleet.gateways / 1e3:.0f} kB a gateway, {gateways.resident / fleet.meters / 1e3:.1f} "
        f"kB a meter, {gateways.threads} threads), broker {broker.resident / MB:.0f} MB, "
        f"head-end {headend.resident / MB:.0f} MB"
    )


def _delays(final: Report) -> Iterator[str]:
    delays = Delays(final.delays)
    count = sum(final.delays.values())
    yield (
        f"receipt delay, from durable at the gateway to its cursor moved: p50 {delays.quantile(0.5):.3f} s, "
        f"p99 {delays.quantile(0.99):.3f} s ({count:,} commits)"
    )


def _account(outcome: Outcome) -> Iterator[str]:
    final, account = outcome.final, outcome.account
    yield (
        f"gaps: {max(0, final.due - final.taken - final.dropped):,} of {final.due:,} readings due were not read, "
        f"{final.dropped:,} not accepted by a log"
    )
    if account is None:
        yield "account: not made, as the head-end did not take everything"
        return
    words = f"lost {account.lost:,}, doubled {account.doubled:,}"
    yield (
        f"account: taken {account.taken:,}, in the head-end's log {account.logged:,}, stored {account.stored:,}, "
        f"skipped and told {account.gaps:,}: {words if kept(outcome) else words.upper()}; records missing "
        f"{account.missing_records:,}, twice {account.doubled_records:,}"
    )
    names = ("gateways' logs", "head-end's log", "its store")
    taken = max(1, account.taken)
    shares = (f"{name} {size / taken:.1f}" for name, size in zip(names, account.disk, strict=True))
    yield f"disk, bytes for each reading with all that was promised and told beside: {', '.join(shares)}"
