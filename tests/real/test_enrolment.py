"""From nothing to a gateway at a head-end over TLS, by the commands that the README names, as processes."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from headend.tokens import TokenBook
from metergate.commands import enrol, registry, registry_keys
from metergate.headend_file import load_headend, open_state
from metering.errors import ConfigError, StorageError
from simulators.broker import MosquittoBroker, find_mosquitto, free_port
from tests.faults.site_process import until
from tests.faults.test_gateway_and_headend import start

pytestmark = pytest.mark.real
SHIPPED = Path(__file__).parents[2] / "config" / "mosquitto"


class Place:
    """A head-end with an authority, a broker behind TLS, and the file of a gateway that has not enrolled."""

    def __init__(self, folder: Path) -> None:
        assert find_mosquitto(), "Mosquitto is missing: apt-get install mosquitto"
        self.folder = folder
        self.api = f"127.0.0.1:{free_port()}"
        port = free_port()
        self.file = folder / "headend.toml"
        self.text = (
            f'[headend]\ndata = "{folder / "centre"}"\n[api]\nlisten = "{self.api}"\n[broker]\nhost = "127.0.0.1"\n'
            f'port = {port}\nca_file = "{folder / "ca.pem"}"\ncert_file = "{folder / "metergate.headend.pem"}"\n'
            f'key_file = "{folder / "metergate.headend.key"}"\n[enrolment]\nca_cert = "{folder / "ca.pem"}"\n'
            f'ca_key = "file:{folder / "ca.key"}"\ncrl_file = "{folder / "crl.pem"}"\n'
        )
        self.file.write_text(self.text)
        registry_keys.make_authority(self.file)
        registry_keys.make_certificate(self.file, "broker", folder, ["127.0.0.1"])
        registry_keys.make_certificate(self.file, "metergate.headend", folder, [])
        self.broker = MosquittoBroker(
            port,
            extra=f"certfile {folder}/broker.pem\nkeyfile {folder}/broker.key\ncafile {folder}/ca.pem\n"
            f"require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            f"crlfile {folder}/crl.pem\nacl_file {SHIPPED / 'metergate.acl'}",
        )
        self.site = folder / "site.toml"
        self.site.write_text(self.site_text())

    def site_text(self) -> str:
        return (
            f'[gateway]\nid = "elm-7"\ndata = "{self.folder / "edge"}"\n'
            f'[uplink]\nhost = "127.0.0.1"\nport = {self.broker._wanted}\n'
        )

    def headers(self) -> dict[str, str]:
        state = open_state(load_headend(self.file))
        token = TokenBook(state).create("test", ["admin"], [""])
        state.close()
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    headend = await start(tmp_path, "headend", made.text)

    async def listed() -> bool:
        assert headend.returncode is None, (tmp_path / "headend.err").read_text()
        return (tmp_path / "crl.pem").exists()

    await until(listed, "the list of revoked certificates")
    await made.broker.start()
    yield made
    headend.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(headend.wait(), 30)
    await made.broker.stop()
    assert code == 0, (tmp_path / "headend.err").read_text()


def tokens_in(folder: Path, said: str) -> Path:
    path = folder / "token"
    path.write_text(said.splitlines()[-1])
    return path


async def test_a_gateway_enrols_and_speaks_over_tls_until_it_is_revoked(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    registry_keys.invite(place.file, "elm-7", 1)
    token = tokens_in(tmp_path, capsys.readouterr().out)
    async with httpx.AsyncClient(base_url=f"http://{place.api}", headers=place.headers(), trust_env=False) as client:

        async def is_up() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_up, "the API")
        await asyncio.to_thread(enrol.run_enrol, place.site, f"http://{place.api}", f"file:{token}", None)
        lines = capsys.readouterr().out.splitlines()[-3:]  # as it says; the port is the test's
        assert (tmp_path / "edge" / "identity" / "gateway.key").stat().st_mode & 0o777 == 0o600
        gateway = await start(tmp_path, "gateway", place.site_text() + "\n".join(lines) + "\n")

        async def answer() -> dict[str, object]:
            return dict((await client.get("/v1/gateways/elm-7")).json())

        async def online() -> bool:
            return bool((await answer()).get("online"))

        await until(online, "the gateway at the head-end")
        empty = (tmp_path / "crl.pem").stat().st_size
        await client.delete("/v1/gateways/elm-7")

        async def in_list() -> bool:
            return (tmp_path / "crl.pem").stat().st_size > empty

        await until(in_list, "the list")
        assert (await answer())["refused"] == "revoked"
        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.wait(), 30) == 0
    registry.show(place.file)
    assert "gateway  elm-7  revoked" in capsys.readouterr().out


async def test_a_wrong_token_is_refused_and_told(place: Place, tmp_path: Path):
    async def refused() -> str:
        try:
            await asyncio.to_thread(enrol.run_enrol, place.site, f"http://{place.api}", f"file:{token}", None)
        except StorageError as error:
            return str(error) if "refuses" in str(error) else ""
        return ""

    token = tmp_path / "token"
    token.write_text("not-a-token")
    said = str(await until(refused, "the refusal"))
    assert "the token is unknown, expired or spent" in said
    assert "not-a-token" not in said


def test_a_token_does_not_cross_a_network_in_clear(tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text(f'[gateway]\nid = "elm-7"\ndata = "{tmp_path / "edge"}"\n')
    token = tmp_path / "token"
    token.write_text("secret")
    with pytest.raises(ConfigError, match="over https only"):
        enrol.run_enrol(site, "http://headend.example", f"file:{token}", None)


def test_a_certificate_that_could_be_a_gateways_is_not_made_by_name(tmp_path: Path):
    file = tmp_path / "headend.toml"
    file.write_text(
        f'[headend]\ndata = "{tmp_path}"\n[broker]\nhost = "127.0.0.1"\n'
        f'[enrolment]\nca_cert = "{tmp_path / "ca.pem"}"\nca_key = "file:{tmp_path / "ca.key"}"\n'
    )
    registry_keys.make_authority(file)
    with pytest.raises(ConfigError, match="is there already"):
        registry_keys.make_authority(file)
    with pytest.raises(ConfigError, match="take a name with a dot"):
        registry_keys.make_certificate(file, "headend", tmp_path, [])
