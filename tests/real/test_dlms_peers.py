"""The simulated DLMS meter is read completely by clients that no one here wrote, in every way that they can speak."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.protocols.dlms.acse import INITIATE_RESPONSE, Mechanism
from metering.model import SECOND
from simulators.dlms_cipher import Cipher, Envelope
from simulators.dlms_faults import DlmsFault
from simulators.dlms_meter import DlmsMeter, DlmsSettings, ProfileSettings
from simulators.dlms_profiles import Capture
from simulators.dlms_security import (
    GMAC_CLIENT,
    MD5_CLIENT,
    PUBLIC,
    READER,
    SHA1_CLIENT,
    SHA256_CLIENT,
    TEST_PASSWORD,
    TEST_SECRET,
    AccessSettings,
    Client,
)
from simulators.dlms_security import test_keys as keys_of_tests
from simulators.dlms_tcp import DlmsTcpServer, Framing
from simulators.meter import Meter, MeterSettings

pytestmark = pytest.mark.real

PEERS = Path(__file__).parents[2] / ".peers" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "peers"
NOW = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z
DAY = ("2026-11-17T00:00:00+00:00", "2026-11-18T00:00:00+00:00")
DAY_STAMPS = (1_794_873_600 * SECOND, 1_794_960_000 * SECOND)
REGISTER = "1-0:1.8.0*255"
CLIENTS = {
    "none": (PUBLIC, Mechanism.NONE, b""),
    "low": (READER, Mechanism.LOW, TEST_PASSWORD),
    "high-md5": (MD5_CLIENT, Mechanism.HIGH_MD5, TEST_SECRET),
    "high-sha1": (SHA1_CLIENT, Mechanism.HIGH_SHA1, TEST_SECRET),
    "high-gmac": (GMAC_CLIENT, Mechanism.HIGH_GMAC, b""),
    "high-sha256": (SHA256_CLIENT, Mechanism.HIGH_SHA256, TEST_SECRET),
}
ENVELOPES = {
    "none": 0x00,
    "authenticated": 0x10,
    "encrypted": 0x20,
    "authenticated-encrypted": 0x30,
}
TAGS = ("glo", "ded", "general-glo", "general-ded")
WHOLE, SHORT = 60, 2  # days of the load profile


@dataclass
class Site:
    """A meter behind both framings, and how every opened APDU was protected."""

    meter: DlmsMeter
    ports: dict[str, int]
    envelopes: set[Envelope]


@pytest.fixture
def envelopes(monkeypatch: pytest.MonkeyPatch) -> set[Envelope]:
    seen: set[Envelope] = set()
    closing = Cipher.close

    def close(self: Cipher, plain: bytes, now: int, fault: DlmsFault | None) -> bytes:
        if plain[0] != INITIATE_RESPONSE:
            seen.add(self._envelope)
        return closing(self, plain, now, fault)

    monkeypatch.setattr(Cipher, "close", close)
    return seen


@pytest.fixture
async def site(request: pytest.FixtureRequest, envelopes: set[Envelope]) -> AsyncIterator[Site]:
    access = AccessSettings(tuple(Client(number, how, secret=secret) for number, how, secret in CLIENTS.values()))
    settings = DlmsSettings(profile=ProfileSettings(days=request.param), access=access)
    meter = DlmsMeter(Meter(MeterSettings(seed=3)), settings, now=lambda: NOW)
    framings: tuple[Framing, ...] = ("wrapper", "hdlc")
    servers = {framing: DlmsTcpServer({1: meter}, framing=framing) for framing in framings}
    yield Site(meter, {framing: (await server.start())[1] for framing, server in servers.items()}, envelopes)
    for server in servers.values():
        await server.close()


def case(site: Site, transport: str, mechanism: str, security: str, tags: str, counter: int) -> dict[str, Any]:
    client, _, secret = CLIENTS[mechanism]
    return {
        "name": f"{transport} {mechanism} {security} {tags}",
        "transport": transport,
        "port": site.ports[transport],
        "client": client,
        "server": 1,
        "physical": 17,
        "mechanism": mechanism,
        "security": security,
        "tags": tags,
        "password": secret.decode(),
        "encryption": keys_of_tests().encryption.hex(),
        "authentication": keys_of_tests().authentication.hex(),
        "title": b"MGTGTW01".hex(),
        "counter": counter,
        "max_pdu": 1024,
        "day": DAY,
    }


async def ask_peer(program: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert PEERS.exists(), "the peers' environment is not there; make it with: make peers"
    pipe = asyncio.subprocess.PIPE
    peer = await asyncio.create_subprocess_exec(PEERS, PROGRAMS / program, stdin=pipe, stdout=pipe, stderr=pipe)
    answers, words = await peer.communicate(json.dumps(cases).encode())
    assert peer.returncode == 0, words.decode()[-2000:]
    return [json.loads(line) for line in answers.splitlines()]


def expected_rows(meter: DlmsMeter, *, seconds: bool, low: int = 0, high: int = 1 << 62) -> list[list[object]]:
    """Return the load profile's rows as a peer shows them: the time as hex, or as seconds since 1970."""

    def shown(capture: Capture) -> list[object]:
        first, *rest = (value.value for value in meter.load_profile.row(capture))
        return [capture.shown // SECOND if seconds else first.hex(), *rest]

    return [shown(capture) for capture in meter.load_profile.captures(NOW, low, high)]


def check(site: Site, answers: list[dict[str, Any]], count: int, *, seconds: bool) -> None:
    whole = expected_rows(site.meter, seconds=seconds)
    day = expected_rows(site.meter, seconds=seconds, low=DAY_STAMPS[0], high=DAY_STAMPS[1])
    assert len(whole) > 90
    assert len(day) == 97  # both ends belong to the range
    register = site.meter.registers.value(REGISTER, NOW).value
    for answer in answers:
        assert "error" not in answer, f"{answer['name']}: {answer['error']}"
        assert answer["register"] == register, answer["name"]
        assert answer["rows"] == whole, answer["name"]
        assert answer["day"] == day, answer["name"]
        assert (answer["disconnected"], answer["reconnected"], answer["released"]) == (0, 1, True), answer["name"]
    assert len(answers) == count
    assert site.meter.security.attempts == {}
    assert site.meter.security.refusals == 0
    assert site.meter.meter.supply_on


def check_envelopes(site: Site, cases: list[dict[str, Any]]) -> None:
    """Every way of protecting was really used."""
    wanted = {
        Envelope(ENVELOPES[one["security"]], one["tags"].startswith("general"), one["tags"].endswith("ded"))
        for one in cases
        if one["security"] != "none"
    }
    assert wanted <= site.envelopes


@pytest.mark.parametrize("site", [WHOLE], indirect=True, ids=["60 days"])
@pytest.mark.parametrize("transport", ["wrapper", "hdlc"])
async def test_dlms_cosem_reads_the_meter_in_every_association_that_it_can_speak(site: Site, transport: str):
    ways = [
        ("none", "none"),
        ("none", "authenticated-encrypted"),
        ("low", "none"),
        ("low", "authenticated-encrypted"),
        ("high-gmac", "authenticated-encrypted"),
    ]
    cases = [case(site, transport, how, what, "general-glo", 1000 * k) for k, (how, what) in enumerate(ways, 1)]
    check(site, await ask_peer("cosem_client.py", cases), len(cases), seconds=False)
    check_envelopes(site, cases)


@pytest.mark.parametrize("site", [SHORT], indirect=True, ids=["2 days"])
@pytest.mark.parametrize("mechanism", CLIENTS)
@pytest.mark.parametrize("transport", ["wrapper", "hdlc"])
async def test_gurux_reads_the_meter_in_every_association_that_it_can_speak(site: Site, transport: str, mechanism: str):
    ways = [("none", "glo"), *((what, tags) for what in list(ENVELOPES)[1:] for tags in TAGS)]
    cases = [case(site, transport, mechanism, what, tags, 1000 * k) for k, (what, tags) in enumerate(ways, 1)]
    check(site, await ask_peer("gurux_client.py", cases), len(cases), seconds=True)
    check_envelopes(site, cases)


@pytest.mark.parametrize("site", [WHOLE], indirect=True, ids=["60 days"])
async def test_gurux_reads_sixty_days_of_load_profile(site: Site):
    ways = [
        ("wrapper", "none", "none"),
        ("hdlc", "low", "none"),
        ("wrapper", "high-gmac", "authenticated-encrypted"),
        ("hdlc", "high-gmac", "authenticated-encrypted"),
    ]
    cases = [case(site, *way, "glo", 1000 * number) for number, way in enumerate(ways, 1)]
    check(site, await ask_peer("gurux_client.py", cases), len(cases), seconds=True)
