"""What a head-end asks of a gateway at work, meter keys and configurations apart. Answers go into the journal."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog

from gateway.memories import Memories
from gateway.recorder import Recorder
from gateway.supply.service import SupplyService
from metering.errors import StorageError
from metering.supply import CommandMessage, Go
from metering.wire import Control

# Supply commands that are judged at once. What comes above that is let go: whoever is a head-end sends it again until
# it is answered, and nobody else can fill the memory.
MAX_TAKING = 1_000

_log = structlog.get_logger(__name__)


class Orders:
    """Takes orders up. `memories` gives those of the configuration at work; `spawn` has something done meanwhile."""

    def __init__(
        self,
        recorder: Recorder,
        supply: SupplyService,
        memories: Callable[[], Memories],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._recorder = recorder
        self._supply = supply
        self._memories = memories
        self._spawn = spawn
        self._taking = 0
        self.let_go = 0

    def controls(self) -> Mapping[str, Callable[[Control], None]]:
        """Return what takes which kind of controls."""
        return {"backfill": self.backfill, "go": self.go, "anchor": self.anchor}

    def backfill(self, control: Control) -> None:
        """Have intervals of a meter read anew from its own memory.

        The journal answers `taken`, or `refused` with the reason; the rows themselves say the rest.
        """
        refusal = self._memories().ask_again(control.device, control.start, control.end)
        detail = {"reason": refusal} if refusal else {}
        self._recorder.journal("backfill", control.id, "refused" if refusal else "taken", **detail)

    def command(self, message: CommandMessage) -> None:
        """Take a supply command in. It is answered by the journal, whatever becomes of it."""
        if self._taking >= MAX_TAKING:
            self.let_go += 1
            return
        self._taking += 1
        self._spawn(self._take(message))

    async def _take(self, message: CommandMessage) -> None:
        try:
            await self._supply.take(message)
        except StorageError as error:  # it is sent again until it is answered
            _log.warning("a supply command cannot be taken in now", command=message.id[:64], reason=str(error))
        finally:
            self._taking -= 1

    def go(self, control: Control) -> None:
        """Take up a head-end's word that policy still allows a supply command."""
        try:
            self._supply.go(msgspec.msgpack.decode(control.body, type=Go))
        except msgspec.MsgspecError as error:
            _log.warning("a go that cannot be read", reason=str(error))

    def anchor(self, control: Control) -> None:
        """Keep a signed head of the head-end's audit in the log, from where it comes back as a record."""
        self._recorder.journal("anchor", control.id, "kept", head=control.body.decode("utf-8", "replace"))
