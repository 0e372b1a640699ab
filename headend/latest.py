"""The latest current value of each channel, in pages by device and channel. It knows no tokens: a sight does."""

from collections.abc import Sequence

from headend.readings import pack_cursor, unpack_cursor
from headend.rows import Row
from headend.sight import Sight
from metering.model import Kind
from metering.ports import Reading, ReadingsStore

DEVICES_AT_ONCE = 64  # of which the latest values are fetched together


def latest_page(
    store: ReadingsStore, sight: Sight, devices: Sequence[str], kinds: Sequence[Kind], limit: int, cursor: str
) -> tuple[list[Row], str]:
    """Return at most `limit` rows in the order of (device, channel), and the next page's cursor; empty on the last.

    Raises:
        BadRequestError: the cursor is none of this question.

    """
    about = ("latest", kinds)
    after = unpack_cursor(cursor, about, (str, str)) if cursor else ("", "")
    rows: list[Row] = []
    last = ("", "")
    waiting = [device for device in sorted(devices) if device >= str(after[0])]
    for index in range(0, len(waiting), DEVICES_AT_ONCE):
        found = store.latest(waiting[index : index + DEVICES_AT_ONCE], kinds)
        for key, reading in sorted(((_key(each), each) for each in found), key=lambda pair: pair[0]):
            if key <= after or not sight.sees(reading.channel.device, reading.measured_at):
                continue
            if len(rows) == limit:
                return rows, pack_cursor(about, *last)
            rows.append(sight.row(reading))
            last = key
    return rows, ""


def _key(reading: Reading) -> tuple[str, str]:
    channel = reading.channel
    column = channel.column
    parts = (column.obis, channel.kind, channel.source, channel.interval, column.unit, column.scale, column.number)
    return channel.device, "|".join(map(str, parts))
