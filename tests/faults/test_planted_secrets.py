"""Secrets are planted all over a head-end and a gateway, and looked for in every byte that they keep or say."""

import asyncio
import base64
import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from headend.audit.chain import Entry, append
from headend.tokens import TokenBook
from headend.webhooks import Outbox, Outgoing, enqueue
from metergate.commands import registry_keys
from metergate.headend_file import load_headend, open_state
from metering import timing
from metering.supply import Action
from simulators.broker import MosquittoBroker, free_port
from simulators.dlms_security import test_keys as keys_of_meters
from storage.codec import unpack
from storage.inspect import records
from storage.recovery import EPOCH_FILE
from tests.faults.site_process import until
from tests.faults.test_gateway_and_headend import start
from tests.gateway.supply.edge import PASSWORD, Desk, Edge, street
from trust.keys import SigningKey

pytestmark = pytest.mark.real
FORGED = "mg_deadbeef_" + "Planted0" * 5 + "abc"


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it might be written: plain, hex, base64 at any place, shifted by 33H, and reversed."""
    for way in (secret, secret[::-1]):
        shifted = bytes(byte + 0x33 & 0xFF for byte in way)
        for raw in (way, shifted):
            yield raw
            yield raw.hex().encode()
            yield raw.hex().upper().encode()
            for before in range(3):
                text = base64.b64encode(bytes(before) + raw)
                inner = text[4 if before else 0 : len(text) // 4 * 4 - 4]
                yield inner
                yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def found_in(folder: Path, secrets: dict[str, bytes], *, but: Path) -> list[str]:
    """Return which secret stands in which file; a log's records are looked into as they are unpacked, too."""
    contents = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and but not in path.parents
    }
    for log in {path.parent for path in folder.rglob(EPOCH_FILE) if path.is_file()}:
        kept = [msgspec.msgpack.encode(unpack(each.payload)) for each in records(log)]
        contents[f"the records of {log.relative_to(folder)}"] = b"".join(kept)
    return [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for form in set(forms(secret))
        for place, content in contents.items()
        if form in content
    ]


@pytest.mark.parametrize("prefix", [b"", b"x", b"xy"], ids=["at-0", "at-1", "at-2"])
def test_what_is_planted_in_the_open_is_found_in_every_form(tmp_path: Path, prefix: bytes):
    secret = b"a planted secret!"
    shifted = bytes(byte + 0x33 & 0xFF for byte in secret)
    written = [secret, secret[::-1], shifted, base64.b64encode(prefix + secret), secret.hex().encode(), shifted[::-1]]
    for each in written:
        (tmp_path / "file").write_bytes(b"before" + each + b"after")
        assert found_in(tmp_path, {"it": secret}, but=tmp_path / "planted")


class Place:
    """A head-end whose secrets stand in a folder of their own."""

    def __init__(self, folder: Path, broker: MosquittoBroker) -> None:
        self.planted = folder / "planted"
        self.planted.mkdir()
        self.secrets = {
            name: f"planted {name} {number:032x}".encode()
            for number, name in enumerate(("webhook", "broker", "phrase"))
        }
        for name, secret in self.secrets.items():
            (self.planted / name).write_bytes(secret)
        key = SigningKey.generate()
        key.save(self.planted / "audit.pem", self.secrets["phrase"].decode())
        self.secrets["audit key"] = key._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.api = f"127.0.0.1:{free_port()}"
        self.file = folder / "headend.toml"
        self.text = f"""
[headend]
data = "{folder / "centre"}"
[api]
listen = "{self.api}"
[broker]
host = "127.0.0.1"
port = {broker.port}
username = "headend"
password = "file:{self.planted / "broker"}"
[enrolment]
ca_cert = "{self.planted / "ca.pem"}"
ca_key = "file:{self.planted / "ca.key"}"
[audit]
key = "file:{self.planted / "audit.pem"}"
passphrase = "file:{self.planted / "phrase"}"
[[webhook]]
name = "collections"
url = "http://127.0.0.1:{free_port()}/x"
secret = "file:{self.planted / "webhook"}"
"""
        self.file.write_text(self.text)
        registry_keys.make_authority(self.file)

    def decide(self) -> str:
        """Have a token, an entry of the audit and a message that waits; return the token."""
        with contextlib.closing(open_state(load_headend(self.file))) as state:
            token = TokenBook(state).create("test", ["audit:read", "admin"], [""])
            Outbox(state).subscribe("collections")
            entry = Entry(timing.now(), "token:ab", "command-requested", "c1", "js", {"point": "MP-1"})
            told = Outgoing("command", timing.now(), "MP-1", "js", {"state": "verified"})
            state.write(lambda connection: (append(connection, [entry]), enqueue(connection, told)))
        self.secrets["token"] = token.rpartition("_")[2].encode() if token.count("_") == 2 else token[12:].encode()
        return token


async def test_no_planted_secret_is_in_any_byte_that_a_headend_or_a_gateway_keeps_or_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broker = MosquittoBroker()
    await broker.start()
    place = Place(tmp_path, broker)
    token = place.decide()
    registry_keys.invite(place.file, "elm-7", 1)
    place.secrets["enrolment token"] = capsys.readouterr().out.splitlines()[-1].encode()
    headend = await start(tmp_path, "headend", place.text)

    async def head_signed() -> bool:
        return (tmp_path / "centre" / "audit-heads.jsonl").exists()

    async def is_up() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/healthz")).status_code == 200
        return False

    async with httpx.AsyncClient(base_url=f"http://{place.api}", trust_env=False) as client:
        await until(is_up, "the API")
        await until(head_signed, "the audit's first head")
        for word, status in ((token, 200), (FORGED, 401)):
            answer = await client.get("/v1/audit", headers={"Authorization": f"Bearer {word}"})
            assert answer.status_code == status
    known = keys_of_meters()
    place.secrets |= {"forged": FORGED[12:].encode(), "encryption key": known.encryption}
    place.secrets["authentication key"] = known.authentication
    async with street() as meters, Edge(tmp_path / "edge", meters, Desk(meters)) as edge:
        for device in ("dlms", "dlt645"):
            await edge.order(device, Action.DISCONNECT)
    master = tmp_path / "edge" / "master.key"
    place.secrets["master key"] = master.read_bytes().strip()
    master.rename(place.planted / "master.key")
    assert {path.name for path in (tmp_path / "centre").iterdir()} >= {"state.db", "state.db-wal", "readings.db"}
    assert found_in(tmp_path, place.secrets, but=place.planted) == []  # while it runs: the write-ahead log too
    headend.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(headend.wait(), 30)
    said = (tmp_path / "headend.err").read_text()
    await broker.stop()
    assert code == 0, said
    assert "a webhook does not take what it is told" in said
    assert len((tmp_path / "centre" / "audit-heads.jsonl").read_bytes().splitlines()) == 2
    assert found_in(tmp_path, place.secrets, but=place.planted) == []
    # Three bytes are found by chance in what is random: the meter's password is looked for in the frames alone.
    entries = [entry for each in records(tmp_path / "edge" / "log") for entry in unpack(each.payload).journal]
    frames = [entry.detail["frames"] for entry in entries if "frames" in entry.detail]
    shifted = bytes(byte + 0x33 & 0xFF for byte in PASSWORD)
    wanted = "|".join(each.hex() for each in (PASSWORD, PASSWORD[::-1], shifted, shifted[::-1]))
    assert len(set(frames)) == 2  # one told again with a later state is the same
    assert not re.search(wanted, "|".join(frames).lower().replace(" ", ""))
