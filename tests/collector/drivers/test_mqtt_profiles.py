"""Every profile of an MQTT device carries its own messages; this runs them all."""

from pathlib import Path

import pytest

from collector.drivers.mqtt import Mapping
from collector.mqtt_profile import TestSpec, load_mqtt_profile, mqtt_profile_names
from metering.errors import ConfigError, FrameError
from metering.model import Block, Source
from metering.quality import codes
from metering.timing import from_rfc3339
from metering.values import to_text

CASES = [
    pytest.param(name, case, id=f"{name}-{number}-{case.topic}")
    for name in mqtt_profile_names()
    for number, case in enumerate(load_mqtt_profile(name).test)
]


def shown(blocks: list[Block]) -> dict[str, str]:
    readings = {}
    for block in blocks:
        for index, column in enumerate(block.layout.columns):
            value = block.values[index]
            text = "-" if value is None else to_text(value, column.scale, column.number)
            flags = [code.name for code in codes(block.quality_of(index)) if code.name != "valid"]
            readings[column.obis] = " ".join(part for part in (text, column.unit, *flags) if part)
    return readings


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_message_gives_exactly_the_readings_of_its_profile(name: str, case: TestSpec):
    mapping = Mapping(load_mqtt_profile(name), "device1", case.device, case.parameters, case.serial)
    received = from_rfc3339(case.received)
    if mapping.tells_state(case.topic):
        if case.error:
            with pytest.raises(FrameError, match=case.error):
                mapping.state(case.topic, case.payload.encode())
            return
        assert mapping.state(case.topic, case.payload.encode()) is case.online
        return
    assert case.online is None
    if case.error:
        with pytest.raises(FrameError) as caught:
            mapping.map(case.topic, case.payload.encode(), received, retained=case.retained)
        assert case.error in str(caught.value)
        assert caught.value.meter == "device1"
        return
    blocks = mapping.map(case.topic, case.payload.encode(), received, retained=case.retained)
    assert shown(blocks) == case.readings
    for block in blocks:
        assert (block.device, block.received_at, block.slot) == ("device1", received, None)
        assert (block.layout.source, block.layout.interval) == (Source.PUSH, 0)
        assert block.measured_at == from_rfc3339(case.at or case.received)


def test_a_profile_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(ConfigError, match=r"there is no profile 'mqtt_shelly_9em'; known are .*mqtt_shelly_3em"):
        load_mqtt_profile("mqtt_shelly_9em")


def test_a_wrong_key_in_a_profile_names_file_and_line(tmp_path: Path):
    text = Path("collector/profiles/mqtt_shelly_em.toml").read_text().replace("decimals = 4", "decimal = 4", 1)
    (tmp_path / "mqtt_shelly_em.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_mqtt_profile("mqtt_shelly_em", tmp_path)
    assert "mqtt_shelly_em.toml:" in str(caught.value)
    assert "decimal" in str(caught.value)
    assert caught.value.line > 0


def test_one_channel_with_two_units_is_a_wrong_profile(tmp_path: Path):
    path = tmp_path / "mqtt_twice.toml"
    path.write_text(
        'name = "mqtt_twice"\nmaker = "x"\nmodel = "x"\nsource = "x"\nverified = false\n'
        '[[message]]\ntopic = "{topic}/a"\nformat = "number"\n'
        'channels = [{ obis = "1-0:1.8.0*255", unit = "kWh", decimals = 3 }]\n'
        '[[message]]\ntopic = "{topic}/b"\nformat = "number"\n'
        'channels = [{ obis = "1-0:1.8.0*255", unit = "Wh", decimals = 3 }]\n'
        '[[test]]\ntopic = "meter1/a"\npayload = "1"\n'
    )
    with pytest.raises(ConfigError, match="two units"):
        load_mqtt_profile("mqtt_twice", tmp_path)
