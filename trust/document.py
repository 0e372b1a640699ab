"""The trust document of one gateway: who approves, how many, the caps, the never-cut list, and which meter is which.

It is signed offline by m of n key custodians, versioned, and never goes back; the first one is installed on site. It
is no configuration, and nothing that a head-end sends can change it (`accept`).
"""

from collections import Counter
from typing import Annotated, Literal

import msgspec

from metering.supply import LONGEST_VALIDITY_S, Id, Instant, Text, Watts
from trust.keys import PublicKey
from trust.signatures import BadSignatureError, Kind, payload_of, verify

MAX_KEYS = 64
MAX_BINDINGS = 20_000
SPREAD_S = 300  # of a campaign, where the document says nothing else

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Key = Annotated[str, msgspec.Meta(max_length=64)]


class Holder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person and a public key of theirs. Two keys of one person are one person."""

    person: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    key: Key


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An automatic key: it may give back what was opened for a debt, so many an hour; what is above it waits."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    key: Key
    per_hour: Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Caps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many disconnects the gateway carries out at most and how fast, whoever approved them.

    `share_per_day` is in thousandths of its meters; the smaller of it and `per_day` counts, but never less than one.
    What withholds by a campaign acts at a time of chance within at least `spread_s`: it bounds what is lost until
    somebody notices (Temple et al. 2013).
    """

    per_hour: Count
    per_day: Count
    share_per_day: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    spread_s: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_VALIDITY_S // 2)] = SPREAD_S

    def of_a_day(self, meters: int) -> int:
        """Return how many a day with so many meters."""
        return min(self.per_day, max(1, meters * self.share_per_day // 1000)) if self.share_per_day else 0


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which meter hangs at a point: its serial number, and its own identity as it tells it itself.

    `identity` is `title:` and the DLMS system title in hex, `address:` and the DL/T 645 address, or `serial:` and a
    Modbus register's text. `floor_w`: a limit below it counts as a disconnect.
    """

    point: Id
    device: Id
    serial: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    identity: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^(title|address|serial):.+\Z")]
    installation: int
    floor_w: Watts = 0


class TrustDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole document. `k` of the approvers' persons approve, `m` of the custodians' persons change it."""

    gateway: Id
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    issued_at: Instant
    m: Annotated[int, msgspec.Meta(ge=1, le=MAX_KEYS)]
    custodians: Annotated[tuple[Holder, ...], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]
    k: Annotated[int, msgspec.Meta(ge=2, le=MAX_KEYS)]  # one person alone never cuts a supply
    approvers: Annotated[tuple[Holder, ...], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]
    caps: Caps
    services: Annotated[tuple[Service, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()
    never_cut: Annotated[tuple[Id, ...], msgspec.Meta(max_length=MAX_BINDINGS)] = ()  # meter points
    bindings: Annotated[tuple[Binding, ...], msgspec.Meta(max_length=MAX_BINDINGS)] = ()
    note: Text = ""
    v: Literal[1] = 1

    def custodian_keys(self) -> dict[str, PublicKey]:
        """Return the custodians' keys by id."""
        return {key.id: key for each in self.custodians for key in [PublicKey.parse(each.key)]}

    def approver_keys(self) -> dict[str, PublicKey]:
        """Return the approvers' keys by id."""
        return {key.id: key for each in self.approvers for key in [PublicKey.parse(each.key)]}

    def service_keys(self) -> dict[str, PublicKey]:
        """Return the services' keys by id."""
        return {key.id: key for each in self.services for key in [PublicKey.parse(each.key)]}

    def faults(self) -> list[str]:
        """Return what is wrong with it in itself, in plain words; empty for a sound one."""
        found = []
        for name in ("custodians", "approvers", "services"):
            for number, each in enumerate(getattr(self, name)):
                try:
                    PublicKey.parse(each.key)
                except ValueError as error:
                    found.append(f"{name}[{number}].key: {error}")
        if found:
            return found
        persons = {each.person for each in self.custodians}
        if self.m > len(persons):
            found.append(f"m: {self.m} of {len(persons)} custodians can never sign")
        if self.k > len({each.person for each in self.approvers}):
            found.append(f"k: {self.k} of {len({each.person for each in self.approvers})} approvers can never sign")
        roles = [self.custodian_keys(), self.approver_keys(), self.service_keys()]
        if len(roles[0].keys() | roles[1].keys() | roles[2].keys()) != sum(
            len(each) for each in (self.custodians, self.approvers, self.services)
        ):
            found.append("custodians, approvers, services: a key stands twice; each has one role")
        for name in ("device", "point", "identity"):
            counts = Counter(getattr(each, name) for each in self.bindings)
            found += [f"bindings: the {name} {value} stands twice" for value, count in counts.items() if count > 1]
        return found


def canonical(document: TrustDocument) -> bytes:
    """Return the one form in which it is signed: JSON, keys sorted, no spaces, defaults left out."""
    return msgspec.json.encode(document, order="deterministic")


def parse(body: bytes) -> TrustDocument:
    """Return the document of its canonical bytes.

    Raises:
        ValueError: it is none, not in its canonical form, or unsound; the text says where.

    """
    document = msgspec.json.decode(body, type=TrustDocument)
    if canonical(document) != body:
        raise ValueError("the trust document is not in its canonical form")
    if faults := document.faults():
        raise ValueError(f"the trust document is unsound: {'; '.join(faults[:5])}")
    return document


def accept(current: TrustDocument | None, signed: bytes, gateway: str) -> TrustDocument:
    """Return the document that is in force after `signed` came: custodians of the CURRENT one signed it.

    Without a current one (the first, installed on site) its own custodians must have signed it.

    Raises:
        BadSignatureError: it is not signed by m of the custodians, or not for this gateway, or not newer.

    """
    try:
        claimed = parse(payload_of(signed))
    except ValueError as error:
        raise BadSignatureError(str(error)[:500]) from None
    judges = current or claimed
    verified = verify(signed, Kind.TRUST, judges.custodian_keys())
    persons = persons_of(judges.custodians, verified.kids)
    if len(persons) < judges.m:
        raise BadSignatureError(f"{len(persons)} of the custodians signed it; {judges.m} are needed")
    document = parse(verified.payload)
    if document.gateway != gateway:
        raise BadSignatureError(f"it is for the gateway {document.gateway!r}, not for {gateway!r}")
    if current is not None and document.version <= current.version:
        raise BadSignatureError(f"version {document.version} is not newer than {current.version}, which is in force")
    return document


def persons_of(holders: tuple[Holder, ...], kids: frozenset[str]) -> frozenset[str]:
    """Return the persons whose keys these are."""
    return frozenset(each.person for each in holders if PublicKey.parse(each.key).id in kids)
