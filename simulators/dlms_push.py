"""What a simulated meter sends unasked: push setups (class 40), and the task that sends data-notifications by TCP."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from collector.protocols.dlms.axdr import Data, Tag, array, enum_, octets, structure, u8, u16
from collector.protocols.dlms.ciphering import GENERAL_GLO, Ciphered, build_ciphered, protect
from collector.protocols.dlms.notification import DataNotification
from collector.protocols.dlms.references import CaptureObject, DataAccessResult
from collector.protocols.dlms.wrapper import wrap
from metering.errors import FrameError
from metering.model import SECOND
from simulators.dlms_objects import Ask, CosemObject, Denied, find, typed
from simulators.dlms_security import BOTH, PUBLIC

if TYPE_CHECKING:
    from simulators.dlms_meter import DlmsMeter

PUSH = "0-1:25.9.0*255"  # the setup that pushes each interval (IDIS)
CONNECT_TIMEOUT_S = 5.0
QUEUE = 100  # pushes that wait at most; the newest are dropped
TCP = 0  # transport service (class 40 attribute 3)
_CONFIRMED_NO = 0  # long-invoke-id-and-priority: unconfirmed, normal priority
OBJECTS = (
    CaptureObject(40, PUSH, 1),
    CaptureObject(1, "0-0:42.0.0*255", 2),
    CaptureObject(8, "0-0:1.0.0*255", 2),
    CaptureObject(3, "1-0:1.8.0*255", 2),
    CaptureObject(3, "1-0:2.8.0*255", 2),
)


@dataclass(frozen=True)
class PushSettings:
    """Where a meter pushes to (`host:port`, empty: nowhere), how often (s, 0: only when told to), and how.

    `client` is the wPort of who listens, `server` the meter's own.
    """

    destination: str = ""
    interval_s: int = 0
    ciphered: bool = False
    objects: tuple[CaptureObject, ...] = OBJECTS
    client: int = PUBLIC
    server: int = 1


class PushSetup:
    """One push setup of a meter. `wanted` is told when the method push is called."""

    def __init__(self, meter: "DlmsMeter", settings: PushSettings) -> None:
        self.settings = settings
        self.destination = settings.destination
        self.objects = settings.objects
        self.wanted: Callable[[], object] = lambda: None
        self._meter = meter
        self._invoke = 0

    def apdu(self, now: int) -> bytes:
        """Return the data-notification of this instant: plain, or general-glo-ciphered with the meter's key."""
        self._invoke = (self._invoke + 1) & 0xFFFFFF
        ask = Ask(now)
        found = (find(self._meter.objects, what.class_id, what.obis).get(what.attribute, ask) for what in self.objects)
        stamp = self._meter.clock.stamp(self._meter.clock.shown(now))
        plain = DataNotification(_CONFIRMED_NO | self._invoke, stamp, structure(*found)).to_bytes()
        if not self.settings.ciphered:
            return plain
        security = self._meter.security
        counter = security.own_counter(now)
        keys = security.keys
        content = protect(BOTH, keys.encryption, keys.authentication, security.title, counter, plain)
        return build_ciphered(Ciphered(GENERAL_GLO, security.title, BOTH, counter, content))

    def as_object(self) -> CosemObject:
        """Return the object push setup, attributes 2 to 7; method 1 push."""
        return CosemObject(
            40,
            PUSH,
            {
                2: lambda _: array(*(what.to_data() for what in self.objects)),
                3: lambda _: structure(enum_(TCP), octets(self.destination.encode()), enum_(0)),
                4: array(),
                5: u16(0),
                6: u8(0),
                7: u16(0),
            },
            {2: self._set_objects, 3: self._set_destination},
            {1: self._push},
        )

    def _push(self, ask: Ask, parameter: Data | None) -> None:
        del ask, parameter
        self.wanted()

    def _set_objects(self, ask: Ask, value: Data) -> None:
        try:
            wanted = tuple(CaptureObject.of(part) for part in typed(value, Tag.ARRAY).value)
        except FrameError:
            raise Denied(DataAccessResult.TYPE_UNMATCHED) from None
        for what in wanted:
            find(self._meter.objects, what.class_id, what.obis).get(what.attribute, ask._replace(access=None))
        self.objects = wanted

    def _set_destination(self, ask: Ask, value: Data) -> None:
        del ask
        parts = typed(value, Tag.STRUCTURE).value
        if len(parts) != 3 or parts[0] != enum_(TCP):
            raise Denied(DataAccessResult.TYPE_UNMATCHED)
        self.destination = typed(parts[1], Tag.OCTET_STRING).value.decode("latin-1")


class Pusher:
    """Sends what meters push: each interval of their own clock, and when they are told to. Runs until `close`."""

    def __init__(self, meters: Sequence["DlmsMeter"]) -> None:
        self._meters = meters
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.failed = 0

    def start(self) -> None:
        """Begin to push, in the running event loop."""
        loop = asyncio.get_running_loop()
        for meter in self._meters:
            # The method may be called on a serial line's thread.
            meter.push.wanted = partial(loop.call_soon_threadsafe, self._begin, meter)
            if meter.push.settings.interval_s:
                self._keep(loop.create_task(self._by_interval(meter)))

    async def close(self) -> None:
        """Stop pushing; what is on its way is given up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, meter: "DlmsMeter") -> None:
        if len(self._tasks) < QUEUE:
            self._keep(asyncio.get_running_loop().create_task(self.push(meter)))

    async def _by_interval(self, meter: "DlmsMeter") -> None:
        step = meter.push.settings.interval_s * SECOND
        while True:
            shown = meter.clock.shown(meter.now())
            await asyncio.sleep((step - shown % step) / SECOND)
            await self.push(meter)

    async def push(self, meter: "DlmsMeter") -> None:
        """Send one notification now; a listener that is not there is counted, not an error."""
        host, _, port = meter.push.destination.rpartition(":")
        if not host or not meter.has_power(meter.now()):
            return
        settings = meter.push.settings
        message = wrap(settings.server, settings.client, meter.push.apdu(meter.now()))
        try:
            opening = asyncio.open_connection(host, int(port))
            _, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except (OSError, ValueError, TimeoutError):
            self.failed += 1
            return
        writer.write(message)
        with contextlib.suppress(OSError):
            await writer.drain()
            self.sent += 1
        writer.close()
