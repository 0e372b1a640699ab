"""The limiter of a simulated meter (class 71): thresholds, durations, emergency profile. The switch is not here."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from collector.protocols.dlms.axdr import Data, Tag, array, boolean, i8, octets, structure, u16, u32
from collector.protocols.dlms.references import CaptureObject, DataAccessResult, logical_name
from metering.model import SECOND
from simulators.dlms_events import DISCONNECTOR, Code, EventLogs
from simulators.dlms_objects import Ask, CosemObject, Denied, typed
from simulators.dlms_supply import DISCONNECT, RECONNECT, SCRIPTS, Disconnector
from simulators.meter import MICRO, Meter

NO_LIMIT = 0  # threshold: not limited
STEP = 10 * SECOND  # how finely the past since the last look is gone through
MAX_STEPS = 4000  # a longer past is gone through more coarsely


class Emergency(NamedTuple):
    """An emergency profile (class 71 attribute 8): id, activation time of 12 bytes, duration in s."""

    number: int = 0
    activation: bytes = b"\xff" * 12
    duration: int = 0


class Limiter:
    """The limiter of one meter: watches a value and operates the switch. `settle` brings it up to an instant.

    Thresholds are in W, 0 is none. What it saw between two looks is gone through in steps, so that durations count.
    """

    def __init__(self, meter: Meter, switch: Disconnector, logs: EventLogs, instant: Callable[[bytes], int]) -> None:
        self.normal = self.emergency = NO_LIMIT
        self.over_s = self.under_s = 60
        self.profile = Emergency()
        self.groups: tuple[int, ...] = ()
        self.over, self.under = DISCONNECT, 0  # script ids; 0 does nothing
        self._meter = meter
        self._switch = switch
        self._logs = logs
        self._instant = instant
        self._seen: int | None = None
        self._over_since: int | None = None
        self._under_since: int | None = None
        self._tripped = False

    def emergency_active(self, now: int) -> bool:
        """Tell whether the emergency profile runs: activated, not over, and one of this meter's groups."""
        if self.profile.number not in self.groups or self.profile.activation[:2] == b"\xff\xff":
            return False
        begin = self._instant(self.profile.activation)
        return begin <= now < begin + self.profile.duration * SECOND

    def threshold(self, now: int) -> int:
        """Return the active threshold in W."""
        return self.emergency if self.emergency_active(now) else self.normal

    def settle(self, now: int) -> None:
        """Do what the limiter would have done up to `now`."""
        begin = now if self._seen is None else self._seen
        self._seen = now
        if not self.normal and not self.profile.number:
            self._over_since = self._under_since = None
            return
        step = max(STEP, (now - begin) // MAX_STEPS)
        for at in [*range(begin + step, now, step), now]:
            self._look(at)

    def _look(self, at: int) -> None:
        threshold = self.threshold(at)
        if not threshold:
            self._over_since = self._under_since = None
            return
        power = self._meter.values(at)["1-0:1.7.0*255"] // MICRO
        if power > threshold:
            self._under_since = None
            self._over_since = at if self._over_since is None else self._over_since
            if at - self._over_since >= self.over_s * SECOND and not self._tripped:
                self._tripped = True
                self._logs.add(DISCONNECTOR, at, Code.LIMIT_EXCEEDED)
                self._run(self.over, at)
        else:
            self._over_since = None
            self._under_since = at if self._under_since is None else self._under_since
            if at - self._under_since >= self.under_s * SECOND and self._tripped:
                self._tripped = False
                self._logs.add(DISCONNECTOR, at, Code.LIMIT_OK)
                self._run(self.under, at)

    def _run(self, script: int, at: int) -> None:
        if script == DISCONNECT:
            self._switch.operate("local_disconnect", at)
        elif script == RECONNECT:
            self._switch.operate("local_reconnect", at)

    # -- class 71

    def as_object(self) -> CosemObject:
        """Return the object limiter, attributes 2 to 11; it has no methods."""
        return CosemObject(
            71,
            "0-0:17.0.0*255",
            {
                2: _monitored(CaptureObject(3, "1-0:1.7.0*255", 2)),
                3: lambda ask: u32(self.threshold(ask.now)),
                4: lambda _: u32(self.normal),
                5: lambda _: u32(self.emergency),
                6: lambda _: u32(self.over_s),
                7: lambda _: u32(self.under_s),
                8: lambda _: self._profile_data(),
                9: lambda _: array(*(u16(group) for group in self.groups)),
                10: lambda ask: boolean(self.emergency_active(ask.now)),
                11: lambda _: structure(_script(self.over), _script(self.under)),
            },
            {
                4: lambda ask, value: self._change(ask, "normal", value),
                5: lambda ask, value: self._change(ask, "emergency", value),
                6: lambda ask, value: self._change(ask, "over_s", value),
                7: lambda ask, value: self._change(ask, "under_s", value),
                8: self._set_profile,
                9: self._set_groups,
                11: self._set_actions,
            },
        )

    def _profile_data(self) -> Data:
        return structure(u16(self.profile.number), octets(self.profile.activation), u32(self.profile.duration))

    def _change(self, ask: Ask, name: Literal["normal", "emergency", "over_s", "under_s"], value: Data) -> None:
        setattr(self, name, typed(value, Tag.DOUBLE_LONG_UNSIGNED).value)
        self._logs.add(DISCONNECTOR, ask.now, Code.LIMIT_CHANGED)

    def _set_profile(self, ask: Ask, value: Data) -> None:
        parts = typed(value, Tag.STRUCTURE).value
        if [part.tag for part in parts] != [Tag.LONG_UNSIGNED, Tag.OCTET_STRING, Tag.DOUBLE_LONG_UNSIGNED]:
            raise Denied(DataAccessResult.TYPE_UNMATCHED)
        if parts[1].value[:2] != b"\xff\xff":
            self._instant(parts[1].value)  # refused now rather than found out later
        self.profile = Emergency(*(part.value for part in parts))
        self._logs.add(DISCONNECTOR, ask.now, Code.LIMIT_CHANGED)

    def _set_groups(self, ask: Ask, value: Data) -> None:
        del ask
        self.groups = tuple(typed(part, Tag.LONG_UNSIGNED).value for part in typed(value, Tag.ARRAY).value)

    def _set_actions(self, ask: Ask, value: Data) -> None:
        del ask
        parts = typed(value, Tag.STRUCTURE).value
        if len(parts) != 2:
            raise Denied(DataAccessResult.TYPE_UNMATCHED)
        self.over, self.under = (_script_id(part) for part in parts)


def _script(number: int) -> Data:
    return structure(octets(logical_name(SCRIPTS)), u16(number))


def _script_id(value: Data) -> int:
    parts = typed(value, Tag.STRUCTURE).value
    if len(parts) != 2 or (parts[0].value != logical_name(SCRIPTS) and parts[1].value):
        raise Denied(DataAccessResult.OBJECT_UNDEFINED)
    return int(typed(parts[1], Tag.LONG_UNSIGNED).value)


def _monitored(what: CaptureObject) -> Data:
    return structure(u16(what.class_id), octets(logical_name(what.obis)), i8(what.attribute))
