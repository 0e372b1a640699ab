"""What a meter sends unasked: data-notification and event-notification (IEC 62056-5-3). Not who listens."""

from collector.protocols.dlms import axdr
from collector.protocols.dlms.axdr import Data
from collector.protocols.dlms.cursor import Cursor, octet_string
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import Attribute, read_attribute

DATA_NOTIFICATION = 0x0F
EVENT_NOTIFICATION = 0xC2


class DataNotification(Apdu, frozen=True):
    """A push. `long_invoke` is the whole long-invoke-id-and-priority, `time` empty or a date-time of 12 bytes."""

    long_invoke: int
    time: bytes
    body: Data

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        head = bytes((DATA_NOTIFICATION,)) + self.long_invoke.to_bytes(4, "big")
        return head + octet_string(self.time) + axdr.encode(self.body)


class EventNotification(Apdu, frozen=True):
    """The value of one attribute, told because something happened; `time` is empty where the meter tells none."""

    time: bytes
    attribute: Attribute
    value: Data

    def to_bytes(self) -> bytes:
        """Return the APDU's bytes."""
        time = b"\1" + octet_string(self.time) if self.time else b"\0"
        return bytes((EVENT_NOTIFICATION,)) + time + self.attribute.to_bytes() + axdr.encode(self.value)


def parse_data_notification(apdu: bytes) -> DataNotification:
    """Read a data-notification. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(DATA_NOTIFICATION, "data-notification")
    notification = DataNotification(cursor.u32(), cursor.octets(), cursor.data())
    cursor.end()
    return notification


def parse_event_notification(apdu: bytes) -> EventNotification:
    """Read an event-notification. Raises FrameError."""
    cursor = Cursor(apdu)
    cursor.expect(EVENT_NOTIFICATION, "event-notification")
    time = cursor.octets() if cursor.flag() else b""
    notification = EventNotification(time, read_attribute(cursor), cursor.data())
    cursor.end()
    return notification
