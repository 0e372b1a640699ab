"""A site of DLMS and DL/T 645 meters with planted secrets, and what its simulated meters saw of its conversations."""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.keystore import KeyStore
from gateway.master_key import make_master
from metering import timing
from metering.model import SECOND, Source
from metering.ports import ReadingsQuery
from simulators.dlms_cipher import Cipher
from simulators.dlms_security import GMAC_CLIENT, READER
from simulators.fleet import Place, Simulation
from simulators.fleet_file import Fleet
from storage.embedded import EmbeddedStore

HOUR = 3600 * SECOND
QUARTER = 900 * SECOND
DAYS = 20
# Looked for in whatever the site writes and says: in no document and in no other test.
ENCRYPTION = bytes.fromhex("5e1f9ac03b7742d8a6c4910e2f6d83b7")
AUTHENTICATION = bytes.fromhex("c81d40f7e95b26a3710f8ed4623b95ca")
WRONG = bytes.fromhex("7a40d91be2c65f83a917c0d4e85b2f61")
PASSWORD = b"Qz7planted"
OPERATOR = bytes.fromhex("93751846")
SHORTEST = 8  # bytes: shorter ones come by chance
SECRETS = (ENCRYPTION, AUTHENTICATION, WRONG, PASSWORD, OPERATOR)
CIPHERED = {"client": GMAC_CLIENT, "authentication": "high-gmac", "security": "authenticated-encrypted"}
LOW = {"client": READER, "authentication": "low", "security": "none"}
ASKED: dict[str, dict[str, Any]] = {
    "glo": CIPHERED | {"server": 1},
    "general": CIPHERED | {"server": 2, "ciphering": "general-glo"},
    "low": LOW | {"server": 3},
    "wrong": CIPHERED | {"server": 4},
    "line": CIPHERED | {"server": 1, "physical": 17},
}
ADDRESS = "000000000161"
Row = tuple[str, int, str, int]  # meter, interval, kind and code, slot


def since() -> int:
    """Return from when on the meters hang there (us)."""
    return timing.now() // HOUR * HOUR - DAYS * 24 * HOUR


def fleet_of(begin: int, fault: Mapping[str, list[dict[str, Any]]] | None = None) -> Fleet:
    """Return the meters; `fault` are standing faults by meter id."""
    struck = fault or {}
    keys = {"encryption": ENCRYPTION.hex(), "authentication": AUTHENTICATION.hex()}
    clients = [
        {"address": GMAC_CLIENT, "mechanism": "high-gmac"},
        {"address": READER, "mechanism": "low", "role": "reader", "secret": PASSWORD.decode()},
    ]
    made: dict[str, Any] = {"installed": timing.to_rfc3339(begin - HOUR), "history": False, "keys": keys}

    def meter(name: str) -> dict[str, Any]:
        place = {each: ASKED[name][each] for each in ("server", "physical") if each in ASKED[name]}
        return {"id": name, **place, **made, "client": clients, "fault": struck.get(name, [])}

    pair = {"id": "pair", "address": ADDRESS, "installed": made["installed"], "fault": struck.get("pair", [])}
    return Fleet.model_validate(
        {
            "seed": 11,
            "dlms": [
                {"id": "wan", "meter": [meter(name) for name in ("glo", "general", "low", "wrong")]},
                {"id": "hub", "transport": "hdlc", "meter": [meter("line")]},
            ],
            "dlt645": [{"id": "rs485", "meter": [pair]}],
        }
    )


def tables_of(simulation: Simulation, folder: Path, begin: int) -> dict[str, Any]:
    """Return the tables of the site file; the key store is filled before its first start."""
    kinds = {"wan": "wrapper", "hub": "hdlc-tcp", "rs485": "dlt645-tcp"}
    common = {"installed": timing.to_rfc3339(begin), "region": "js/nj", "zone": "UTC"}
    meters = [
        {"id": name, "profile": "dlms_generic", "point": f"MP-{name}", "dlms": asked, **common}
        | {"bus": "hub" if name == "line" else "wan", "serial": simulation.meters[name].serial}
        for name, asked in ASKED.items()
    ]
    pair = {"id": "pair", "profile": "dlt645_2007_3p", "point": "MP-pair", "bus": "rs485", "address": ADDRESS}
    return {
        "schedule": {"registers": "2s", "instantaneous": "2s"},
        "keys": {"master": f"file:{folder / 'master.key'}"},
        "bus": [{"id": name, "kind": kind, **_where(simulation.places[name])} for name, kind in kinds.items()],
        "meter": [*meters, pair | common | {"zone": "Asia/Shanghai"}],
    }


def _where(place: Place) -> dict[str, Any]:
    assert isinstance(place, tuple)
    return {"host": place[0], "port": place[1]}


def fill_keys(folder: Path, data: Path) -> None:
    """Make the master key and put the meters' secrets into the site's key store; one meter gets a wrong key."""
    (folder / "master.key").write_text(make_master())
    store = KeyStore(data / "keys", f"file:{folder / 'master.key'}")
    for name, asked in ASKED.items():
        if asked["security"] == "none":
            store.put(name, {"password": PASSWORD})
        else:
            encryption = WRONG if name == "wrong" else ENCRYPTION
            store.put(name, {"encryption": encryption, "authentication": AUTHENTICATION}, counter=0)
    store.put("pair", {"operator": OPERATOR})
    store.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Return, by meter's system title and client, every invocation counter that a meter was shown, in order."""
    found: dict[str, list[int]] = defaultdict(list)
    take, prove = Cipher.take, Cipher.prove
    proving: list[int] = []

    def name(cipher: Cipher) -> str:
        return f"{cipher._security.title.hex()} {cipher._client.address}"

    def taken(self: Cipher, counter: int, *, dedicated: bool = False) -> None:
        if not dedicated and not proving:
            found[name(self)].append(counter)
        take(self, counter, dedicated=dedicated)

    def proven(self: Cipher, counter: int) -> None:
        found[name(self)].append(counter)
        proving.append(counter)
        try:
            prove(self, counter)
        finally:
            proving.clear()

    monkeypatch.setattr(Cipher, "take", taken)
    monkeypatch.setattr(Cipher, "prove", proven)
    return found


def rows_of_store(data: Path, devices: Iterable[str]) -> Counter[Row]:
    """Return how often each row of the meters' own profiles is stored, older versions included."""
    store = EmbeddedStore(data / "readings.db")
    rows: Counter[Row] = Counter()
    for device in devices:
        query = ReadingsQuery(device, 0, 1 << 60, versions=True, limit=10_000)
        while True:
            page = store.readings(query)
            for each in page.readings:
                at = each.channel
                if at.source is Source.PROFILE and 0 < at.interval < 86_400 and each.slot is not None:
                    rows[device, at.interval, f"{at.kind} {at.column.obis}", each.slot] += 1
            if not page.cursor:
                break
            query = msgspec.structs.replace(query, after=page.cursor)
    store.close()
    return rows


def check_rows(rows: Counter[Row], begin: int, until: int) -> set[str]:
    """Check that each profile is whole from `begin` to `until` and no row there twice; return whose they are."""
    assert rows, "no profile was read"
    assert set(rows.values()) == {1}, [row for row, count in rows.items() if count > 1][:5]
    slots: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for device, interval, codes, slot in rows:
        slots[device, interval, codes].add(slot)
    for (device, interval, codes), held in slots.items():
        step = interval * SECOND
        wanted = set(range(begin // step * step + step, until // step * step + 1, step))
        assert wanted <= held, (device, codes, len(wanted - held), timing.to_rfc3339(min(wanted - held)))
    return {device for device, _, _ in slots}


def forms(secret: bytes) -> set[bytes]:
    """Return how a secret may show itself: as it is, in hex, with blanks, in Python's and in base64's words."""

    plain = secret.hex()
    return {
        secret,
        plain.encode(),
        plain.upper().encode(),
        secret.hex(" ").encode(),
        secret.hex(" ").upper().encode(),
        repr(secret)[2:-1].encode(),
        b64encode(secret).rstrip(b"="),
    }


def leaks(where: Mapping[str, bytes]) -> list[str]:
    """Return the names of what holds a secret in any form."""
    wanted = {form for secret in SECRETS for form in forms(secret) if len(form) >= SHORTEST}
    return [name for name, content in where.items() if any(form in content for form in wanted)]


def written(data: Path, *others: Path) -> dict[str, bytes]:
    """Return every file of the data folder and the others by its name."""
    files = [path for path in data.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in (*files, *others)}


def said_to_the_system(pid: int) -> dict[str, bytes]:
    """Return a process's arguments and environment, as everybody of the machine's staff can read them."""
    return {f"/proc/{pid}/{name}": Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")}
