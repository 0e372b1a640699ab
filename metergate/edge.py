"""Wires a gateway that sends to a head-end: log, gateway and uplink, no store and no API."""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from collector.links import Link
from gateway.app import Gateway
from gateway.epoch import FILE as EPOCH_FILE
from gateway.lines import make_link, make_mqtt_settings
from gateway.remote.trial import Configurer, start_with
from gateway.remote.versions import Versions
from gateway.settings_bus import BusSettings
from gateway.uplink import Uplink
from gateway.uplink_presence import Facts
from metergate.parts import CURSOR, QUARANTINE_BYTES, open_log
from metergate.remote import load_remote
from metergate.site import SiteFile
from metering.errors import ConfigError
from storage.quarantine import Quarantine


class EdgeParts:
    """Log, gateway and uplink of one gateway. Making them opens the log: blocking; raises before anything runs.

    `link_of` makes a bus's wire; `on_receipt` is told as `Uplink` says.
    """

    def __init__(
        self,
        site: SiteFile,
        link_of: Callable[[BusSettings], Link] = make_link,
        on_receipt: Callable[[int], None] | None = None,
    ) -> None:
        assert site.uplink is not None  # noqa: S101 - the caller looked
        data = site.gateway.data
        data.mkdir(parents=True, exist_ok=True)
        self.site = site
        self.log = open_log(site)
        self.versions = Versions(data)
        try:
            self.log.drop_cursor(CURSOR)  # of a store that this gateway no longer has; it would hold the log for ever
            load = partial(load_remote, site)
            now = start_with(self.versions, load, site)
            self.gateway = Gateway(now, self.log, Quarantine(data / "quarantine", QUARANTINE_BYTES), link_of)
            self.configurer = Configurer(self.gateway, self.versions, load, site, self._holds)
            desk = self.gateway.key_desk(lambda: self.uplink.boot)
            self.uplink = Uplink(
                self.log,
                data / EPOCH_FILE,
                site.gateway.id,
                make_mqtt_settings(site.uplink, site.gateway.id),
                self._facts,
                on_control={**self.gateway.orders.controls(), **(desk.controls() if desk is not None else {})},
                on_put_back=desk.put_back if desk is not None else None,
                on_receipt=on_receipt,
                on_offer=self.configurer.offer,
                on_command=self.gateway.orders.command,
            )
            if desk is not None:
                desk.begin()
        except BaseException:
            self.log.close()
            raise

    def _holds(self, seq: int) -> bool:
        return self.uplink.holds(seq)

    def _facts(self) -> Facts:
        status = self.gateway.status()
        return Facts(status.meters, status.clock_suspect, version("metergate"), self.versions.standing.applied)

    async def run(self, stop: asyncio.Event) -> None:
        """Read meters into the log and bring the log to the head-end until `stop`, or until it is told to leave."""
        late_stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.uplink.run(late_stop))
            configuring = group.create_task(self.configurer.run(stop))
            leave = group.create_task(_leave(self.uplink, stop))
            await self.gateway.run(stop)
            await configuring
            leave.cancel()
            late_stop.set()  # what has no receipt yet is in the log and goes up at the next start


async def run_edge(site: SiteFile, stop: asyncio.Event) -> None:
    """Run a gateway that sends to a head-end until `stop`. Raises `ConfigError` where another one has its id."""
    parts = EdgeParts(site)
    try:
        await parts.run(stop)
        if parts.uplink.told_to_leave.is_set():
            raise ConfigError(
                f"the head-end refuses this gateway: another one with the id {site.gateway.id!r} is at work. "
                "Give each gateway an id of its own ([gateway] id), or stop the other one"
            )
    finally:
        parts.log.close()


async def _leave(uplink: Uplink, stop: asyncio.Event) -> None:
    await uplink.told_to_leave.wait()
    stop.set()
