"""A draft of a trust document, in TOML as people write it, checked and turned into the document that is signed."""

from pathlib import Path

from pydantic import Field

from collector.toml_file import error_at, validate
from gateway.fields import Id, Instant, Strict
from metering.errors import ConfigError
from metering.supply import LONGEST_VALIDITY_S
from metering.timing import now
from trust.document import SPREAD_S, Binding, Caps, Holder, Service, TrustDocument


class HolderTable(Strict):
    """A person and a public key of theirs (`metergate key make` prints it)."""

    person: str
    key: str


class ServiceTable(Strict):
    """An automatic key and how many commands an hour it may give."""

    name: str
    key: str
    per_hour: int = Field(ge=1)


class CapsTable(Strict):
    """The most disconnects that the gateway carries out."""

    per_hour: int = Field(ge=0)
    per_day: int = Field(ge=0)
    share_per_day: int = Field(ge=0, le=1000)  # thousandths of the gateway's meters
    spread_s: int = Field(SPREAD_S, ge=0, le=LONGEST_VALIDITY_S // 2)  # of what a campaign withholds, at least


class BindingTable(Strict):
    """Which meter hangs where, and how it names itself."""

    point: Id
    device: Id
    serial: str
    identity: str  # title:<hex>, address:<digits> or serial:<text>
    installed: Instant = 0
    floor_w: int = Field(0, ge=0)


class Draft(Strict):
    """The whole draft."""

    gateway: Id
    version: int = Field(ge=1)
    note: str = ""
    m: int = Field(ge=1)  # custodians who must sign a change
    k: int = Field(ge=2)  # approvers who must sign a disconnect
    caps: CapsTable
    never_cut: list[Id] = Field(default_factory=list)  # meter points
    custodian: list[HolderTable]
    approver: list[HolderTable]
    service: list[ServiceTable] = Field(default_factory=list)
    binding: list[BindingTable] = Field(default_factory=list)


def load_draft(path: Path) -> TrustDocument:
    """Return the document of a draft, issued now and signed by nobody yet.

    Raises:
        ConfigError: names file, line and key, or says what of it can never work.

    """
    draft = validate(Draft, path)
    for index, binding in enumerate(draft.binding):
        if not binding.identity.startswith(("title:", "address:", "serial:")):
            raise error_at(path, ("binding", index, "identity"), "begins with title:, address: or serial:")
    document = TrustDocument(
        draft.gateway,
        draft.version,
        now(),
        draft.m,
        tuple(Holder(each.person, each.key) for each in draft.custodian),
        draft.k,
        tuple(Holder(each.person, each.key) for each in draft.approver),
        Caps(draft.caps.per_hour, draft.caps.per_day, draft.caps.share_per_day, draft.caps.spread_s),
        tuple(Service(each.name, each.key, each.per_hour) for each in draft.service),
        tuple(draft.never_cut),
        tuple(
            Binding(each.point, each.device, each.serial, each.identity, each.installed, each.floor_w)
            for each in draft.binding
        ),
        draft.note,
    )
    if faults := document.faults():
        raise ConfigError("; ".join(faults[:5]), file=str(path))
    return document
