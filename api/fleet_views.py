"""Gateways, invitations and enrolments as they are answered. Instants become RFC 3339 text."""

import msgspec

from headend.fleet import GatewayReport
from metering.timing import to_rfc3339


class GatewayView(msgspec.Struct):
    """A gateway: what is known of it, what it last said of itself, and what is committed of its records.

    `missing` are the first ranges of seqs that are missing (inclusive), `missing_count` all of them. `log_depth` is how
    many records it had that were not committed when it last spoke. `clock_offset_ms`: its clock is ahead by so much.
    `refused` says why it, or a second one of its id, is refused; empty where none is.
    """

    id: str
    created_at: str
    enrolled_at: str | None
    fingerprint: str
    revoked_at: str | None
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
    last_seen: str | None
    configuration_version: int
    refused: str


class GatewaysPage(msgspec.Struct):
    """A page of gateways. `next` is the cursor of the next one, null on the last."""

    gateways: list[GatewayView]
    next: str | None


class InvitationView(msgspec.Struct):
    """A one-time token with which this gateway may enrol until `expires_at`. It is shown this once."""

    gateway: str
    token: str
    expires_at: str


class EnrolmentView(msgspec.Struct):
    """A gateway's certificate and that of the authority which signed it, both PEM."""

    gateway: str
    certificate: str
    authority: str
    expires_at: str


FLEET_ANSWERS = (GatewayView, GatewaysPage, InvitationView, EnrolmentView)


def gateway_view(report: GatewayReport) -> GatewayView:
    """Return a gateway."""
    gateway = report.gateway
    return GatewayView(
        gateway.id,
        to_rfc3339(gateway.created_at),
        _time(gateway.enrolled_at),
        gateway.fingerprint,
        _time(gateway.revoked_at),
        report.online,
        report.boot,
        report.version,
        report.meters,
        report.epoch,
        report.epochs,
        report.contiguous,
        report.missing,
        report.missing_count,
        report.log_depth,
        report.clock_offset_ms,
        report.clock_suspect,
        _time(report.last_seen),
        gateway.config_version,
        report.refused,
    )


def _time(instant: int | None) -> str | None:
    return to_rfc3339(instant) if instant is not None else None
