"""What a gateway tells about itself while it runs. Plain values."""

from dataclasses import dataclass

from collector.bus import BusStatus
from collector.mqtt import ListenerStatus
from gateway.memories import MemoryStatus
from gateway.recorder import RecorderStatus


@dataclass(frozen=True)
class GatewayStatus:
    """Its meters, wires and log. `meters` counts those that publish by themselves as well."""

    id: str
    meters: int
    buses: dict[str, BusStatus]
    listener: ListenerStatus | None
    recorder: RecorderStatus
    clock_suspect: bool
    clock_steps: int
    refused: dict[str, str]  # meters that are not read, with the reason
    memories: dict[str, MemoryStatus]  # meters that keep profiles of their own or have a clock
