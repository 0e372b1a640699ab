"""What DLMS meters send by themselves, as blocks and events: whose it is, what its items are. Listens to nothing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.dlms_tables import DlmsPoint, event_of
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_shape import ScalerUnit, parse_scaler_unit
from collector.drivers.dlms_values import checked, identity_text, layout_of, scale_of, value_of, word_of
from collector.keys import MeterKeys
from collector.protocols.dlms.axdr import Data, Tag
from collector.protocols.dlms.ciphering import BROADCAST
from collector.protocols.dlms.notify import Notification, parse_notification
from collector.protocols.dlms.references import Attribute, CaptureObject, logical_name
from metering.errors import AuthError, FrameError
from metering.model import Block, Column, Event, Kind, Source
from metering.quality import Quality

MAKER_LETTERS = 3
PUSH_CLASS = 40
CLOCK_CLASS = 8


class PushMeter:
    """A meter that may push. `names` are what it calls itself: serial number, logical device name.

    A logical device name is three letters of the maker and a number, which mostly is the serial number.

    Its object lists are those of its profile, where it did not say itself what it pushes.
    """

    def __init__(self, driver: DlmsDriver, names: Sequence[str] = ()) -> None:
        profile = driver.profile
        self.driver = driver
        self.names = tuple(names)
        self._lists = {
            spec.obis: tuple(CaptureObject(item.class_id, item.obis, item.attribute) for item in spec.objects)
            for spec in profile.push
        }
        self.points = {Attribute(point.class_id, point.obis, point.attribute): point for point in profile.points}
        self.status = {spec.obis: spec for spec in profile.status}

    @property
    def lists(self) -> dict[str, tuple[CaptureObject, ...]]:
        """Return what its push setups send, by their codes."""
        return self._lists | {obis: objects for obis, objects in self.driver.pushes.items() if objects}


class Pushed(NamedTuple):
    """What a notification gave."""

    device: str
    blocks: tuple[Block, ...]
    events: tuple[Event, ...]


class PushMapper:
    """Opens notifications and maps them. Ciphered ones are known by system title, plain ones by the name in them."""

    def __init__(self, meters: Iterable[PushMeter]) -> None:
        self._meters = list(meters)
        self._by_title: dict[bytes, PushMeter] = {}
        self._by_name = {name: meter for meter in self._meters for name in meter.names}
        self._counters: dict[tuple[bytes, bool], int] = {}

    def take(self, apdu: bytes, received_at: int) -> Pushed:
        """Return what an APDU holds.

        Raises:
            FrameError: it is no notification, tells no known meter, or is of another form than its object list.
            AuthError: it does not fit the meter's keys, is not ciphered though the meter's must be, or came before.

        """
        note = parse_notification(apdu, self._keys_of)
        if note.title:
            meter = self._by_title[note.title]
            needed = meter.driver.access.protection
            if note.control & needed != needed:
                raise AuthError("a notification with less protection than is agreed with the meter")
            self._check_counter(note)
            return self._map(meter, note, received_at)
        meter = self._sender(note)
        if meter.driver.access.security != "none":
            raise AuthError("a plain notification in the name of a meter that ciphers", meter=meter.driver.device)
        return self._map(meter, note, received_at)

    def _keys_of(self, title: bytes) -> MeterKeys:
        if title not in self._by_title:  # titles become known while meters are read
            self._by_title = {m.driver.system_title: m for m in self._meters if m.driver.system_title}
        meter = self._by_title.get(title)
        if meter is None:
            raise AuthError(f"no meter with the system title {title.hex()} is known")
        return meter.driver.keys

    def _check_counter(self, note: Notification) -> None:
        """Check that the sender's invocation counter rises: what was recorded and sent again is not taken."""
        key = note.title, bool(note.control & BROADCAST)
        last = self._counters.get(key, -1)
        if note.counter is None or note.counter <= last:
            raise AuthError("a notification that came before (its counter has not risen)")
        self._counters[key] = note.counter

    def _sender(self, note: Notification) -> PushMeter:
        for item in note.body.value if note.body.tag is Tag.STRUCTURE else ():
            if item.tag not in (Tag.OCTET_STRING, Tag.VISIBLE_STRING, Tag.UTF8_STRING):
                continue
            try:
                name = identity_text(item)
            except FrameError:
                continue
            meter = self._by_name.get(name) or self._by_name.get(name[MAKER_LETTERS:])
            if meter is not None:
                return meter
        raise FrameError("a plain notification that names no meter that is known here")

    def _map(self, meter: PushMeter, note: Notification, received_at: int) -> Pushed:
        if note.attribute is not None:
            objects: Sequence[CaptureObject] = (CaptureObject(*note.attribute),)
            items: Sequence[Data] = (note.body,)
        else:
            items = note.body.value if note.body.tag is Tag.STRUCTURE else (note.body,)
            objects = _objects(meter, items)
        return _Mapping(meter, objects, items, note.time, received_at).result()


def _objects(meter: PushMeter, items: Sequence[Data]) -> Sequence[CaptureObject]:
    """Return what the items are: as the first of them says, otherwise by the list that begins and counts like them."""
    if items and items[0].tag is Tag.ARRAY and items[0].value:
        described = tuple(CaptureObject.of(item) for item in items[0].value)
        if len(described) == len(items):
            return described
    fitting = {obis: objects for obis, objects in meter.lists.items() if len(objects) == len(items)}
    for obis, objects in fitting.items():
        names = (Data(Tag.OCTET_STRING, logical_name(obis)) == item for item in items)
        if any(same for same, it in zip(names, objects, strict=True) if (it.class_id, it.attribute) == (PUSH_CLASS, 1)):
            return objects
    if len(fitting) != 1:
        raise FrameError(
            f"a notification of {len(items)} items fits {len(fitting)} of the object lists", meter=meter.driver.device
        )
    return next(iter(fitting.values()))


class _Mapping:
    """One notification being mapped."""

    def __init__(
        self, meter: PushMeter, objects: Sequence[CaptureObject], items: Sequence[Data], time: bytes, received_at: int
    ) -> None:
        self._meter = meter
        self._pairs = list(zip(objects, items, strict=True))
        self._received_at = received_at
        self._scalers = dict(meter.driver.scalers) | self._pushed_scalers()
        self._at, self._flags = self._measured_at(time)

    def _pushed_scalers(self) -> dict[Attribute, ScalerUnit | None]:
        found: dict[Attribute, ScalerUnit | None] = {}
        for place, item in self._pairs:
            if item.tag is Tag.STRUCTURE and (place.class_id, place.attribute) in {(3, 3), (4, 3), (5, 4)}:
                found[Attribute(place.class_id, place.obis, place.attribute)] = parse_scaler_unit(item)
        return found

    def _measured_at(self, time: bytes) -> tuple[int, int]:
        """Return when the values were taken and how sure that is: the notification's time, a clock in it, or now."""
        clocks = [item.value for place, item in self._pairs if (place.class_id, place.attribute) == (CLOCK_CLASS, 2)]
        for octets in (*clocks, time):
            if isinstance(octets, bytes) and octets:
                moment = self._meter.driver.time.read(octets)
                if moment.us is not None:
                    doubtful = moment.doubtful or moment.late is not None
                    return moment.us, int(Quality.CLOCK_SUSPECT) if doubtful else 0
        return self._received_at, 0

    def result(self) -> Pushed:
        by_kind: dict[Kind, list[tuple[Column, float | None]]] = {}
        events: list[Event] = []
        device = self._meter.driver.device
        for place, item in self._pairs:
            point = self._meter.points.get(Attribute(*place[:3]))
            if point is not None and not place[3]:
                by_kind.setdefault(point.what, []).append(self._value(point, item))
            elif place.obis in self._meter.status:
                events += self._events(place.obis, item)
        blocks = []
        for kind, pairs in by_kind.items():
            layout = layout_of(kind, Source.PUSH, 0, tuple(column for column, _ in pairs))
            values, quality = checked(tuple(value for _, value in pairs), self._flags)
            blocks.append(Block(layout, device, self._at, self._received_at, values, None, quality))
        return Pushed(device, tuple(blocks), tuple(events))

    def _value(self, point: DlmsPoint, item: Data) -> tuple[Column, float | None]:
        try:
            attribute = point.scaler_attribute
            place = None if attribute is None else Attribute(point.class_id, point.obis, attribute)
            scale = scale_of(point, self._scalers.get(place) if place else None)
            value, number = value_of(point, item, self._meter.driver.time)
        except FrameError as error:
            raise FrameError(f"{point.name}: {error}", meter=self._meter.driver.device) from None
        return Column(point.obis, point.unit, scale, number), value

    def _events(self, obis: str, item: Data) -> list[Event]:
        spec = self._meter.status[obis]
        word = word_of(item.value)
        found = []
        for bit, name in spec.bits.items():
            if word >> bit & 1:
                event = event_of(name)
                detail = {"register": spec.name, "bit": str(bit), "seen": "by a push"}
                found.append(
                    Event(self._meter.driver.device, self._at, event.code, event.name, self._received_at, detail)
                )
        return found
