"""Reads a DLMS meter's own profiles as blocks (capability `ProfileReader`): load, daily, billing. Keeps no ledger."""

from collections.abc import Sequence

from collector.capabilities import Depth, Talk
from collector.dlms_tables import ProfileSpec
from collector.drivers.dlms import DlmsDriver
from collector.drivers.dlms_buffer import Buffer, BufferSpec, Piece
from collector.drivers.dlms_rows import Grid, to_blocks
from collector.drivers.dlms_talk import own_talk
from metering.errors import MeterError
from metering.model import SECOND, Block, Kind

DAY_S = 86_400
HOUR_S = 3_600
# Bytes on the wire, for forecasts: of a row's clock, of each other column, and what framing and ciphering add to it.
CLOCK_BYTES, COLUMN_BYTES, USUAL_COLUMNS, FRAMING = 16, 5, 6, 1.2


class DlmsProfileReader:
    """One profile of one meter. `byte_s` is how long a byte takes on its line (s; 0 on a network).

    `interval`, `depth`, `row_s` and `channels` are the meter's own once `prepare` has asked it, and before that what
    its model's file says.
    """

    def __init__(self, driver: DlmsDriver, spec: ProfileSpec, *, byte_s: float = 0.0) -> None:
        self._driver = driver
        self._spec = spec
        self._byte_s = byte_s
        self._buffer = Buffer(
            driver,
            BufferSpec(
                spec.name,
                spec.obis,
                spec.columns,
                spec.null,
                spec.access,
                int(spec.period),
                spec.range_object,
                spec.scaler_profile,
            ),
        )
        self.name = spec.name
        self.role = spec.role
        self.interval = int(spec.period)
        self.depth = Depth(spec.depth.entries, spec.depth.days)
        self.piece_rows = spec.piece_rows
        self.channels: Sequence[tuple[Kind, tuple[str, ...]]] = ()
        self.row_s = self._row_time(USUAL_COLUMNS)

    async def prepare(self, talk: Talk) -> None:
        """Read the profile's capture objects, period, size and scalers, where they are not known.

        Raises:
            RefusedError: the meter has no such profile.
            FrameError: its capture objects make no profile.
            MeterError: as `DlmsTalk.run`.

        """
        try:
            if not await self._buffer.learn(own_talk(talk)):
                return
        except MeterError as error:
            error.meter = error.meter or self._driver.device
            raise
        shape = self._buffer.shape
        if shape is None:
            return
        self.interval = self._buffer.period
        entries = self._buffer.entries or self._spec.depth.entries
        days = self._spec.depth.days or entries * self.interval // DAY_S
        self.depth = Depth(entries, days)
        self.row_s = self._row_time(len(shape.columns) - 1)
        kinds = dict.fromkeys(column.kind for column in shape.values)
        self.channels = tuple(
            (kind, tuple(column.obis for column in shape.values if column.kind is kind)) for kind in kinds
        )

    async def read_profile(self, talk: Talk, start: int, end: int, *, into: list[Block]) -> None:
        """Append the rows with start < slot <= end (UTC us), one block for each kind, as `ProfileReader` says.

        A row off the boundary has no slot: it is there by its own time, and flagged.

        Raises:
            RefusedError: the meter does not give them.
            FrameError: what came is no profile.
            MeterError: as `DlmsTalk.run`.

        """
        await self.prepare(talk)
        grid = Grid(
            self.interval, beginning=self._spec.stamps == "beginning", tolerance=round(self._spec.tolerance * SECOND)
        )
        # What the meter stamps is earlier than its slot by an interval, whose days have 23 to 25 hours.
        earlier = (self.interval + (HOUR_S if self.interval > HOUR_S else 0)) * SECOND if grid.beginning else 0
        pieces: list[Piece] = []
        try:
            await self._buffer.between(
                own_talk(talk), start - earlier - grid.tolerance, end + grid.tolerance, self.piece_rows, pieces
            )
        except MeterError as error:
            error.meter = error.meter or self._driver.device
            raise
        finally:
            for piece in pieces:
                self._append(piece, grid, start, end, into)

    def _append(self, piece: Piece, grid: Grid, start: int, end: int, into: list[Block]) -> None:
        shape = self._buffer.shape
        if shape is None:
            return
        driver = self._driver
        blocks = to_blocks(piece.rows, piece.raw, shape, grid, driver.time, driver.device, piece.ended_at)
        into += [block for block in blocks if start < (block.measured_at if block.slot is None else block.slot) <= end]

    def _row_time(self, columns: int) -> float:
        return self._byte_s * FRAMING * (CLOCK_BYTES + COLUMN_BYTES * columns)
