"""What can be wrong with the broker and the meters that publish by themselves. It publishes nothing."""

from collections.abc import AsyncIterator, Iterable, Sequence

from metergate.findings import Finding, State
from metergate.probe import Ear
from metergate.site import SiteFile

CONNECT_S = 5.0
LISTEN_S = 30.0  # for the next message of each meter that publishes by itself


async def listen(site: SiteFile) -> AsyncIterator[Finding]:
    """Yield how the broker is, then each meter that publishes."""
    names = [meter.id for meter in site.meter if meter.topic is not None and meter.removed is None]
    if site.mqtt is None or not names:
        return
    ear = Ear(site, site.mqtt)
    await ear.listen(LISTEN_S, CONNECT_S)
    for finding in _heard(ear, names):
        yield finding


def _heard(ear: Ear, names: Sequence[str]) -> Iterable[Finding]:
    fault = ear.broker_fault()
    if fault:
        yield Finding(State.WRONG, "broker", fault)
        return
    yield Finding(State.OK, "broker", f"{ear.broker.host}:{ear.broker.port} is there")
    for name in names:
        if name in ear.heard:
            values = sum(len(block.values) for block in ear.heard[name])
            yield Finding(State.OK, f"meter {name}", f"published {values} values")
        else:
            yield Finding(State.WRONG, f"meter {name}", ear.silence(name, LISTEN_S))
