"""`metergate clock`: a meter's clock read, and set on a person's word, while the gateway is stopped."""

import asyncio
import contextlib
import sys
from pathlib import Path

from collector.capabilities import ClockReading
from gateway.clocks import ClockStatus
from metergate.advice import Place, advice
from metergate.commands.read import meter_of
from metergate.parts import build
from metergate.probe import ReadError, bus_of, gateway_runs, meter_on_bus
from metergate.site import SiteFile, load_site
from metergate.site_keys import check_keys
from metering.errors import MeterError, StorageError
from metering.model import SECOND


def run_clock(file: Path, meter: str, *, set_it: bool) -> None:
    """Read a meter's clock and print offset and drift; set it where that is asked for.

    The rows that a setting touches are read before and kept in the site's log.

    Raises:
        ConfigError: the file is wrong or has no such meter.
        ReadError: it could not be done; says whose fault it is and what to do.

    """
    site = load_site(file)
    if meter_of(site, meter).topic is not None:
        raise ReadError(f"{meter} publishes by itself; its clock cannot be asked")
    check_keys(file, site, meter)
    if gateway_runs(site.gateway.data):
        raise ReadError(
            f"the gateway runs and has the meters: set the clock by its API (POST /v1/devices/{meter}/clock), or stop "
            "it first; the offset is a reading, 0-0:1.0.0*255"
        )
    with contextlib.redirect_stdout(sys.stderr):  # what is logged meanwhile is no result
        before, after, status = asyncio.run(_ask(file, site, meter, set_it=set_it))
    print(f"{meter}: {_told(before)}; drift {_drift(status)}")
    if after is not None:
        print(f"{meter}: set; {_told(after)}")


async def _ask(
    file: Path, site: SiteFile, meter: str, *, set_it: bool
) -> tuple[ClockReading, ClockReading | None, ClockStatus]:
    try:
        parts = build(site, with_api=False)
    except StorageError as error:
        raise ReadError(str(error)) from None
    gateway = parts.gateway
    try:
        if set_it:
            known = gateway.status().memories.get(meter)
            before, after = await gateway.set_clock(meter, "metergate clock")
            return before, after, known.clock if known and known.clock else ClockStatus(None, None)
        before = await gateway.read_clock(meter)
        found = gateway.status().memories[meter].clock
        return before, None, found or ClockStatus(None, None)
    except MeterError as error:
        settings = meter_of(site, meter)
        todo = advice(error, Place(meter_on_bus(site, settings), bus_of(site, settings), file))
        raise ReadError(f"{meter}: {error}; {todo}") from None
    finally:
        await gateway.end()
        parts.close()


def _told(reading: ClockReading) -> str:
    seconds = reading.offset / SECOND
    side = "ahead" if seconds >= 0 else "behind"
    doubt = "" if reading.trusted else ", and the meter says itself that its clock is doubtful"
    return f"{abs(seconds):.3f} s {side} (known to {reading.uncertainty / SECOND:.3f} s){doubt}"


def _drift(status: ClockStatus) -> str:
    return "not known yet" if status.drift is None else f"{status.drift:+.2f} s a day"
