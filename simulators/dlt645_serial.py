"""A serial line with DL/T 645 meters on it: a pseudo-terminal that keeps the true time of every character.

Half duplex and its times are those of the Modbus line; what is a request, and who answers it, is this protocol's.
"""

from collections.abc import Mapping
from pathlib import Path

from simulators.dlt645_line import Dlt645Line
from simulators.dlt645_meter import Dlt645Meter
from simulators.modbus_rtu import RtuLine, Speech


class Dlt645SerialLine(RtuLine):
    """Meters by address on one line. `start()` opens the pseudo-terminal and returns the path for a serial client."""

    def __init__(
        self,
        meters: Mapping[str, Dlt645Meter],
        *,
        path: Path | None = None,
        baud: int = 2400,
        line_format: str = "8E1",
    ) -> None:
        super().__init__({}, path=path, baud=baud, line_format=line_format)
        self.line = Dlt645Line(meters, self.character_s)
        self._scanner = self.line.scanner()

    def _understand(self, frame: bytes) -> None:
        """Take what was heard up to a silence: whole requests are answered, pieces wait for their rest."""
        for said in self.line.hear(self._scanner, frame):
            start = self._quiet_since + max(said.after_s, self.silence_s)
            self._plan(Speech(start, next(self._order), said.data))
