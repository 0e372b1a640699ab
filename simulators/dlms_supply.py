"""The switch of a simulated meter: disconnect control (class 70) and the script tables (class 9). Not the limiter.

The table of transitions is the Blue Book's (class 70); what flows behind the switch is `simulators.meter.Meter`.
"""

from collections.abc import Callable
from typing import Literal

from collector.protocols.dlms.axdr import Data, Tag, array, boolean, enum_, i8, null, octets, structure, u16
from collector.protocols.dlms.references import DataAccessResult, logical_name
from simulators.dlms_events import DISCONNECTOR, Code, EventLogs
from simulators.dlms_objects import Ask, CosemObject, Denied, typed
from simulators.meter import Meter

DISCONNECTED, CONNECTED, READY = 0, 1, 2  # control_state

Cause = Literal[
    "remote_disconnect",
    "manual_disconnect",
    "local_disconnect",
    "remote_reconnect",
    "manual_reconnect",
    "local_reconnect",
]

# (from, to) of each transition letter.
_LETTERS = {"a": (0, 1), "b": (1, 0), "c": (2, 0), "d": (0, 2), "e": (2, 1), "f": (1, 2), "g": (1, 2), "h": (2, 1)}
# control_mode -> cause -> the transitions it may take (Blue Book class 70, table of control modes).
TRANSITIONS: dict[int, dict[str, str]] = {
    0: {},
    1: {"remote_disconnect": "bc", "manual_disconnect": "f", "local_disconnect": "g"}
    | {"remote_reconnect": "d", "manual_reconnect": "e"},
    2: {"remote_disconnect": "bc", "manual_disconnect": "f", "local_disconnect": "g"}
    | {"remote_reconnect": "a", "manual_reconnect": "e"},
    3: {"remote_disconnect": "bc", "local_disconnect": "g", "remote_reconnect": "d", "manual_reconnect": "e"},
    4: {"remote_disconnect": "bc", "local_disconnect": "g", "remote_reconnect": "a", "manual_reconnect": "e"},
    5: {"remote_disconnect": "bc", "manual_disconnect": "f", "local_disconnect": "g"}
    | {"remote_reconnect": "d", "manual_reconnect": "e", "local_reconnect": "h"},
    6: {"remote_disconnect": "bc", "local_disconnect": "g"}
    | {"remote_reconnect": "d", "manual_reconnect": "e", "local_reconnect": "h"},
}
_EVENTS = {
    "remote_disconnect": Code.REMOTE_DISCONNECT,
    "manual_disconnect": Code.MANUAL_DISCONNECT,
    "local_disconnect": Code.LOCAL_DISCONNECT,
    "manual_reconnect": Code.MANUAL_CONNECT,
    "local_reconnect": Code.LOCAL_CONNECT,
}
SCRIPTS = "0-0:10.0.106*255"
DISCONNECT, RECONNECT = 1, 2  # script ids


def target(state: int, mode: int, cause: str) -> int | None:
    """Return the control_state after `cause`, or None where this mode has no such transition from `state`."""
    pairs = (_LETTERS[letter] for letter in TRANSITIONS.get(mode, {}).get(cause, ""))
    return next((to for source, to in pairs if source == state), None)


class Disconnector:
    """The switch of one meter. `operate` is what a command, a button or the limiter does to it."""

    def __init__(self, meter: Meter, logs: EventLogs, *, mode: int) -> None:
        self.mode = mode
        self.state = CONNECTED if meter.supply_on else DISCONNECTED
        self.stuck = False  # the contact does not move: states change, the output does not
        self._meter = meter
        self._logs = logs

    def operate(self, cause: Cause, now: int) -> bool:
        """Change the state as the mode has it; False where it has no such transition."""
        after = target(self.state, self.mode, cause)
        if after is None:
            return False
        self.state = after
        if not self.stuck:
            self._meter.switch_supply(on=after == CONNECTED, at=now)
        reconnected = Code.REMOTE_CONNECT if after == CONNECTED else Code.DISCONNECT_READY
        self._logs.add(DISCONNECTOR, now, _EVENTS.get(cause, reconnected))
        return True

    def push_button(self, now: int) -> bool:
        """Let the customer press the button: connect where the meter is ready, disconnect where the mode allows."""
        return self.operate("manual_reconnect", now) or self.operate("manual_disconnect", now)

    def as_object(self) -> CosemObject:
        """Return the object: 2 output_state, 3 control_state, 4 control_mode; 1 remote_disconnect, 2 ..._reconnect."""
        return CosemObject(
            70,
            "0-0:96.3.10*255",
            {
                2: lambda _: boolean(self._meter.supply_on),
                3: lambda _: enum_(self.state),
                4: lambda _: enum_(self.mode),
            },
            {4: self._set_mode},
            {
                1: lambda ask, value: self._command(ask, value, "remote_disconnect"),
                2: lambda ask, value: self._command(ask, value, "remote_reconnect"),
            },
        )

    def _set_mode(self, ask: Ask, value: Data) -> None:
        del ask
        mode = typed(value, Tag.ENUM).value
        if mode not in TRANSITIONS:
            raise Denied(DataAccessResult.OTHER_REASON)
        self.mode = mode

    def _command(self, ask: Ask, value: Data | None, cause: Cause) -> None:
        if value is not None and value.tag is not Tag.NULL:
            typed(value, Tag.INTEGER)
        if not self.operate(cause, ask.now):
            raise Denied(DataAccessResult.TEMPORARY_FAILURE)


def script_table(obis: str, scripts: dict[int, tuple[Callable[[Ask], object], Data]]) -> CosemObject:
    """Return an object of class 9: 2 scripts (id -> what it does, its action specification), 1 execute."""

    def execute(ask: Ask, parameter: Data | None) -> None:
        script = scripts.get(typed(parameter, Tag.LONG_UNSIGNED).value)
        if script is None:
            raise Denied(DataAccessResult.OBJECT_UNDEFINED)
        if script[0](ask) is False:
            raise Denied(DataAccessResult.TEMPORARY_FAILURE)

    shown = array(*(structure(u16(number), array(action)) for number, (_, action) in scripts.items()))
    return CosemObject(9, obis, {2: shown}, act={1: execute})


def action_specification(class_id: int, obis: str, method: int, parameter: Data) -> Data:
    """Return what a script does: execute a method (service 2)."""
    return structure(enum_(2), u16(class_id), octets(logical_name(obis)), i8(method), parameter)


def disconnector_scripts(switch: Disconnector) -> CosemObject:
    """Return the script table of the switch: 1 disconnects, 2 reconnects."""
    name = "0-0:96.3.10*255"
    return script_table(
        SCRIPTS,
        {
            DISCONNECT: (
                lambda ask: switch.operate("remote_disconnect", ask.now),
                action_specification(70, name, 1, i8(0)),
            ),
            RECONNECT: (
                lambda ask: switch.operate("remote_reconnect", ask.now),
                action_specification(70, name, 2, i8(0)),
            ),
        },
    )


def max_demand_scripts(reset: Callable[[Ask], object]) -> CosemObject:
    """Return the script table of the end of billing: 1 captures the billing profile and begins maxima anew."""
    return script_table("0-0:10.0.1*255", {1: (reset, action_specification(7, "0-0:98.1.0*255", 2, null()))})
