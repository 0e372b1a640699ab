"""What MQTT meters of each kind publish at an instant: topics and payloads as real devices shape them. No network.

Energies are cut to the device's resolution, never rounded up: a register shows only what has flowed.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from metering.model import SECOND
from metering.timing import to_rfc3339
from metering.values import scaled_text
from simulators.fleet_file import MqttKind
from simulators.meter import Meter

MINUTE = 60 * SECOND
LOW_TARIFF_PERCENT = 60  # of the energy runs in tariff 1


class Message(NamedTuple):
    """One publish."""

    topic: str
    payload: bytes
    retain: bool = False


class Kind(NamedTuple):
    """How one kind of device is reached: its profile, what stands for {topic}, and what it publishes."""

    profile: str
    topic: str  # with {id}
    online: str  # the topic of its state, with {topic}; empty where it has none
    texts: tuple[str, str]  # online, offline
    publish: Callable[["Moment"], Sequence[Message]]


class Moment(NamedTuple):
    """A meter at an instant: `now` and `previous` (its last publish, 0 before the first) in us since 1970 UTC."""

    meter: Meter
    topic: str
    now: int
    previous: int
    zone: ZoneInfo

    def shown(self, obis: str, decimals: int, *, kilo: bool = False) -> str:
        """Return a quantity as decimal text: cut to `decimals`, in thousands of the base unit with `kilo`."""
        return _cut(self.meter.values(self.now)[f"1-0:{obis}*255"], decimals, kilo=kilo)

    def number(self, obis: str, decimals: int, *, kilo: bool = False) -> float:
        """Return the same as a JSON number."""
        return float(self.shown(obis, decimals, kilo=kilo))

    @property
    def clock(self) -> int:
        """Return what the meter's own clock shows."""
        return self.meter.clock(self.now)


def _cut(micro: int, decimals: int, *, kilo: bool = False) -> str:
    sign = -1 if micro < 0 else 1
    return scaled_text(sign * (abs(micro) // 10 ** ((9 if kilo else 6) - decimals)), -decimals)


def _json(topic: str, content: object, *, retain: bool = False) -> Message:
    return Message(topic, json.dumps(content, separators=(",", ":")).encode(), retain)


def _shelly_3em(at: Moment) -> list[Message]:
    found = []
    for index in range(3):
        base = 20 * (index + 1)
        values = {
            "power": at.shown(f"{base + 16}.7.0", 2),
            "pf": at.shown(f"{base + 13}.7.0", 2),
            "current": at.shown(f"{base + 11}.7.0", 2),
            "voltage": at.shown(f"{base + 12}.7.0", 2),
            "total": at.shown(f"{base + 1}.8.0", 1),
            "returned_total": at.shown(f"{base + 2}.8.0", 1),
        }
        found += [Message(f"{at.topic}/emeter/{index}/{name}", text.encode()) for name, text in values.items()]
    return found


def _shelly_pro_3em(at: Moment) -> list[Message]:
    power: dict[str, object] = {"id": 0}
    energy: dict[str, object] = {"id": 0}
    for index, phase in enumerate("abc", start=1):
        base = 20 * index
        power |= {
            f"{phase}_current": at.number(f"{base + 11}.7.0", 3),
            f"{phase}_voltage": at.number(f"{base + 12}.7.0", 1),
            f"{phase}_act_power": at.number(f"{base + 16}.7.0", 1),
            f"{phase}_aprt_power": at.number(f"{base + 9}.7.0", 1),
            f"{phase}_pf": at.number(f"{base + 13}.7.0", 2),
            f"{phase}_freq": at.number("14.7.0", 1),
        }
        energy[f"{phase}_total_act_energy"] = at.number(f"{base + 1}.8.0", 2)
        energy[f"{phase}_total_act_ret_energy"] = at.number(f"{base + 2}.8.0", 2)
    power |= {
        "n_current": None,
        "total_current": at.number("11.7.0", 3),
        "total_act_power": at.number("16.7.0", 1),
        "total_aprt_power": at.number("9.7.0", 1),
    }
    energy |= {"total_act": at.number("1.8.0", 2), "total_act_ret": at.number("2.8.0", 2)}
    found = [_notification(at, {"em:0": power})]
    if at.now // MINUTE != at.previous // MINUTE:  # the device publishes its energies once a minute
        found.append(_notification(at, {"emdata:0": energy}))
    return found


def _notification(at: Moment, components: dict[str, object]) -> Message:
    params: dict[str, object] = {"ts": at.clock // 10_000 / 100, **components}
    content = {"src": at.topic, "dst": f"{at.topic}/events", "method": "NotifyStatus", "params": params}
    return _json(f"{at.topic}/events/rpc", content)


def _tasmota(at: Moment) -> list[Message]:
    local = datetime.fromtimestamp(at.clock // SECOND, UTC).astimezone(at.zone)
    phases = (20, 40, 60)
    energy = {
        "TotalStartTime": "2026-01-01T00:00:00",
        "Total": at.number("1.8.0", 3, kilo=True),
        "ExportActive": at.number("2.8.0", 3, kilo=True),
        "Power": [int(at.number(f"{base + 16}.7.0", 0)) for base in phases],
        "ApparentPower": [int(at.number(f"{base + 9}.7.0", 0)) for base in phases],
        "ReactivePower": [int(at.number(f"{base + 131}.7.0", 0)) for base in phases],
        "Factor": [at.number(f"{base + 13}.7.0", 2) for base in phases],
        "Frequency": at.number("14.7.0", 1),
        "Voltage": [int(at.number(f"{base + 12}.7.0", 0)) for base in phases],
        "Current": [at.number(f"{base + 11}.7.0", 3) for base in phases],
    }
    return [_json(f"tele/{at.topic}/SENSOR", {"Time": f"{local:%Y-%m-%dT%H:%M:%S}", "ENERGY": energy})]


def _dsmr_reader(at: Moment) -> list[Message]:
    totals = at.meter.values(at.now)
    fields: dict[str, object] = {}
    for name, obis in (("delivered", "1-0:1.8.0*255"), ("returned", "1-0:2.8.0*255")):
        low = totals[obis] * LOW_TARIFF_PERCENT // 100
        fields[f"electricity_{name}_1"] = _cut(low, 3, kilo=True)
        fields[f"electricity_{name}_2"] = _cut(totals[obis] - low, 3, kilo=True)
    fields["electricity_currently_delivered"] = at.shown("1.7.0", 3, kilo=True)
    fields["electricity_currently_returned"] = at.shown("2.7.0", 3, kilo=True)
    for phase in (1, 2, 3):
        base = 20 * phase
        fields[f"phase_currently_delivered_l{phase}"] = at.shown(f"{base + 1}.7.0", 3, kilo=True)
        fields[f"phase_currently_returned_l{phase}"] = at.shown(f"{base + 2}.7.0", 3, kilo=True)
        fields[f"phase_voltage_l{phase}"] = at.shown(f"{base + 12}.7.0", 1)
        fields[f"phase_power_current_l{phase}"] = int(at.number(f"{base + 11}.7.0", 0))
    base_topic = at.topic.removesuffix("/json")
    split = [Message(f"{base_topic}/reading/{name}", str(value).encode()) for name, value in fields.items()]
    stamp = to_rfc3339(at.clock - at.clock % SECOND)
    return [*split, _json(at.topic, {"id": at.now // SECOND, "timestamp": stamp, **fields})]


def _zigbee2mqtt(at: Moment) -> list[Message]:
    content = {
        "current": at.number("11.7.0", 2),
        "energy": at.number("1.8.0", 2, kilo=True),
        "linkquality": 156,
        "power": at.number("16.7.0", 0),
        "produced_energy": at.number("2.8.0", 2, kilo=True),
        "state": "ON",
        "voltage": at.number("12.7.0", 1),
        "ac_frequency": at.number("14.7.0", 2),
        "last_seen": to_rfc3339(at.clock - at.clock % 1000),
    }
    return [_json(f"zigbee2mqtt/{at.topic}", content)]


def _metergate(at: Moment) -> list[Message]:
    shown = {f"1-0:{code}.8.0*255": ("kWh", at.shown(f"{code}.8.0", 4, kilo=True)) for code in (1, 2)}
    shown |= {f"1-0:{code}.7.0*255": ("W", at.shown(f"{code}.7.0", 1)) for code in (16, 36, 56, 76)}
    shown |= {f"1-0:{code}.7.0*255": ("V", at.shown(f"{code}.7.0", 1)) for code in (32, 52, 72)}
    shown |= {f"1-0:{code}.7.0*255": ("A", at.shown(f"{code}.7.0", 3)) for code in (31, 51, 71)}
    shown["1-0:14.7.0*255"] = ("Hz", at.shown("14.7.0", 2))
    readings = {obis: {"value": text, "unit": unit} for obis, (unit, text) in shown.items()}
    content = {"time": to_rfc3339(at.clock - at.clock % 1000), "serial": at.meter.serial, "readings": readings}
    return [_json(f"{at.topic}/readings", content)]


KINDS: dict[MqttKind, Kind] = {
    "shelly_3em": Kind("mqtt_shelly_3em", "shellies/shellyem3-{id}", "{topic}/online", ("true", "false"), _shelly_3em),
    "shelly_pro_3em": Kind(
        "mqtt_shelly_pro_3em", "shellypro3em-{id}", "{topic}/online", ("true", "false"), _shelly_pro_3em
    ),
    "tasmota": Kind("mqtt_tasmota", "{id}", "tele/{topic}/LWT", ("Online", "Offline"), _tasmota),
    "dsmr_reader": Kind("mqtt_dsmr_reader_json", "dsmr-{id}/json", "", ("", ""), _dsmr_reader),
    "zigbee2mqtt": Kind(
        "mqtt_zigbee2mqtt",
        "{id}",
        "zigbee2mqtt/{topic}/availability",
        ('{"state":"online"}', '{"state":"offline"}'),
        _zigbee2mqtt,
    ),
    "metergate": Kind("mqtt_metergate", "meters/{id}", "{topic}/status", ("online", "offline"), _metergate),
}
