"""Meter keys at the head-end: carried wrapped from the custodians to one gateway at a time, which answers.

It reads journals of gateways and sends controls; it can open no keys. The rules of the lease stand in `key_leases`.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import cast, get_args

import msgspec
import structlog

from headend import key_leases, steps
from headend.audit.chain import Entry
from headend.journal import Entries, Handler
from headend.key_floors import FloorTeller, Publish, wait_us
from headend.key_leases import BLOCK, Answer, Lease
from headend.readings import BadRequestError, NotFoundError
from headend.registry import EVERYWHERE, covers
from headend.state.keys import Bundle, Due, KeyBook, Reservation
from headend.tokens import Grant
from metering import timing, wire
from metering.wire import Control

TICK_S = 1.0
AT_ONCE = 100  # leases that are moved on in a tick

_log = structlog.get_logger(__name__)


class KeyView(msgspec.Struct, frozen=True):
    """What may be known of a device's keys: never the keys. `transport_key` is of the gateway that it is assigned to.

    `state` is free, offered, held, renewing or releasing; `floor` the first invocation counter that nobody reserved, as
    far as it was reported. `wrapped_version` is of the wrapped keys for that gateway, `refused` why it did not take
    them.
    """

    device: str
    gateway: str
    transport_key: str | None
    state: str
    holder: str
    lease: int
    version: int
    floor: int
    wrapped_version: int
    refused: str


class KeyOffice:
    """Leases, and what the API asks. `run` until told to stop; `floors` are told with it."""

    def __init__(
        self, book: KeyBook, publish: Publish, floors: FloorTeller, clock: Callable[[], int] = timing.now
    ) -> None:
        self._book = book
        self._publish = publish
        self._floors = floors
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """Return what takes which kind of journal entries."""
        return {
            "transport-key": self._transport,
            "keys": self._answers,
            "floors": self._floors.heard,
        }

    # --- what gateways journal ----------------------------------------------------------------------------------------

    def reserved(self, entries: Entries) -> None:
        """Keep what was reserved in the shared state, whoever answers the gateway next. Raises `StorageError`."""
        reports = [
            Reservation(gateway, entry.detail.get("device", ""), entry.id, int(entry.state))
            for gateway, entry in entries
            if entry.state.isascii() and entry.state.isdigit() and len(entry.state) < 11 and len(entry.id) < 256
        ]
        self._book.report([each for each in reports if each.device], self._counted)

    @staticmethod
    def _counted(lease: Lease, report: Reservation) -> Lease:
        moved = key_leases.counted(lease, report.gateway, report.until)
        if moved.floor > lease.floor and report.gateway not in moved.holders:
            _log.error(
                "a gateway uses keys that another one holds", gateway=report.gateway, device=lease.device,
                holder=moved.holder,
            )  # fmt: skip
        return moved

    def _transport(self, entries: Entries) -> None:
        # Under its own name alone, and a key: 64 hex digits.
        self._book.put_transport(
            [
                (gateway, entry.state, entry.at)
                for gateway, entry in entries
                if entry.id == gateway and len(entry.state) == 64 and set(entry.state) <= set("0123456789abcdef")
            ]
        )

    def _answers(self, entries: Entries) -> None:
        for gateway, entry in entries:
            detail = entry.detail
            number, version, reserved = (_number(detail.get(name, "")) for name in ("lease", "version", "reserved"))
            answer = entry.state
            if answer == "refused":
                self._book.refuse(entry.id, gateway, version, detail.get("reason", "refused")[:500])
            if answer in get_args(Answer):
                self._move(entry.id, gateway, number, cast("Answer", answer), reserved)

    def _move(self, device: str, gateway: str, number: int, answer: Answer, reserved: int) -> None:
        now = self._clock()
        self._book.change(device, lambda lease: key_leases.answered(lease, gateway, number, answer, reserved, now))

    # --- what is sent -------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Move leases on, ask and tell until `stop`."""
        await steps.repeat(self.step, TICK_S, stop, "meter keys wait")

    async def step(self) -> None:
        """Do what is due now. Raises `StorageError`, `LinkDownError`."""
        for due in await asyncio.to_thread(self._book.to_move, AT_ONCE):
            await asyncio.to_thread(self._advance, due)
        for lease in await asyncio.to_thread(self._book.to_ask, self._clock(), AT_ONCE):
            control = await asyncio.to_thread(self._control, lease)
            await self._publish(wire.topic(lease.holder, "control"), wire.encode(control), retain=False)
            await asyncio.to_thread(self._book.change, lease.device, self._asked)
        await self._floors.step()

    def _advance(self, due: Due) -> None:
        now = self._clock()

        def move(lease: Lease) -> Lease:
            if lease != due.lease:
                return lease  # it has moved on since it was looked at
            if lease.state == "free" or lease.holder == due.gateway:
                return key_leases.offer(lease, due.gateway, due.version, now)
            return key_leases.recall(lease, now)

        self._book.change(due.lease.device, move)

    def _control(self, lease: Lease) -> Control:
        """Return what is to be sent to a holder. Each time has an id of its own, so that each is answered."""
        ident = secrets.token_hex(8)
        bundle = self._book.bundle(lease.device, lease.holder)
        if lease.state == "releasing" or bundle is None:
            return Control(ident, "release", device=lease.device, lease=lease.number)
        return Control(
            ident,
            "keys",
            device=lease.device,
            version=bundle.version,
            lease=lease.number,
            body=bundle.body,
            floors={lease.device: lease.floor + BLOCK},
        )

    def _asked(self, lease: Lease) -> Lease:
        if lease.next_at is None:
            return lease
        return msgspec.structs.replace(lease, tries=lease.tries + 1, next_at=self._clock() + wait_us(lease.tries))

    # --- for the API --------------------------------------------------------------------------------------------------

    def put(self, grant: Grant, device: str, gateway: str, version: int, body: bytes) -> KeyView:
        """Keep wrapped keys of a device for a gateway; they go there once it has the lease. Blocking.

        Raises:
            BadRequestError: the same version or a newer one is here with other keys.
            NotFoundError: there is no such device.

        """
        self._assigned(grant, device)
        fields = {"gateway": gateway, "version": version, "bytes": len(body)}
        entry = Entry(self._clock(), f"token:{grant.token}", "keys-wrapped", device, EVERYWHERE, fields)
        if not self._book.put_bundle(Bundle(device, gateway, version, body), entry):
            raise BadRequestError("version", "other keys of this version, or of a newer one, are here already")
        return self.view(grant, device)

    def view(self, grant: Grant, device: str) -> KeyView:
        """Return whose a device's keys are. Blocking. Raises `NotFoundError`."""
        gateway = self._assigned(grant, device)
        lease, bundle = self._book.lease(device), self._book.bundle(device, gateway)
        return KeyView(
            device,
            gateway,
            self._book.transport(gateway),
            lease.state,
            lease.holder,
            lease.number,
            lease.version,
            lease.floor,
            bundle.version if bundle is not None else 0,
            bundle.refused if bundle is not None else "",
        )

    def force(self, grant: Grant, device: str) -> KeyView:
        """Take a person's word that the holder, which was asked to release the keys, will use them no more. Blocking.

        Raises:
            BadRequestError: nobody was asked to release them.
            NotFoundError: there is no such device.

        """
        self._assigned(grant, device)
        lease = self._book.lease(device)
        entry = Entry(
            self._clock(),
            f"token:{grant.token}",
            "keys-forced",
            device,
            EVERYWHERE,
            {"holder": lease.holder, "lease": lease.number, "floor": lease.floor},
        )
        try:
            self._book.change(device, key_leases.forced, entry)
        except ValueError as error:
            raise BadRequestError("device", str(error)) from None
        return self.view(grant, device)

    def _assigned(self, grant: Grant, device: str) -> str:
        found = self._book.assigned(device) if covers(grant.regions, EVERYWHERE) else None
        if found is None:
            raise NotFoundError(f"there is no device {device}")
        return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
