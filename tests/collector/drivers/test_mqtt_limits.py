import pytest

from collector.drivers.mqtt import Mapping
from collector.mqtt_profile import load_mqtt_profile
from metering.batch import Batch, decode, encode
from metering.errors import FrameError

AT = 1_795_437_900_000_000


@pytest.mark.parametrize("number", ["9223372036854775807", "123456789012345678901", "-99999999999999999999"])
def test_a_number_larger_than_any_register_is_refused_before_it_reaches_the_log(number: str) -> None:
    mapping = Mapping(load_mqtt_profile("mqtt_zigbee2mqtt"), "m1", "plug")
    topic = next(topic for topic in mapping.topics if not mapping.tells_state(topic))
    with pytest.raises(FrameError, match="larger than any meter's register"):
        mapping.map(topic, b'{"energy":' + number.encode() + b"}", AT)


def test_the_largest_number_that_is_taken_can_be_committed() -> None:
    mapping = Mapping(load_mqtt_profile("mqtt_zigbee2mqtt"), "m1", "plug")
    topic = next(topic for topic in mapping.topics if not mapping.tells_state(topic))
    blocks = mapping.map(topic, b'{"energy":9000000000}', AT)
    assert list(decode(encode(Batch(AT, blocks))).blocks[0].values) == list(blocks[0].values)
