"""Takes configurations that a head-end offers: checks, applies, tries and, where they fail, goes back. No broker.

A trial ends well once the head-end has a record that was written after the change, and each bus that was touched and
had meters which answered has one that answers still. Where that does not come in time, the gateway goes back by itself.
"""

import asyncio
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import structlog
import zstandard

from gateway.changes import Changes
from gateway.remote.versions import Standing, Verdict, Versions, given_up, proven, refused, tried
from gateway.settings import GatewayFile
from metering.errors import ConfigError, MeterError, StorageError
from metering.model import Block
from metering.wire import MAX_CONFIG_BYTES, ConfigOffer

LOOK_S = 1.0  # between two looks at whether a version has proven itself
KIND = "config"  # of its entries in the journal
MAX_REASON = 500  # characters

_log = structlog.get_logger(__name__)


class Changeable(Protocol):
    """The gateway, as far as this needs it."""

    async def change(self, file: GatewayFile) -> Changes:
        """Go over to another configuration. Raises `ConfigError`, `StorageError`."""
        ...

    def answering(self, buses: Collection[str]) -> dict[str, list[str]]:
        """Return the meters that answer, by bus."""
        ...

    async def read_now(self, device: str) -> list[Block]:
        """Read one meter. Raises `MeterError`."""
        ...

    async def journal(self, kind: str, name: str, state: str, **detail: str) -> int:
        """Write an entry into the log; return a seq not below its own."""
        ...


class Configurer:
    """Handles one offer at a time; `offer` at any time, `run` until told to stop.

    `load` returns the whole configuration of a version's file (it raises `ConfigError`), `local` is that of the file on
    site. `holds` tells whether the head-end has a record of the log.
    """

    def __init__(
        self,
        gateway: Changeable,
        versions: Versions,
        load: Callable[[Path], GatewayFile],
        local: GatewayFile,
        holds: Callable[[int], bool],
    ) -> None:
        self._gateway = gateway
        self._versions = versions
        self._load = load
        self._local = local
        self._holds = holds
        self._trial_s = local.gateway.trial
        self._offered: ConfigOffer | None = None
        self._wake = asyncio.Event()

    def offer(self, offer: ConfigOffer) -> None:
        """Take an offer. One that comes while another is on trial waits; the newest that waits counts."""
        if self._offered is None or offer.version >= self._offered.version:
            self._offered = offer
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Give up a version that was on trial when the gateway ended, then handle offers until `stop`."""
        if self._versions.standing.trying:
            reason = "the gateway ended while this version was on trial"
            await self._settle(given_up(self._versions.standing, reason))
        ended = asyncio.ensure_future(stop.wait())
        while not stop.is_set():
            awake = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait((ended, awake), return_when=asyncio.FIRST_COMPLETED)
            awake.cancel()
            self._wake.clear()
            offer, self._offered = self._offered, None
            if offer is None or stop.is_set():
                continue
            try:
                await self._handle(offer, stop)
            except (StorageError, OSError) as error:  # it is offered again
                _log.error("a configuration could not be taken", version=offer.version, reason=str(error))

    async def _handle(self, offer: ConfigOffer, stop: asyncio.Event) -> None:
        standing = self._versions.standing
        if offer.version == standing.verdict.version:
            await self._say(standing.verdict)
            return
        newest = max(standing.applied, standing.verdict.version)
        if offer.version < newest:
            await self._say(Verdict(offer.version, "refused", f"it is older than version {newest}, which was here"))
            return
        try:
            text = _plain(offer.body)
            path = await asyncio.to_thread(self._versions.put, offer.version, text)
            file = await asyncio.to_thread(self._load, path)
        except ConfigError as error:
            reason = str(error).replace(f"{self._versions.folder}/", "")
            await self._settle(refused(standing, offer.version, reason))
            return
        await self._try(offer.version, file, stop)

    async def _try(self, version: int, file: GatewayFile, stop: asyncio.Event) -> None:
        before = self._versions.standing
        former = await asyncio.to_thread(self._former)
        await asyncio.to_thread(self._versions.move, tried(before, version))
        try:
            had = self._gateway.answering({bus.id for bus in former.bus})
            changes = await self._gateway.change(file)
        except (ConfigError, StorageError) as error:
            await self._settle(refused(before, version, str(error)))
            return
        seq = await self._gateway.journal(KIND, str(version), "trying")
        here = {meter.id for meter in file.meter if meter.removed is None}
        silent = {bus: meters for bus in changes.touched if (meters := [m for m in had.get(bus, []) if m in here])}
        reason = await self._failing(seq, silent, stop)
        if stop.is_set() and reason:
            return  # the next start goes back
        if reason:
            await self._gateway.change(former)
            await self._settle(given_up(self._versions.standing, reason))
        else:
            await self._settle(proven(self._versions.standing))

    async def _failing(self, seq: int, silent: dict[str, list[str]], stop: asyncio.Event) -> str:
        """Wait for the proofs; return what is lacking when the time is over, or nothing."""
        until = asyncio.get_running_loop().time() + self._trial_s
        while True:
            for bus in list(silent):
                if await self._answers(silent[bus]):
                    del silent[bus]
            reached = self._holds(seq)
            if reached and not silent:
                return ""
            if stop.is_set() or asyncio.get_running_loop().time() >= until:
                break
            await asyncio.sleep(min(LOOK_S, self._trial_s))
        if not reached:
            return f"the head-end was not reached within {self._trial_s:g} s"
        buses = ", ".join(sorted(silent))
        return f"no meter that answered before answered within {self._trial_s:g} s on {buses}"

    async def _answers(self, meters: list[str]) -> bool:
        """Read the next meter of a bus now, and tell whether it answered."""
        meters.append(meters.pop(0))
        try:
            await self._gateway.read_now(meters[-1])
        except MeterError as error:
            _log.debug("no answer on trial", meter=meters[-1], reason=str(error))
            return False
        return True

    def _former(self) -> GatewayFile:
        applied = self._versions.standing.applied
        return self._load(self._versions.path(applied)) if applied else self._local

    async def _settle(self, standing: Standing) -> None:
        """Make a verdict durable, then say it."""
        await asyncio.to_thread(self._versions.move, standing)
        await self._say(standing.verdict)

    async def _say(self, verdict: Verdict) -> None:
        _log.info("a configuration", version=verdict.version, state=verdict.state, reason=verdict.reason)
        detail = {"reason": verdict.reason[:MAX_REASON]} if verdict.reason else {}
        await self._gateway.journal(KIND, str(verdict.version), verdict.state, **detail)


def _plain(body: bytes) -> bytes:
    """Return the TOML of an offer. Raises `ConfigError`."""
    try:
        text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read(MAX_CONFIG_BYTES + 1)
    except zstandard.ZstdError as error:
        raise ConfigError(f"is not compressed with zstd: {error}") from None
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"is longer than {MAX_CONFIG_BYTES} bytes")
    return text


def start_with(versions: Versions, load: Callable[[Path], GatewayFile], local: GatewayFile) -> GatewayFile:
    """Return the configuration to start with: the applied one, or that on site where it can be used no more. Blocking.

    A version on trial is none: `Configurer.run` goes on to say that it was given up.
    """
    applied = versions.standing.applied
    if not applied:
        return local
    try:
        return load(versions.path(applied))
    except ConfigError as error:
        _log.error("the configuration from afar cannot be used; the file on site counts", reason=str(error))
        versions.move(Standing(0, 0, Verdict(applied, "rolled-back", str(error))))
        return local
