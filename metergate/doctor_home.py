"""What can be wrong on the gateway's own machine: data folder, log, store, clock. Looks, and changes nothing."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from metergate.findings import Finding, State
from metergate.parts import log_directory, open_store
from metergate.probe import gateway_runs
from metergate.site import EmbeddedSettings, SiteFile
from metering import timing
from metering.errors import ConfigError, StorageError
from metering.model import SECOND
from storage.inspect import describe
from storage.quarantine import read_items
from storage.segment import list_segments
from storage.shelf import TOMBSTONES_FILE
from storage.tombstones import load_tombstones

MIB = 1 << 20
LOW_SPACE = 10  # times `min_free`: below it the disk is worth a word
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
TIMEX_BYTES = 256  # room for its struct timex
DAMAGE = ("damaged", "missing", "cannot be read", "unreadable")


def look(site: SiteFile) -> Iterator[Finding]:
    """Yield what there is to say about the machine, most basic first."""
    data = site.gateway.data
    if not data.is_dir():
        yield _absent(data)
    else:
        yield from _disk(site, data)
        yield from _log(data)
    yield _store(site)
    yield from _clock(data)


def _absent(data: Path) -> Finding:
    parent = next(folder for folder in (data, *data.absolute().parents) if folder.is_dir())
    if os.access(parent, os.W_OK):
        return Finding(State.NOTE, "data", f"{data} is not there yet; the first start makes it")
    todo = f"make it, and give it to the user who runs metergate (install -d -o metergate {data})"
    return Finding(State.WRONG, "data", f"{data} is not there and cannot be made", todo)


def _disk(site: SiteFile, data: Path) -> Iterator[Finding]:
    if not os.access(data, os.W_OK | os.X_OK):
        yield Finding(State.WRONG, "data", f"{data} cannot be written", "chown it to the user who runs metergate")
    free, least = shutil.disk_usage(data).free, site.gateway.log.min_free
    text = f"{data} has {free / MIB:,.0f} MiB free"
    if free < least:
        yield Finding(State.WRONG, "disk", f"{text}, so the log accepts nothing", "make room or lower log.max_size")
    elif free < least * LOW_SPACE:
        yield Finding(State.NOTE, "disk", f"{text}; below {least / MIB:,.0f} MiB the log accepts nothing")
    else:
        yield Finding(State.OK, "disk", text)


def _log(data: Path) -> Iterator[Finding]:
    log = log_directory(data)
    if not log.is_dir():
        yield Finding(State.NOTE, "log", "there is none yet; the first start makes it")
        return
    running = "a gateway has it open; this is its read-only view" if gateway_runs(data) else "no gateway runs here now"
    try:
        lines = list(describe(log))
    except (StorageError, OSError) as error:
        yield Finding(State.WRONG, "log", f"{error}", "keep the folder as it is and start anew with another one")
        return
    damaged = [line.strip() for line in lines if any(word in line for word in DAMAGE)]
    for line in damaged:
        yield Finding(State.WRONG, "log", line, "the disk may be failing; metergate log inspect shows the rest")
    if not damaged:
        yield Finding(State.OK, "log", f"readable; {running}")
    yield from _losses(log)
    put_aside = sum(1 for _ in read_items(data / "quarantine"))
    if put_aside:
        todo = f"metergate log inspect --quarantine {data} shows them with the reasons"
        yield Finding(State.NOTE, "quarantine", f"{put_aside} payloads could not be used", todo)


def _losses(log: Path) -> Iterator[Finding]:
    try:
        buried = load_tombstones(log / TOMBSTONES_FILE)
    except OSError:
        return
    if buried is None:
        return  # told as damaged above
    totals = buried.totals
    if totals.evicted_records:
        what = f"{totals.evicted_readings} readings were evicted before the store had them"
        yield Finding(State.WRONG, "log", what, "raise log.max_size, and see why the store did not take them")
    gone = totals.quarantined_records + totals.lost_records
    if gone:
        yield Finding(State.WRONG, "log", f"{gone} records were damaged and lost", "the disk may be failing")


def _store(site: SiteFile) -> Finding:
    where = "store"
    if isinstance(site.store, EmbeddedSettings):
        if not (site.gateway.data / "readings.db").exists():
            return Finding(State.NOTE, where, "there is none yet; the first start makes it")
        where, todo = "embedded store", "keep the file aside; it is made anew from the log"
    else:
        where, todo = f"InfluxDB {site.store.url}", "check url, token, org and bucket, and that the server runs"
    try:
        store = open_store(site)
    except ConfigError as error:
        return Finding(State.WRONG, where, str(error), "set it for the user who runs metergate")
    except StorageError as error:
        return Finding(State.WRONG, where, str(error), todo)
    try:
        store.ping()
    except StorageError as error:
        return Finding(State.WRONG, where, str(error), todo)
    finally:
        store.close()
    return Finding(State.OK, where, "can be read and written")


def _clock(data: Path) -> Iterator[Finding]:
    now = timing.now()
    segments = list_segments(log_directory(data)) if log_directory(data).is_dir() else []
    newest = max((int(path.stat().st_mtime * SECOND) for _, path in segments), default=0)
    if newest > now + SECOND:
        what = f"{timing.to_rfc3339(now)} lies before the log's newest record, {timing.to_rfc3339(newest)}"
        yield Finding(State.WRONG, "clock", what, "set it: timedatectl set-ntp true; readings are marked suspect until")
        return
    if _unsynchronised():
        yield Finding(
            State.NOTE, "clock", "no time server keeps it, so its offset is unknown", "timedatectl set-ntp true"
        )
    else:
        yield Finding(State.OK, "clock", timing.to_rfc3339(now - now % SECOND))


def _unsynchronised() -> bool:
    """Ask the kernel whether something keeps its clock (adjtimex, which with an empty order only answers)."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    return adjtimex is not None and adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)) == UNSYNCHRONISED
