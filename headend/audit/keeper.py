"""Keeps the audit sound while a head-end runs: what was spooled joins the chain; its end is signed and kept elsewhere.

A head is signed at the start, each hour and at the end: into a file beside the state, and to every gateway that is
there or comes, whose log brings it back as a record.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from headend.audit.chain import Trail
from headend.audit.heads import HeadsFile, sign_head
from headend.audit.spool import Spool
from headend.key_floors import Publish
from metering import timing
from metering.errors import LinkDownError, StorageError
from metering.wire import Control, encode, topic
from trust.keys import SigningKey

HEAD_S = 3600.0
AGAIN_S = 60.0  # after a head that could not be kept
LOOK_S = 5.0  # between two looks for gateways that have come since
DRAIN_S = 10.0  # between two looks at the spool
GATEWAYS_AT_ONCE = 200  # that are sent a head between two breaths of the event loop

_log = structlog.get_logger(__name__)


class AuditKeeper:
    """Signs and drains. `key` None: no head is signed here. `run` until told to stop."""

    def __init__(
        self,
        trail: Trail,
        spool: Spool,
        heads: HeadsFile,
        key: SigningKey | None,
        publish: Publish,
        gateways: Callable[[], Iterable[str]],
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._trail = trail
        self._spool = spool
        self._heads = heads
        self._key = key
        self._publish = publish
        self._gateways = gateways
        self._clock = clock
        self._newest = b""  # a control with the newest head
        self._told: set[str] = set()  # gateways that were sent it

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it until `stop`; the last head is signed then."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._drain())]
            if self._key is not None:
                tasks.append(group.create_task(self._sign(self._key)))
            await stop.wait()
            for task in tasks:
                task.cancel()
        if self._key is not None:
            try:
                await self.sign_now(self._key)
            except StorageError as error:
                _log.error("the audit's last head cannot be kept", reason=str(error))

    async def sign_now(self, key: SigningKey) -> None:
        """Sign the present end, keep it and send it. Raises `StorageError`."""
        at = self._clock()
        signed = await asyncio.to_thread(self._keep, key, at)
        if signed is not None:
            self._newest = encode(Control(f"anchor-{at}", "anchor", body=signed))
            self._told.clear()
            await self._tell()

    async def _tell(self) -> None:
        """Send the newest head to those gateways that are there and have not got it."""
        for number, gateway in enumerate([each for each in self._gateways() if each not in self._told], 1):
            if not self._newest:
                return
            try:
                await self._publish(topic(gateway, "control"), self._newest, retain=False)
            except LinkDownError as error:
                _log.info("a head of the audit reaches no gateway now", reason=str(error))
                return
            self._told.add(gateway)
            if number % GATEWAYS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _keep(self, key: SigningKey, at: int) -> bytes | None:
        head = self._trail.head()
        if not head.seq:
            return None
        signed = sign_head(head, at, key)
        self._heads.add(signed)
        return signed

    async def _sign(self, key: SigningKey) -> None:
        due = 0.0
        while True:
            try:
                if time.monotonic() >= due:
                    await self.sign_now(key)
                    due = time.monotonic() + HEAD_S
                await self._tell()
            except StorageError as error:
                _log.error("the audit's head cannot be kept; it is tried again", reason=str(error))
                due = time.monotonic() + AGAIN_S
            await asyncio.sleep(LOOK_S)

    async def _drain(self) -> None:
        said = ""
        while True:
            try:
                count = await asyncio.to_thread(self._spool.drain, self._trail)
                if count:
                    _log.warning("audit entries that had waited have joined the chain", entries=count)
                said = ""
            except StorageError as error:
                if str(error) != said:
                    _log.error("audit entries wait in the spool", reason=str(error))
                said = str(error)
            await asyncio.sleep(DRAIN_S)
