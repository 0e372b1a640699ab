"""Makes commands of a request: meter point, meter, gateway and binding as they are now. It keeps and judges nothing."""

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from headend.policy.facts import CollectionFacts
from headend.readings import BadRequestError, NotFoundError
from headend.registry import covers, installation_on
from headend.supply.command import Command
from headend.tokens import Grant
from metering.model import SECOND, MeterPoint
from metering.ports import Registry
from metering.supply import (
    LONGEST_VALIDITY_S,
    MAX_COMMANDS,
    MAX_RESTORING_S,
    RESTORING,
    WITHHOLDING,
    Action,
    Hours,
    Manifest,
    Reason,
    SupplyCommand,
    canonical,
)
from metering.supply_states import State
from trust.document import Binding, TrustDocument
from trust.merkle import leaf, proofs_of, root_of

NAMED = 20  # meter points that an error names


class Order(NamedTuple):
    """One meter point of a request, and what collections says about it."""

    point: str
    case: str = ""
    facts: CollectionFacts | None = None


class Request(NamedTuple):
    """What is wanted: one command, or a campaign of several. Instants in us UTC; None: now, and as long as allowed."""

    action: Action
    reason: Reason
    orders: Sequence[Order]
    not_before: int | None = None
    expires_at: int | None = None
    limit_w: int | None = None
    limit_until: int | None = None
    spread_s: int = 0


class Place(NamedTuple):
    """Where a command acts: a meter point with the meter that hangs there and the gateway that reads it."""

    order: Order
    point: MeterPoint
    gateway: str
    binding: Binding
    spread_s: int  # over which its gateway spreads a campaign that withholds, at least


class Made(NamedTuple):
    """Commands, and their campaign's canonical manifest; empty for a single command."""

    commands: list[Command]
    manifest: bytes


class Maker:
    """Finds where commands act and writes them. `trust` gives the copy of a gateway's trust document."""

    def __init__(self, registry: Registry, trust: Callable[[str], TrustDocument | None]) -> None:
        self._registry = registry
        self._trust = trust

    def places(self, grant: Grant, request: Request, now: int) -> list[Place]:
        """Return where each of the orders acts.

        Raises:
            BadRequestError: too many or no meter points, one twice, or one where nothing can be switched.
            NotFoundError: the asker sees no such meter point.

        """
        names = [each.point for each in request.orders]
        if not 0 < len(names) <= MAX_COMMANDS:
            raise BadRequestError("orders", f"{len(names)} meter points; a request has 1 to {MAX_COMMANDS}")
        if len(set(names)) != len(names):
            raise BadRequestError("orders", "a meter point stands there twice")
        found, faults = [], []
        bound: dict[str, dict[str, Binding]] = {}
        for each in request.orders:
            try:
                found.append(self._place(grant, each, bound, now))
            except BadRequestError as error:
                faults.append(str(error))
        if faults:
            more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
            raise BadRequestError("orders", "; ".join(faults[:NAMED]) + more)
        return found

    def _place(self, grant: Grant, order: Order, bindings: dict[str, dict[str, Binding]], now: int) -> Place:
        """Return where an order acts. `bindings` are those of the gateways so far, by device, and grow."""
        point = self._registry.point(order.point)
        if point is None or not covers(grant.regions, point.region):
            raise NotFoundError(f"there is no meter point {order.point}")
        installed = installation_on(self._registry.installations_at(point.id), now)
        device = self._registry.device(installed.device) if installed is not None else None
        if installed is None or device is None or not device.gateway:
            raise BadRequestError("orders", f"{point.id}: no meter is installed there now that a gateway reads")
        document = self._trust(device.gateway)
        if document is None:
            raise BadRequestError("orders", f"{point.id}: no trust document of {device.gateway} is known here")
        if device.gateway not in bindings:
            bindings[device.gateway] = {each.device: each for each in document.bindings}
        bound = bindings[device.gateway].get(device.id)
        if bound is None:
            raise BadRequestError("orders", f"{point.id}: the trust document of {device.gateway} binds no {device.id}")
        meant = (point.id, installed.serial, installed.valid_from)
        if meant != (bound.point, bound.serial, bound.installation):
            text = f"{point.id}: {device.id} is installed otherwise than {device.gateway}'s trust document has it"
            raise BadRequestError("orders", text)
        return Place(order, point, device.gateway, bound, document.caps.spread_s)

    def make(
        self,
        grant: Grant,
        request: Request,
        places: Sequence[Place],
        numbers: Callable[[str, int], int],
        hours: Callable[[str, str, str, Reason], Hours | None],
        now: int,
    ) -> Made:
        """Return the commands of a request in the state `requested`. Raises `BadRequestError`, `StorageError`."""
        counts = {name: sum(each.gateway == name for each in places) for name in {each.gateway for each in places}}
        nexts = {name: numbers(name, count) for name, count in counts.items()}
        start, end = _validity(request, now)
        made: list[tuple[Place, SupplyCommand]] = []
        for index, place in enumerate(places):
            seq = nexts[place.gateway]
            nexts[place.gateway] += 1
            at = place.point
            within = None if request.action in RESTORING else hours(at.customer, at.zone, at.region, request.reason)
            made.append((place, _command(grant, request, place, (now, index, seq, start, end), within)))
        for place, each in made:
            if faults := each.faults():
                raise BadRequestError("body", f"{place.point.id}: " + "; ".join(faults))
        bodies = [canonical(each) for _, each in made]
        campaign, manifest, proofs = "", b"", [b""] * len(made)
        if len(made) > 1:
            leaves = [leaf(each) for each in bodies]
            campaign = f"m{now:014x}{secrets.token_hex(6)}"
            root = root_of(leaves).hex()
            case = made[0][1].case
            manifest = canonical(Manifest(campaign, request.action, grant.who, len(made), root, start, end, case))
            proofs = [msgspec.msgpack.encode(each) for each in proofs_of(leaves)]
        commands = [
            _row(grant, campaign, place, order, body, proof, now)
            for (place, order), body, proof in zip(made, bodies, proofs, strict=True)
        ]
        return Made(commands, manifest)


def _validity(request: Request, now: int) -> tuple[int, int]:
    """Return from when until when it acts: what gives back is good for longer, as it must not be forgotten."""
    longest = MAX_RESTORING_S if request.action in RESTORING else LONGEST_VALIDITY_S
    start = now if request.not_before is None else request.not_before
    end = start + longest * SECOND if request.expires_at is None else request.expires_at
    if not max(start, now) < end <= start + longest * SECOND:
        text = f"lies after now and after not_before, by at most {longest} s for {request.action}"
        raise BadRequestError("expires_at", text)
    return start, end


def _command(
    grant: Grant, request: Request, place: Place, numbers: tuple[int, int, int, int, int], within: Hours | None
) -> SupplyCommand:
    now, index, seq, start, end = numbers
    campaign = len(request.orders) > 1 and request.action in WITHHOLDING
    spread = max(request.spread_s, place.spread_s) if campaign else request.spread_s
    return SupplyCommand(
        f"c{now:014x}{index:04x}{secrets.token_hex(4)}",
        request.action,
        place.point.id,
        place.binding.device,
        place.binding.serial,
        place.binding.installation,
        place.gateway,
        request.reason,
        grant.who,
        secrets.token_hex(16),
        seq,
        start,
        end,
        place.order.case,
        within,
        spread,
        request.limit_w,
        request.limit_until,
        place.binding.floor_w,
    )


def _row(
    grant: Grant,
    campaign: str,
    place: Place,
    order: SupplyCommand,
    body: bytes,
    proof: bytes,
    now: int,
) -> Command:
    facts = msgspec.json.encode(place.order.facts).decode()
    return Command(
        order.id,
        order.point,
        place.point.region,
        order.gateway,
        str(order.action),
        str(Action.DISCONNECT if order.counts_as_disconnect else order.action),
        State.REQUESTED,
        grant.token,
        grant.who,
        campaign,
        body,
        proof,
        b"",
        facts,
        now,
        order.not_before,
        order.expires_at,
        now,
    )
