"""Makes the listener for what DLMS meters of a site push. It listens to nothing by itself."""

from collections.abc import Callable, Iterable

from collector.dlms_push import DlmsPushListener, OnBad, OnPush
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_push import PushMapper, PushMeter
from gateway.fields import split_address
from gateway.meters import BusMeter
from gateway.settings import GatewayFile


def make_push_listener(
    file: GatewayFile, meters: Iterable[BusMeter], on_push: OnPush, on_bad: OnBad, *, clock: Callable[[], int]
) -> DlmsPushListener | None:
    """Return the listener, or None where the site has none; its DLMS meters are known by system title and serial."""
    if file.push is None:
        return None
    pushing = [
        PushMeter(meter.driver, [meter.settings.serial] if meter.settings.serial else [])
        for meter in meters
        if isinstance(meter.driver, DlmsDriver)
    ]
    host, port = split_address(file.push.listen)
    return DlmsPushListener(PushMapper(pushing), on_push, on_bad, host=host, port=port, clock=clock)
