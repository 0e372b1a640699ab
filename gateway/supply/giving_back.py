"""A limit's end: the gateway gives back what was set before, as the signed limit ordered. Offline and after a restart.

It orders nothing else, and needs no word of the head-end.
"""

from gateway.supply.account import Account
from gateway.supply.executor import Executor, Intent
from gateway.supply.guard import Wait
from gateway.supply.items import KeptLimit
from gateway.supply.outside import Outside
from gateway.supply.pauses import Pauses
from gateway.supply.trust import Trust
from gateway.supply.withheld import given_back, of_meters_gone
from metering.supply import Action, SupplyCommand
from metering.supply_states import LIMIT_GIVEN_BACK, Cause, State


def pause_of(kept: KeptLimit) -> str:
    """Return the name under which a limit's end is paused."""
    return f"back {kept.device}"


class GivingBack:
    """Ends limits whose time is over."""

    def __init__(self, account: Account, trust: Trust, executor: Executor, outside: Outside, pauses: Pauses) -> None:
        self._account = account
        self._trust = trust
        self._executor = executor
        self._out = outside
        self._pauses = pauses

    def due(self) -> list[KeptLimit]:
        """Return the limits whose time is over and whose pause is."""
        now = self._out.now()
        limits = self._account.record.limits.values()
        return [each for each in limits if each.until <= now and self._pauses.is_due(pause_of(each))]

    async def give_back(self, kept: KeptLimit) -> None:
        """Set a limiter to what it was before; it is tried again until the meter says so. Raises `StorageError`."""
        meter, limit = self._out.meter(kept.device), self._account.record.held.get(kept.command)
        binding = self._trust.binding_of(limit.command) if limit is not None else None
        result = None
        if meter is not None and limit is not None and binding is not None:
            result = await self._executor.carry_out(
                meter, _unlimit_of(limit.command), binding, kept, self._last_word, _durable_already
            )
        if result is None or result.cause is not Cause.AS_ASKED:
            self._pauses.later(pause_of(kept))
            return
        # Told first: after a crash between the two it is looked at, and told, once more.
        await self._account.report(kept.command, State.VERIFIED, LIMIT_GIVEN_BACK, result.why, **result.detail)
        await self._account.put(*given_back(kept.device))
        self._pauses.end(pause_of(kept))

    async def let_go(self) -> None:
        """Let go of what was withheld at meters that hang there no more, by the trust document. Raises `StorageError`.

        The limiter of the meter before is nobody's to set any more, and the new one's own settings are not touched.
        """
        document = self._trust.document
        if document is None or not (items := of_meters_gone(self._account.record, document.bindings)):
            return
        for item in items:
            if isinstance(item, KeptLimit):
                limit = self._account.record.limits[item.device].command
                await self._account.report(limit, State.VERIFIED, LIMIT_GIVEN_BACK, "another meter hangs there now")
        await self._account.put(*items)

    async def _last_word(self) -> Wait | None:
        """Say that nothing speaks against it: it was judged with the limit. A dry run sends nothing, whatever it is."""
        return Wait("dry run: nothing is sent", self._out.now()) if self._out.dry_run else None


async def _durable_already(_: Intent) -> None:
    """Make nothing durable: the limit's record has it."""


def _unlimit_of(limit: SupplyCommand) -> SupplyCommand:
    """Return the restoration that a signed limit contains."""
    fields = {name: getattr(limit, name) for name in limit.__struct_fields__}
    return SupplyCommand(**fields | {"action": Action.UNLIMIT, "limit_w": None, "limit_until": None})
