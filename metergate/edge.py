"""Wires a gateway that sends to a head-end: log, gateway and uplink, no store and no API."""

import asyncio
from importlib.metadata import version

from gateway.app import Gateway
from gateway.epoch import FILE as EPOCH_FILE
from gateway.lines import make_mqtt_settings
from gateway.uplink import Facts, Uplink
from metergate.parts import CURSOR, QUARANTINE_BYTES, open_log
from metergate.site import SiteFile
from metering.errors import ConfigError
from storage.quarantine import Quarantine


async def run_edge(site: SiteFile, stop: asyncio.Event) -> None:
    """Read meters into the log and bring the log to the head-end until `stop`."""
    assert site.uplink is not None  # noqa: S101 - the caller looked
    site.gateway.data.mkdir(parents=True, exist_ok=True)
    log = open_log(site)
    try:
        log.drop_cursor(CURSOR)  # of a store that this gateway no longer has; it would hold the log back for ever
        gateway = Gateway(site, log, Quarantine(site.gateway.data / "quarantine", QUARANTINE_BYTES))

        def facts() -> Facts:
            status = gateway.status()
            return Facts(status.meters, status.clock_suspect, version("metergate"))

        desk = gateway.key_desk(lambda: uplink.boot)
        settings = make_mqtt_settings(site.uplink, site.gateway.id)
        uplink = Uplink(
            log,
            site.gateway.data / EPOCH_FILE,
            site.gateway.id,
            settings,
            facts,
            on_control={"backfill": gateway.backfill, **(desk.controls() if desk is not None else {})},
            on_put_back=desk.put_back if desk is not None else None,
        )
        if desk is not None:
            desk.begin()
        late_stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(uplink.run(late_stop))
            leave = group.create_task(_leave(uplink, stop))
            await gateway.run(stop)
            leave.cancel()
            late_stop.set()  # what has no receipt yet is in the log and goes up at the next start
        if uplink.told_to_leave.is_set():
            raise ConfigError(
                f"the head-end refuses this gateway: another one with the id {site.gateway.id!r} is at work. "
                "Give each gateway an id of its own ([gateway] id), or stop the other one"
            )
    finally:
        log.close()


async def _leave(uplink: Uplink, stop: asyncio.Event) -> None:
    await uplink.told_to_leave.wait()
    stop.set()
