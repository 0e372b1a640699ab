"""Where registers of a head-end's devices turn over, for the intervals that are derived from them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from collector.mqtt_profile import MqttProfile
from gateway.models import load_any
from headend.registry import EVERYWHERE
from headend.state.registry import DatabaseRegistry
from metering.errors import ConfigError

_log = structlog.get_logger(__name__)


class Turnovers(Mapping[str, Mapping[str, int]]):
    """For each device of the registry, the values at which its registers turn over, as its model's file says."""

    def __init__(self, registry: DatabaseRegistry, profiles: Path | None) -> None:
        self._registry = registry
        self._profiles = profiles
        self._of: dict[str, Mapping[str, int]] = {}  # by model: a file is read once

    def __getitem__(self, device: str) -> Mapping[str, int]:
        found = self._registry.device(device)
        if found is None:
            raise KeyError(device)
        if found.profile not in self._of:
            self._of[found.profile] = self._load(found.profile)
        return self._of[found.profile]

    def _load(self, name: str) -> Mapping[str, int]:
        try:
            profile = load_any(name, self._profiles)
        except ConfigError as error:  # the file was there when the meter was registered
            _log.error("a meter's model cannot be read: its registers never turn over", model=name, reason=str(error))
            return {}
        return {} if isinstance(profile, MqttProfile) else profile.moduli()

    def __iter__(self) -> Iterator[str]:
        return (device.id for device in self._registry.devices((EVERYWHERE,)))

    def __len__(self) -> int:
        return sum(1 for _ in self)
