"""What a head-end asks of a gateway at work, meter keys and configurations apart. Answers go into the journal."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog

from gateway.memories import Memories
from gateway.recorder import Recorder
from gateway.supply.service import SupplyService
from metering.supply import CommandMessage, Go
from metering.wire import Control

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
        self._spawn(self._supply.take(message))

    def go(self, control: Control) -> None:
        """Take up a head-end's word that policy still allows a supply command."""
        try:
            self._supply.go(msgspec.msgpack.decode(control.body, type=Go))
        except msgspec.MsgspecError as error:
            _log.warning("a go that cannot be read", reason=str(error))

    def anchor(self, control: Control) -> None:
        """Keep a signed head of the head-end's audit in the log, from where it comes back as a record."""
        self._recorder.journal("anchor", control.id, "kept", head=control.body.decode("utf-8", "replace"))
