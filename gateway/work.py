"""Work on a meter: its turn on the bus, an open conversation, and the right meter at its other end.

Reads, backfill and clocks all go this way. It decides neither what is asked nor when.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

import structlog

from collector.bus import Bus, Lane
from collector.capabilities import Talk
from collector.exchange import Transact
from gateway.identity import same_serial
from gateway.meters import BusMeter
from metering import events
from metering.errors import AuthError, HaltedError, MeterError

T = TypeVar("T")

NOT_ASKED = frozenset({"busy", "late", "halted", "gave-way"})  # kinds of errors that say nothing of the meter

logger = structlog.get_logger(__name__)


class Refusals(Protocol):
    """Remembers, over restarts, which meters refused the secrets that they have now."""

    def refuse(self, meter: str, reason: str) -> None:
        """Note that the meter refused its present secrets."""
        ...

    def refused(self, meter: str) -> str:
        """Return why the meter is not to be asked with its present secrets; empty where it may be."""
        ...

    def held(self, meter: str) -> str:
        """Return why a meter that wants secrets is not to be asked for now; empty where it may be."""
        ...


class RaiseEvent(Protocol):
    """Notes an event of the gateway's own, now (`Recorder.raise_event`)."""

    def __call__(self, kind: events.EventType, device: str = "", **detail: str) -> None:
        """Note it."""
        ...


class LockedError(AuthError):
    """The meter refused its present secrets before: nothing was said to it now."""


class WrongMeterError(MeterError):
    """Another meter answers than the one that was installed."""


class MeterWork:
    """Does pieces of work on meters, each in its turn.

    A meter whose serial number is not the installed one is not worked on. A meter that refuses its password or key is
    not asked again until that changes: each further attempt could lock the meter, and would be a lie to whoever reads
    its access log.
    """

    def __init__(self, buses: Mapping[str, Bus], raise_event: RaiseEvent, refusals: Refusals | None = None) -> None:
        self._buses = buses
        self._raise_event = raise_event
        self._refusals = refusals
        self._wrong: dict[str, str] = {}
        self._locked: dict[str, str] = {}
        self._held: dict[str, str] = {}

    @property
    def refused(self) -> dict[str, str]:
        """Return the meters that are not worked on, with the reason."""
        return self._wrong | self._held | self._locked

    async def work_on(
        self,
        meter: BusMeter,
        lane: Lane,
        job: Callable[[Talk], Awaitable[T]],
        deadline: float | None = None,
        *,
        keyed: bool = False,
        yields: bool = False,
    ) -> T:
        """Run `job` in a conversation with the meter when its turn comes, and return what it returns.

        The bus is the job's from its first exchange to its last, more urgent lanes excepted. `deadline`
        (`time.monotonic`) is when it is too late to begin. A `keyed` job needs a secret though its meter is read
        without one (a DL/T 645 clock that is set by password). One that `yields` is ended by a command for its meter
        before its next exchange.

        Raises:
            BusyError: the lane is full.
            LateError: the deadline passed first.
            CircuitOpenError: the meter has been failing; it is asked again later.
            GaveWayError: a command ended what yields.
            LinkDownError: the wire is down.
            AuthError: it refused its secrets, now or earlier; it is asked again when they change.
            HaltedError: its keys are not here, or its counters not known to be safe: nothing was said to it.
            WrongMeterError: another meter answers.
            MeterError: whatever `job` let through.

        """
        check = partial(self._check_secrets, meter, keyed=keyed or meter.keyed)
        check()
        bus = self._buses[meter.settings.bus or ""]
        try:
            return await bus.submit(
                lane,
                meter.id,
                partial(self._converse, meter, check, job),
                deadline=deadline,
                whole=meter.whole,
                yields=yields,
            )
        except LockedError:
            raise
        except AuthError as error:
            meter.identified = False
            self._refuse(meter, error)
            raise
        except MeterError as error:
            meter.identified = meter.identified and error.kind in NOT_ASKED
            raise

    def forget(self, meter: str) -> None:
        """Forget what was found about a meter that is gone, or hangs elsewhere now."""
        for known in (self._wrong, self._locked, self._held):
            known.pop(meter, None)

    def _check_secrets(self, meter: BusMeter, *, keyed: bool) -> None:
        """Raise `LockedError` or `HaltedError` where a meter is not to be shown its secrets."""
        if keyed and not self.may_use_secrets(meter):
            raise LockedError(f"not asked until its key changes: {self._locked[meter.id]}", meter=meter.id)
        if meter.keyed:
            self._check_held(meter)

    def may_use_secrets(self, meter: BusMeter) -> bool:
        """Tell whether a meter may be shown its secrets, those of now: not while it has refused them."""
        locked = self._locked.get(meter.id, "")
        reason = locked if self._refusals is None else self._refusals.refused(meter.id)
        if reason:
            self._locked[meter.id] = reason
            return False
        meter.renew()
        if locked:
            del self._locked[meter.id]
            logger.info("the meter's key has changed; it is asked again", meter=meter.id)
        return True

    def _check_held(self, meter: BusMeter) -> None:
        """Raise `HaltedError` while a meter is held. It is told once as an event, and its end as well."""
        reason = self._refusals.held(meter.id) if self._refusals is not None else ""
        if reason and self._held.get(meter.id) != reason:
            self._held[meter.id] = reason
            self._raise_event(events.KEYS_HALTED, meter.id, reason=reason)
        elif not reason and meter.id in self._held:
            del self._held[meter.id]
            self._raise_event(events.KEYS_IN_USE, meter.id)
        if reason:
            raise HaltedError(reason, meter=meter.id)

    async def _converse(
        self, meter: BusMeter, check: Callable[[], None], job: Callable[[Talk], Awaitable[T]], transact: Transact
    ) -> T:
        """Open the conversation and make sure, after each silence, that it is still the meter that was installed.

        `check` once more, now that its turn has come: the job before may have been refused the same secrets.
        """
        check()
        async with meter.driver.talk(transact) as talk:
            if not meter.identified:
                await self._identify(meter, talk)
            return await job(talk)

    async def _identify(self, meter: BusMeter, talk: Talk) -> None:
        wanted = meter.settings.serial
        # A meter that is talked to in associations also says here what it pushes, and under which name.
        shown = await meter.driver.identify(talk) if wanted or meter.whole else None
        if shown is None or not wanted or same_serial(shown, wanted):
            if self._wrong.pop(meter.id, None):
                logger.info("the meter that was installed answers again", meter=meter.id)
            meter.identified = True
            return
        reason = f"{meter.place} shows serial number {shown}, installed is {wanted}"
        if self._wrong.get(meter.id) != reason:
            self._wrong[meter.id] = reason
            self._raise_event(events.WRONG_METER, meter.id, shown=shown, installed=wanted)
        raise WrongMeterError(f"{reason}; its readings would be another customer's", meter=meter.id)

    def _refuse(self, meter: BusMeter, error: AuthError) -> None:
        reason = self._locked[meter.id] = str(error)
        self._raise_event(events.KEY_REFUSED, meter.id, reason=reason)
        if self._refusals is not None:
            self._refusals.refuse(meter.id, reason)
