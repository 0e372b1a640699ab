"""The fleet as operators see and change it: gateways, meters, where they hang and who reads them. Blocking; no HTTP.

Who asks sees what lies in the regions of the token. A gateway lies where meters hang that are assigned to it. Gateways
themselves are made and revoked by those only who see everything.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from headend.enrolling import Enrolling
from headend.readings import BadRequestError, NotFoundError, pack_cursor, unpack_cursor
from headend.registry import EVERYWHERE, covers
from headend.seqs import Ledger
from headend.service import Found
from headend.sight import Sight
from headend.state.assignments import Assignments
from headend.state.enrolment import Enrolment
from headend.state.gateways import Gateway, Gateways
from headend.state.registrar import Registrar
from headend.state.registry import DatabaseRegistry
from headend.state.store import State
from headend.statuses import Known
from headend.tokens import Grant
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND, Device, Installation, MeterPoint

MAX_MISSING = 100  # ranges that are named
MAX_TOKEN_HOURS = 30 * 24

ModelOf = Callable[[str], tuple[str, str, int]]  # maker, model and days of memory of a model's file; ConfigError


class NotAllowedError(Exception):
    """The token's regions do not reach so far."""


class GatewayReport(msgspec.Struct, frozen=True):
    """A gateway with what it said of itself and what is committed of it. Instants in microseconds, UTC.

    Where it has said nothing since this head-end started, it is shown as it was last seen before.
    `missing` are the first ranges of seqs that are missing below the highest committed one, inclusive.
    """

    gateway: Gateway
    online: bool
    boot: str
    version: str
    meters: int
    epoch: str
    epochs: list[str]
    contiguous: int
    missing: list[tuple[int, int]]
    missing_count: int
    log_depth: int | None
    clock_offset_ms: int | None
    clock_suspect: bool
    last_seen: int | None
    refused: str


class Live(NamedTuple):
    """What the intake knows: of each gateway, and of all seqs."""

    known: Mapping[str, Known]
    ledger: Ledger


class Fleet:
    """`live` is what this head-end hears, `model_of` tells of a meter's model. Methods raise `StorageError`."""

    def __init__(
        self,
        state: State,
        registry: DatabaseRegistry,
        live: Live,
        model_of: ModelOf,
        enrolling: Enrolling | None = None,
        clock: Callable[[], int] = timing.now,
    ) -> None:
        self._enrolling = enrolling
        self._registry = registry
        self._live = live
        self._model_of = model_of
        self._clock = clock
        self._gateways = Gateways(state)
        self._tokens = Enrolment(state)
        self._registrar = Registrar(state)
        self._assignments = Assignments(state)

    def enrolment(self) -> Enrolling:
        """Return how gateways enrol; `NotFoundError` where this head-end has no authority for it."""
        if self._enrolling is None:
            raise NotFoundError("gateways do not enrol here: the head-end's file has no [enrolment]")
        return self._enrolling

    # --- gateways -----------------------------------------------------------------------------------------------------

    def gateways(self, grant: Grant, limit: int, cursor: str) -> tuple[list[GatewayReport], str]:
        """Return gateways in sight in the order of their ids, and the next page's cursor."""
        after = str(unpack_cursor(cursor, "gateways", (str,))[0]) if cursor else ""
        inside = self._inside(grant)
        rest = [each for each in self._registry.gateways() if each.id > after and (inside is None or each.id in inside)]
        page = [self._report(each) for each in rest[:limit]]
        return page, pack_cursor("gateways", page[-1].gateway.id) if len(rest) > limit else ""

    def gateway(self, grant: Grant, gateway: str) -> GatewayReport:
        """Return one gateway; `NotFoundError` where there is none in sight."""
        found = self._gateways.get(gateway)
        inside = self._inside(grant)
        if found is None or (inside is not None and gateway not in inside):
            raise NotFoundError(f"there is no gateway {gateway}")
        return self._report(found)

    def invite(self, grant: Grant, gateway: str, hours: int) -> tuple[str, int]:
        """Make a gateway, where it is not there yet, and a one-time token for it; return token and end."""
        _everywhere(grant)
        now = self._clock()
        self._gateways.create(gateway, now)
        until = now + min(hours, MAX_TOKEN_HOURS) * 3600 * SECOND
        token = self._tokens.create(gateway, until)
        self._registry.refresh()
        return token, until

    def revoke(self, grant: Grant, gateway: str) -> GatewayReport:
        """End a gateway: nothing of it is taken any more, its certificate and its open tokens are revoked."""
        _everywhere(grant)
        if not self._gateways.revoke(gateway, self._clock()):
            raise NotFoundError(f"there is no gateway {gateway}")
        self._registry.refresh()
        return self.gateway(grant, gateway)

    def _inside(self, grant: Grant) -> set[str] | None:
        if covers(grant.regions, EVERYWHERE):
            return None
        return {device.gateway for device in self._registry.devices(grant.regions) if device.gateway}

    def _report(self, gateway: Gateway) -> GatewayReport:
        known = self._live.known.get(gateway.id, Known())
        status = known.status
        epoch = known.epoch or gateway.epoch
        seqs = self._live.ledger.of(gateway.id, epoch)
        missing = seqs.missing()
        return GatewayReport(
            gateway,
            status.online if status is not None else gateway.status == "online",
            status.boot if status is not None else gateway.boot,
            status.version if status is not None else "",
            status.meters if status is not None else 0,
            epoch,
            self._live.ledger.epochs(gateway.id),
            seqs.contiguous,
            missing[:MAX_MISSING],
            sum(last - first + 1 for first, last in missing),
            max(0, status.log_next - 1 - status.receipt) if status is not None else None,
            round(known.offset_s * 1000) if known.offset_s is not None else None,
            status.clock_suspect if status is not None else False,
            max((at for at in (known.seen, gateway.last_seen) if at is not None), default=None),
            "revoked" if gateway.revoked_at is not None else known.refused,
        )

    # --- meters -------------------------------------------------------------------------------------------------------

    def put_point(self, grant: Grant, point: MeterPoint) -> Found:
        """Add a meter point, or change it. Its region lies in those of the token, before and after.

        Raises:
            BadRequestError: it would leave a region for which a hold stands.

        """
        old = self._registry.point(point.id)
        for region in {point.region, old.region if old is not None else point.region}:
            _reach(grant, region)
        try:
            self._registrar.put_point(point, self._clock(), f"token:{grant.token}")
        except ConfigError as error:
            raise BadRequestError("region", str(error)) from None
        self._registry.refresh()
        return Found(point, self._registry.installations_at(point.id))

    def put_device(self, grant: Grant, device: str, serial: str, model: str, where: Installation | None) -> Found:
        """Add a device, or change it, with an installation.

        Raises:
            BadRequestError: its model is not known, or the installation contradicts another.

        """
        self._reach_device(grant, device, may_be_new=where is not None)
        if where is not None:
            point = self._registry.point(where.point)
            if point is None:
                raise BadRequestError("installation", f"there is no meter point {where.point}")
            _reach(grant, point.region)
        try:
            maker, name, memory = self._model_of(model)
        except ConfigError as error:
            raise BadRequestError("profile", str(error)) from None
        try:
            self._registrar.put_device(Device(device, serial, model, "", maker, name, memory), where)
        except ConfigError as error:
            raise BadRequestError("installation", str(error)) from None
        self._registry.refresh()
        return self._found(grant, device)

    def assign(self, grant: Grant, device: str, gateway: str, since: int | None) -> Found:
        """Give a device to a gateway from an instant on, now where none is given; its earlier readings stay welcome."""
        self._reach_device(grant, device, may_be_new=False)
        if self._registry.device(device) is None:
            raise NotFoundError(f"there is no device {device}")
        if not self._registry.admits(gateway):
            raise BadRequestError("gateway", f"there is no gateway {gateway}, or it is revoked")
        now = self._clock()
        if since is not None and since > now:
            raise BadRequestError("since", "lies in the future: assign a meter when it is moved")
        self._assignments.assign(device, gateway, now if since is None else since)
        self._registry.refresh()
        return self._found(grant, device)

    def _found(self, grant: Grant, device: str) -> Found:
        found = self._registry.device(device)
        if found is None:
            raise NotFoundError(f"there is no device {device}")
        return Found(found, Sight(self._registry, grant.regions, self._clock()).installations(device))

    def _reach_device(self, grant: Grant, device: str, *, may_be_new: bool) -> None:
        if covers(grant.regions, EVERYWHERE):
            return
        known = self._registry.device(device)
        if known is None and may_be_new:
            return
        places = [self._registry.point(each.point) for each in self._registry.installations_of(device)]
        if known is None or not any(each is not None and covers(grant.regions, each.region) for each in places):
            raise NotFoundError(f"there is no device {device}")


def _everywhere(grant: Grant) -> None:
    if not covers(grant.regions, EVERYWHERE):
        raise NotAllowedError("gateways are made and revoked with a token for all regions")


def _reach(grant: Grant, region: str) -> None:
    if not covers(grant.regions, region):
        raise NotAllowedError(f"the region {region} is not among those of this token")
