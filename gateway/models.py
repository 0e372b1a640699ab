"""Which kind of profile a meter model's name means (its prefix says it), and the profile. The loaders read the file."""

from pathlib import Path
from typing import Literal

from collector.dlms_profile import DlmsProfile, is_dlms, load_dlms_profile
from collector.dlt645_profile import Dlt645Profile, is_dlt645, load_dlt645_profile
from collector.mqtt_profile import MqttProfile, is_mqtt, load_mqtt_profile
from collector.profile import Profile, load_profile

AnyProfile = Profile | DlmsProfile | Dlt645Profile | MqttProfile
Speech = Literal["modbus", "dlms", "dlt645", "mqtt"]
NAMES: dict[Speech, str] = {"modbus": "Modbus", "dlms": "DLMS", "dlt645": "DL/T 645", "mqtt": "MQTT"}


def speech_of(profile: str) -> Speech:
    """Return what meters of this model speak."""
    if is_mqtt(profile):
        return "mqtt"
    if is_dlms(profile):
        return "dlms"
    return "dlt645" if is_dlt645(profile) else "modbus"


def load_any(name: str, extra: Path | None = None) -> AnyProfile:
    """Return the profile of this name, whatever its kind.

    Raises:
        ConfigError: there is no such profile, or its file is wrong (names file, line and key).

    """
    if is_mqtt(name):
        return load_mqtt_profile(name, extra)
    if is_dlms(name):
        return load_dlms_profile(name, extra)
    return load_dlt645_profile(name, extra) if is_dlt645(name) else load_profile(name, extra)
