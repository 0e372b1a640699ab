"""What the services of a simulated meter share: what was agreed on, the request at hand, blocks that come and go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from collector.protocols.dlms import failures
from collector.protocols.dlms.acse import Conformance
from collector.protocols.dlms.invoke import Apdu
from collector.protocols.dlms.references import Access
from simulators.dlms_faults import DlmsFault
from simulators.dlms_meter import DlmsMeter
from simulators.dlms_objects import Ask, Role

BLOCK_OVERHEAD = 12  # of a get-response with a block: tag, kind, invoke, last, number, choice, length
UNLIMITED_PDU = 0xFFFF

NOT_POSSIBLE = failures.ExceptionResponse(failures.NOT_ALLOWED, failures.NOT_POSSIBLE)
UNKNOWN = failures.ExceptionResponse(failures.UNKNOWN_SERVICE, failures.NOT_SUPPORTED)


class Agreed(NamedTuple):
    """What the association agreed on: services, the longest plain APDU that the client takes, who it is."""

    conformance: Conformance
    max_pdu: int
    client: int
    role: Role


@dataclass
class Outgoing:
    """A value that leaves in blocks."""

    raw: bytes
    size: int
    number: int = 0

    def next(self) -> tuple[bool, int, bytes]:
        """Return last, number and raw data of the next block."""
        start = self.number * self.size
        self.number += 1
        return start + self.size >= len(self.raw), self.number, self.raw[start : start + self.size]


@dataclass
class Incoming:
    """A value that comes in blocks: `done` answers when it is whole."""

    done: Callable[[int, int, bytes], Apdu]
    raw: bytearray = field(default_factory=bytearray)
    number: int = 0


@dataclass
class Turn:
    """One association's services: the meter, what was agreed on, and the request that is being answered."""

    meter: DlmsMeter
    agreed: Agreed
    now: int = 0
    fault: DlmsFault | None = None

    def ask(self, access: Access | None = None) -> Ask:
        """Return who asks and when."""
        return Ask(self.now, self.agreed.role, access, self.agreed.client)

    def struck_by(self, *kinds: str) -> bool:
        """Tell whether one of these faults strikes this request."""
        return self.fault is not None and self.fault.kind in kinds

    def block_size(self) -> int:
        """Return the bytes of a block's raw data."""
        most = max(self.agreed.max_pdu - BLOCK_OVERHEAD, 1)
        return min(self.meter.settings.access.block_size or most, most)
