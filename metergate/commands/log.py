"""`metergate log inspect`: what a log holds, line by line, beside a running gateway or without one. Changes nothing."""

from pathlib import Path

from metergate.parts import log_directory
from metering import timing
from metering.errors import ConfigError
from storage.inspect import describe
from storage.quarantine import QuarantineItem, read_items

PREVIEW_BYTES = 200


def inspect(directory: Path, *, with_quarantine: bool) -> None:
    """Print a log; `directory` is the log's own or a gateway's data folder."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no folder; give the `data` folder of the site file, or its log folder")
    inside = log_directory(directory)
    log = inside if inside.is_dir() else directory
    for line in describe(log):
        print(line)
    folder = log.parent / "quarantine"
    items = list(read_items(folder)) if folder.is_dir() else []
    if items and not with_quarantine:
        print(f"  quarantine of the gateway  {len(items)} entries; show them with --quarantine")
    if with_quarantine:
        for item in items:
            print(_line(item))
        if not items:
            print("  quarantine of the gateway  empty")


def _line(item: QuarantineItem) -> str:
    preview = ascii(item.payload[:PREVIEW_BYTES].decode("latin-1"))
    when = timing.to_rfc3339(item.at)
    return f"  quarantine of the gateway  {when}  {item.origin}  {item.reason}  {item.size} B  {preview}"
