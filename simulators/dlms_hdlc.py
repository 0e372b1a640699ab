"""Simulated DLMS meters behind HDLC, on TCP or on a serial line: links, windows and addresses. Opens no port."""

from collections.abc import Mapping

from collector.protocols.dlms.hdlc import Frame, ServerAddress, build_frame
from collector.protocols.dlms.hdlc_stream import HdlcSplitter
from collector.protocols.dlms.station_server import HdlcServerStation
from metering.errors import FrameError
from simulators.dlms_association import Association
from simulators.dlms_delivery import Delivery, answer_apdu, deliver
from simulators.dlms_faults import DlmsFault
from simulators.dlms_meter import DlmsMeter

DEFAULT_PHYSICAL = 17
MAX_INFO = 256  # bytes of an information field that the meters take and send at most
MAX_WINDOW = 3

# Meters by logical device, or by logical device and physical address.
Meters = Mapping[int, DlmsMeter] | Mapping[tuple[int, int], DlmsMeter]
Placed = dict[tuple[int, int], DlmsMeter]


def placed(meters: Meters) -> Placed:
    """Return the meters by (logical device, physical address); without one it is `DEFAULT_PHYSICAL`."""
    return {key if isinstance(key, tuple) else (key, DEFAULT_PHYSICAL): meter for key, meter in meters.items()}


class _Link:
    """One client's link with one meter, and the association on it."""

    def __init__(self, meter: DlmsMeter, client: int, server: ServerAddress, info: int, window: int) -> None:
        self.station = HdlcServerStation(client, server, info, window)
        self.association = Association(meter, client)
        self.meter = meter
        self.lose = 0  # the number of the frame that will be lost, counted from the next one on

    def deliver(self, frames: list[bytes], fault: DlmsFault | None = None) -> Delivery:
        """Return what goes out of these frames of an answer, whose later windows may be struck as well."""
        if fault is not None and fault.kind == "lost" and fault.count:
            self.lose, fault = fault.count, None
        left = [frame for number, frame in enumerate(frames, 1) if number != self.lose]
        self.lose -= min(self.lose, len(frames))
        return deliver(fault, left, self.meter.faults.chance) if left else Delivery(b"")


class HdlcStations:
    """The meters on one line or TCP connection. Meters hear addresses of one, two and four bytes."""

    def __init__(self, meters: Meters, *, max_info: int = MAX_INFO, window: int = MAX_WINDOW) -> None:
        self._meters = placed(meters)
        self._limits = (max_info, window)
        self._splitter = HdlcSplitter()
        self._links: dict[tuple[bytes, bytes], _Link] = {}

    def heard(self, data: bytes) -> list[Delivery]:
        """Take the next bytes and return what is to be sent."""
        found = (self._take(frame) for frame, _ in self._splitter.feed(data))
        return [delivery for delivery in found if delivery is not None]

    def _take(self, frame: Frame) -> Delivery | None:
        link = self._links.get((frame.source, frame.destination)) or self._new_link(frame)
        if link is None or not link.meter.has_power(link.meter.now()):
            return None
        heard = link.station.take(frame)
        if not link.station.connected:
            link.association.close()
        if heard.apdu is None:
            return link.deliver(_frames(heard.send)) if heard.send else None
        answer = answer_apdu(link.association, heard.apdu)
        if answer is None:
            return None
        frames = _frames(link.station.respond(answer.apdu))
        if answer.fault is not None and answer.fault.kind == "other_meter":
            frames = [_of_another(raw) for raw in frames]
        return link.deliver(frames, answer.fault)

    def _new_link(self, frame: Frame) -> _Link | None:
        try:
            server = ServerAddress.from_bytes(frame.destination)
        except FrameError:
            return None
        meter = self._meter(server)
        if meter is None or len(frame.source) != 1:
            return None
        link = _Link(meter, frame.source[0] >> 1, server, *self._limits)
        self._links[frame.source, frame.destination] = link
        return link

    def _meter(self, server: ServerAddress) -> DlmsMeter | None:
        if server.size > 1:
            return self._meters.get((server.upper, server.lower))
        # An address of one byte has no physical part: it means the only meter there is.
        found = [meter for (upper, _), meter in self._meters.items() if upper == server.upper]
        return found[0] if len(found) == 1 else None

    def close(self) -> None:
        """End all associations: the connection is gone."""
        for link in self._links.values():
            link.association.close()
        self._links.clear()


def _frames(data: bytes) -> list[bytes]:
    return [raw for _, raw in HdlcSplitter().feed(data)]


def _of_another(raw: bytes) -> bytes:
    frame = HdlcSplitter().feed(raw)[0][0]
    other = bytes((*frame.source[:-1], frame.source[-1] ^ 0x04))
    return build_frame(frame._replace(source=other))
