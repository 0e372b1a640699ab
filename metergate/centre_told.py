"""What a head-end tells of itself: who is there, what keeps it from being ready, its numbers."""

from collections.abc import Iterator
from dataclasses import asdict

from headend.inbox.jetstream import JetStreamInbox
from headend.inbox.mqtt import MqttInbox
from headend.intake import Intake
from headend.key_floors import Run
from headend.measures import Measure
from storage.projection import Projection


def runs_of(intake: Intake) -> dict[str, Run]:
    """Return the runs of gateways that are there and that this head-end answers."""
    return {
        gateway: Run(known.status.boot, known.status.epoch)
        for gateway, known in list(intake.gateways.items())
        if known.status is not None and known.status.online and intake.answers(gateway)
    }


def problems(inbox: MqttInbox | JetStreamInbox, intake: Intake, projection: Projection) -> list[str]:
    """Return what keeps the head-end from being ready, in plain words; nothing means ready."""
    found = []
    connection = inbox.status()
    if not connection.listening:
        found.append(f"broker: {connection.last_error or 'not connected yet'}")
    if intake.counts.last_error:
        found.append(intake.counts.last_error)
    if projection.status().last_error:
        found.append(f"projection: {projection.status().last_error}")
    return found


def measures(inbox: MqttInbox | JetStreamInbox, intake: Intake, projection: Projection) -> Iterator[Measure]:
    """Yield the numbers of inbox, intake and projection, and how far each gateway is."""
    for name, value in asdict(intake.counts).items():
        if name != "last_error":
            yield Measure(f"intake_{name}", "counter", f"Intake since the start: {name.replace('_', ' ')}", value)
    yield Measure("inbox_let_go", "counter", "Messages let go for want of room; they come again", inbox.let_go)
    status = projection.status()
    yield Measure("store_lag", "gauge", "Records of the log that the store has not", status.lag)
    yield Measure("store_duplicates", "counter", "Readings that the store had already", status.duplicates)
    for gateway in list(intake.gateways):
        receipt = intake.receipt(gateway)
        if receipt is not None:
            label = {"gateway": gateway}
            yield Measure("gateway_contiguous", "gauge", "Highest seq without a gap below", receipt.contiguous, label)
            missing = intake.ledger.of(gateway, receipt.epoch).missing()
            total = sum(last - first + 1 for first, last in missing)
            yield Measure("gateway_missing", "gauge", "Seqs that are missing between others", total, label)
