"""`metergate trust`: a gateway's trust document, drafted, signed offline by its custodians, and installed on site."""

from collections.abc import Iterator
from pathlib import Path

from gateway.supply.trust_file import TrustFile
from metergate.commands.sign import agreed, open_key, read_small, write_new
from metergate.site import load_site
from metergate.trust_draft import load_draft
from metering.errors import ConfigError
from metering.timing import to_rfc3339
from trust.document import TrustDocument, canonical, parse, persons_of
from trust.signatures import BadSignatureError, Kind, add, payload_of, sign, verify

SHOWN = 50  # bindings that are shown


def make(draft: Path, key: Path, out: Path, passphrase: str | None, *, yes: bool) -> None:
    """Turn a draft into a document with its first signature."""
    document = load_draft(draft)
    signer = open_key(key, passphrase)
    agreed(lines_of(document), yes=yes)
    write_new(out, sign(canonical(document), Kind.TRUST, [signer]))
    print(f"{out}: version {document.version}, signed by {signer.public.id}; {_who(out)}")


def sign_it(file: Path, key: Path, passphrase: str | None, *, yes: bool) -> None:
    """Add a signature to a document."""
    signed = read_small(file)
    document = _document(file, signed)
    signer = open_key(key, passphrase)
    agreed(lines_of(document), yes=yes)
    more = add(signed, Kind.TRUST, signer)
    temporary = file.with_name(file.name + ".new")
    write_new(temporary, more)
    temporary.replace(file)
    print(f"{file}: signed by {signer.public.id}; {_who(file)}")


def show(file: Path) -> None:
    """Print what a document says and who signed it."""
    for line in lines_of(_document(file, read_small(file))):
        print(line)
    print(_who(file))


def install(site_file: Path, file: Path) -> None:
    """Put a document in force on this gateway."""
    site = load_site(site_file)
    trust = TrustFile(site.gateway.data, site.gateway.id)
    before = trust.document
    try:
        document = trust.install(read_small(file))
    except BadSignatureError as error:
        raise ConfigError(f"{file} is not taken: {error}") from None
    was = f"version {before.version} was" if before is not None else "none was"
    print(f"version {document.version} is in force on {document.gateway} ({was}); a running gateway takes it at once")


def lines_of(document: TrustDocument) -> Iterator[str]:
    """Yield a document in words."""
    yield f"trust document of the gateway {document.gateway}, version {document.version}"
    yield f"  issued {to_rfc3339(document.issued_at)} {document.note}".rstrip()
    custodians = ", ".join(sorted({each.person for each in document.custodians}))
    approvers = ", ".join(sorted({each.person for each in document.approvers}))
    yield f"  changed by {document.m} of: {custodians}"
    yield f"  disconnects approved by {document.k} of: {approvers}"
    for service in document.services:
        yield f"  gives back by itself what was opened for a debt: {service.name}, {service.per_hour} an hour"
    caps = document.caps
    yield f"  at most {caps.per_hour} an hour, {caps.per_day} and {caps.share_per_day / 10:g} % of its meters a day"
    yield f"  never cut: {', '.join(document.never_cut) or 'nobody is on the list'}"
    yield f"  {len(document.bindings)} meters"
    for each in document.bindings[:SHOWN]:
        yield f"    {each.point}  {each.device}  serial {each.serial}  {each.identity}  floor {each.floor_w} W"


def _document(file: Path, signed: bytes) -> TrustDocument:
    try:
        return parse(payload_of(signed))
    except ValueError as error:
        raise ConfigError(f"{str(error)[:300]}", file=str(file)) from None


def _who(file: Path) -> str:
    """Return who of the document's own custodians signed it, in words."""
    signed = read_small(file)
    document = _document(file, signed)
    try:
        kids = verify(signed, Kind.TRUST, document.custodian_keys()).kids
    except BadSignatureError as error:
        return f"{error}; {document.m} of its custodians must sign"
    persons = persons_of(document.custodians, kids)
    return f"{len(persons)} of {document.m} custodians have signed: {', '.join(sorted(persons))}"
