"""Supply control of the demo: keys of people who sign, the trust document of its meters, and a request to try it with.

Everybody's keys lie in one folder here, without a passphrase. That is for a demonstration: elsewhere each person has
their own key on their own machine.
"""

from pathlib import Path
from typing import Any

import msgspec

from gateway.settings import MeterSettings
from gateway.supply.trust_file import TrustFile
from metergate.site import SiteFile, installations_of
from metergate.world import Places
from metering import timing
from metering.model import SECOND
from metering.timing import to_rfc3339
from trust.document import Binding, Caps, Holder, Service, TrustDocument, canonical
from trust.keys import SigningKey
from trust.signatures import Kind, sign

FOLDER = "signing"
RULES = Path(__file__).parent / "demo_rules"
CUSTODIAN, APPROVERS, SERVICE = "dora", ("anna", "ben"), "payments"
DAY = 86_400 * SECOND
CASE = "C-1042"


def policy_table() -> dict[str, Any]:
    """Return the table [policy] of the demo's site file."""
    return {"folder": str(RULES), "rule_sets": [{"region": "demo", "rule_set": "demo"}]}


def service_key(data: Path) -> Path:
    """Return the key that signs restores after a payment, made at the first start."""
    _key(data / FOLDER, SERVICE)
    return data / FOLDER / f"{SERVICE}.pem"


def enrol(site: SiteFile, places: Places) -> None:
    """Put the trust document of the DLMS meters in force, signed by the demo's custodian; a new version for others."""
    folder = site.gateway.data / FOLDER
    trust = TrustFile(site.gateway.data, site.gateway.id)
    wanted = _document(site, places, folder)
    last = trust.document
    if last is not None:
        if wanted == msgspec.structs.replace(last, version=wanted.version, issued_at=wanted.issued_at):
            return
        wanted = msgspec.structs.replace(wanted, version=last.version + 1)
    trust.install(sign(canonical(wanted), Kind.TRUST, [_key(folder, CUSTODIAN)]))


def switched(site: SiteFile) -> MeterSettings:
    """Return the meter whose supply the demo's lines cut: a DLMS meter with a class 70 relay."""
    return next(each for each in site.meter if each.dlms is not None)


def write_requests(site: SiteFile) -> None:
    """Write what is asked of the API: a disconnect with what collections knows of the debt, and the way back."""
    folder = site.gateway.data / FOLDER
    now = timing.now()
    notices = [
        {"id": f"n{number}", "kind": kind, "delivered_at": to_rfc3339(now - days * DAY), "channel": "letter"}
        for number, (kind, days) in enumerate((("demand", 45), ("notice", 14)), 1)
    ]
    facts = {"at": to_rfc3339(now), "owed": "321.50", "currency": "EUR", "notices": notices}
    for name, action, reason, more in (
        ("disconnect", "disconnect", "debt", {"facts": facts}),
        ("restore", "restore", "paid", {}),
    ):
        order: dict[str, Any] = {"point": switched(site).point, "case": CASE, **more}
        body = {"action": action, "reason": reason, "orders": [order]}
        (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(body)) + b"\n")


def supply_lines(site: SiteFile, meter: MeterSettings, tokens: dict[str, str], program: str) -> list[list[str]]:
    """Return lines for the shell, each in parts between which it may be broken: cut a supply, watch, give it back."""
    holders = {"SEE": "readings:read", "ASK": "commands:request"} | {who.upper(): who for who in APPROVERS}
    return [
        [f"U=http://{site.api.listen}/v1 D='{site.gateway.data / FOLDER}'"],
        *([f"{name}='Authorization: Bearer {tokens[kind]}'"] for name, kind in holders.items()),
        _request("disconnect"),
        *(line for who in APPROVERS for line in _approval(who, program)),
        *_watch(meter.point, meter.id),
        _request("restore"),
        *_watch(meter.point, meter.id),
    ]


def _request(name: str) -> list[str]:
    return [
        'ID=$(curl -s -H "$ASK" -H "Idempotency-Key: $(date +%s%N)" -H "Content-Type: application/json"',
        f'-d "@$D/{name}.json" $U/commands',
        '| tee /dev/stderr | grep -o \'"id":"[^"]*\' | head -1 | cut -c7-)',
    ]


def _approval(who: str, program: str) -> list[list[str]]:
    return [
        [f'curl -s -H "${who.upper()}" -o "$D/sheet.json" $U/commands/$ID/signing'],
        [
            f'{program} key sign "$D/{who}.pem" "$D/sheet.json" --yes',
            f'| curl -s -H "${who.upper()}" --data-binary @- $U/commands/$ID/approvals && echo',
        ],
    ]


def _watch(point: str, device: str) -> list[list[str]]:
    power = (
        f'curl -s -X POST -H "$SEE" $U/devices/{device}/reads | grep -o \'"obis":"1-0:1.7.0[^}}]*"value":"[0-9.]*"\''
    )
    return [
        [
            'until curl -s -H "$SEE" $U/commands/$ID | grep -o \'"state":"[a-z-]*"\' | tee /dev/stderr',
            "| grep -Eq 'verified|refused|failed|expired'; do sleep 1; done",
        ],
        [f'curl -s -H "$SEE" $U/meter-points/{point}/supply', f"&& echo && {power}"],
    ]


def _document(site: SiteFile, places: Places, folder: Path) -> TrustDocument:
    titles = {place.id: place.title for place in places.dlms}
    bindings = tuple(
        Binding(each.point, each.device, each.serial, f"title:{titles[each.device]}", each.valid_from)
        for each in installations_of(site)
        if each.device in titles
    )
    holders = {name: str(_key(folder, name).public) for name in (CUSTODIAN, *APPROVERS, SERVICE)}
    return TrustDocument(
        site.gateway.id,
        1,
        timing.now(),
        1,
        (Holder(CUSTODIAN, holders[CUSTODIAN]),),
        len(APPROVERS),
        tuple(Holder(name, holders[name]) for name in APPROVERS),
        Caps(per_hour=20, per_day=100, share_per_day=1000),
        (Service(SERVICE, holders[SERVICE], 20),),
        bindings=bindings,
        note="the demonstration",
    )


def _key(folder: Path, name: str) -> SigningKey:
    """Return somebody's key, made at the first start. Raises `ConfigError`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.pem"
    if not path.exists():
        SigningKey.generate().save(path)
    return SigningKey.load(path)
