"""A gateway that holds commands for three meters, and all who command it: what the random test is made of."""

import asyncio
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from metering.supply import Action, CommandMessage, SupplyCommand
from tests.gateway.supply.judged import DEVICES, Judged, Overheard
from tests.gateway.supply.virtual import inline

A = Action
GROUPS: list[tuple[str, ...]] = [("anna", "ben"), ("anna", "cleo"), ("anna",), ("anna", "anna"), ("payments",)]
GROUPS += [("anna", "payments"), ("eve",), ("anna", "~ben"), ("cleo", "ben's new key")]
SIGNERS = st.sampled_from(GROUPS)
ORDERS = st.sampled_from([A.DISCONNECT, A.DISCONNECT, A.RESTORE, A.RESTORE, *A])
FAULTS = ["lost", "late", "late-and-lost", "ignored", "dropped", "refused", "refused-and-done"]


class Commanded(RuleBasedStateMachine):
    """A gateway that is commanded: rightly, wrongly, again, and with meters that do it wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(asyncio, "to_thread", inline)
        for name in ("fsync", "fdatasync"):  # the machine itself does not die here
            self._patch.setattr(os, name, lambda _: None)
        self.folder = Path(tempfile.mkdtemp(prefix="supply"))
        self.world = Judged(self.folder)
        self._patch.setattr("gateway.supply.service.logger", Overheard(self.world.errors))
        self.offsets = [0]  # every one that the gateway's clock had
        self.numbers = itertools.count(1)
        self.messages: list[tuple[SupplyCommand, CommandMessage]] = []

    @initialize(modes=st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 6])] * 3))
    def meters_hang_there(self, modes: tuple[int, ...]) -> None:
        for meter, mode in zip(self.world.meters.values(), modes, strict=True):
            meter.mode = mode

    # --- commands -----------------------------------------------------------------------------------------------------

    @rule(
        device=st.sampled_from(DEVICES),
        action=ORDERS,
        signers=SIGNERS,
        requester=st.sampled_from(["cleo", "zoe"]),
        reason=st.sampled_from(["debt", "debt", "safety", "request"]),
        valid_s=st.sampled_from([3, 30, 600, 7200]),
        limit=st.tuples(st.sampled_from([500, 2000, 3000]), st.sampled_from([2, 60, 900])),
        go=st.booleans(),
        rubbish=st.sampled_from([False, False, False, True]),
    )
    def a_command_comes(
        self,
        device: str,
        action: Action,
        signers: tuple[str, ...],
        requester: str,
        reason: Any,  # noqa: ANN401 - a literal
        valid_s: int,
        limit: tuple[int, int],
        *,
        go: bool,
        rubbish: bool,
    ) -> None:
        said = {"requester": requester, "reason": reason, "valid_s": valid_s, "rubbish": rubbish}
        self._order(device, action, signers, go=go, limit=limit if action is A.LIMIT else None, **said)

    @rule(
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.DISCONNECT, A.LIMIT]),
        reason=st.sampled_from(["debt", "debt", "safety"]),
        limit=st.tuples(st.sampled_from([500, 2000, 3000]), st.sampled_from([20, 60, 900])),
        seconds=st.sampled_from([0.0, 10.0, 10.0]),
    )
    def a_good_order_comes(
        self, device: str, action: Action, reason: str, limit: tuple[int, int], seconds: float
    ) -> None:
        self._order(device, action, reason=reason, limit=limit if action is A.LIMIT else None)
        self.world.run(seconds)

    @rule(
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.RESTORE, A.RESTORE, A.UNLIMIT]),
        signers=st.sampled_from([("payments",), ("anna",), ("anna", "ben")]),
        seconds=st.sampled_from([0.0, 10.0, 10.0]),
    )
    def power_is_to_come_back(self, device: str, action: Action, signers: tuple[str, ...], seconds: float) -> None:
        self._order(device, action, signers, reason="paid")
        self.world.run(seconds)

    @rule(
        device=st.sampled_from(DEVICES[:2]),
        action=st.sampled_from([A.DISCONNECT, A.DISCONNECT, A.LIMIT, A.RESTORE]),
        fault=st.sampled_from(FAULTS),
        ticks=st.integers(0, 160),
        valid_s=st.sampled_from([1, 600]),
        dies=st.booleans(),
        silent=st.integers(0, 4),
        restore=st.booleans(),
    )
    def an_order_goes_wrong(
        self,
        device: str,
        action: Action,
        fault: str,
        ticks: int,
        valid_s: int,
        silent: int,
        *,
        dies: bool,
        restore: bool,
    ) -> None:
        """Let the meter do it wrong, the gateway die meanwhile, and somebody pay."""
        world = self.world
        world.meters[device].faults.append(fault)
        self._order(device, action, valid_s=valid_s, limit=(1500, 900) if action is A.LIMIT else None)
        world.ticks(ticks)
        world.meters[device].silent = silent
        if dies:
            world.crash()
        if restore:
            self._order(device, A.RESTORE)
        world.run(12.0)

    def _order(
        self,
        device: str,
        action: Action,
        signers: tuple[str, ...] = ("anna", "ben"),
        *,
        go: bool = True,
        **said: Any,  # noqa: ANN401 - as of `Judged.order`
    ) -> None:
        """Give a command; `said` as of `Judged.order`."""
        command, message = self.world.order(next(self.numbers), device, action, signers, **said)
        self.messages.append((command, message))
        if go:
            self.world.let_go(command.id)

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def a_message_comes_again(self, data: st.DataObject) -> None:
        _, message = data.draw(st.sampled_from(self.messages))
        self.world.give(self.world.service.take(message))

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), old_s=st.sampled_from([0, 0, 0, 30, 70, -30, -70, -4000]))
    def a_go_comes(self, data: st.DataObject, old_s: int) -> None:
        command, _ = data.draw(st.sampled_from(self.messages))
        self.world.let_go(command.id, old_s)
