"""What the doctor says of a DLMS meter that refuses secrets or counters: told apart, and each tried once."""

import asyncio
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.dlms_meters import client_title
from gateway.master_key import make_master
from simulators.dlms_meter import DlmsSettings
from simulators.dlms_security import GMAC_CLIENT, PUBLIC, READER, AccessSettings, usual_clients
from simulators.dlms_serial import DlmsLine
from tests.metergate.dlms_site import GMAC, GMAC_ENCRYPTED, LOW, WRONG, Command, DlmsSite, Endpoints, made

pytestmark = pytest.mark.usefixtures("short_waits")

# --- who is let in ----------------------------------------------------------------------------------------------------


class Refused(NamedTuple):
    """A meter's settings and secrets of which something is wrong, and what the doctor says."""

    dlms: str
    secrets: dict[str, bytes]
    says: tuple[str, ...]


WRONG_ONES = {
    "client": Refused(
        "client = 99",
        {},
        ("the meter refuses the association", "correct client, server, authentication or security in the file"),
    ),
    "context": Refused(
        'client = 16, security = "authenticated-encrypted"',
        {},
        ("it does not know this context (plain or ciphered) for this client", "(client 16, server 1, security auth"),
    ),
    "no mechanism": Refused(
        f"client = {READER}",
        {},
        ("this client must authenticate itself", "correct authentication or client in the file (none for client 32)"),
    ),
    "another mechanism": Refused(
        f'client = {READER}, authentication = "high-md5"',
        {},
        ("it does not know this kind of authentication", "metergate key unlock FILE m"),
    ),
    "password": Refused(
        LOW,
        {"password": b"87654321"},
        (
            "authentication failed: wrong password",
            "the password is wrong",
            "metergate key add FILE m --password SECRET",
        ),
    ),
    "either key": Refused(
        GMAC,
        {"encryption": WRONG},
        (
            "wrong key, wrong authentication key or wrong system title",
            "the encryption key or authentication key is wrong",
            "metergate key add FILE m --encryption SECRET --authentication SECRET",
        ),
    ),
    "encryption key": Refused(
        GMAC_ENCRYPTED,
        {"encryption": WRONG},
        ("; the encryption key is wrong", "metergate key add FILE m --encryption SECRET;"),
    ),
    "authentication key": Refused(
        GMAC_ENCRYPTED,
        {"authentication": WRONG},
        ("the meter does not take our answer to its challenge", "; the authentication key is wrong"),
    ),
    "system title": Refused(
        f'{GMAC}, system_title = "4D47540000000001"',
        {},
        ("4d47540000000001 is configured", "another meter hangs there, or correct system_title in the file; then met"),
    ),
}


@pytest.mark.parametrize("which", WRONG_ONES)
def test_what_the_meter_refuses_is_told_apart(site: DlmsSite, endpoints: Endpoints, which: str) -> None:
    dlms, secrets, says = WRONG_ONES[which]
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, **secrets)
    told = site.doctor()
    for words in (f"{'WRONG'}  meter m: ", *says):
        assert words in told
    assert sum(meter.security.attempts.values()) <= 1


@pytest.mark.parametrize(("dlms", "secrets"), [(LOW, {"password": b"87654321"}), (GMAC, {"encryption": WRONG})])
def test_a_wrong_secret_costs_one_attempt_over_all_runs(
    site: DlmsSite, endpoints: Endpoints, command: Command, dlms: str, secrets: dict[str, bytes]
) -> None:
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, **secrets)
    site.doctor()
    assert "not asked until its key changes" in site.doctor()
    asyncio.run(site.gateway_reads())
    assert "not asked until its key changes" in command("read", site.file, "m")[2]
    assert "is wrong" in site.doctor()
    assert sum(meter.security.attempts.values()) == 1
    site.put()
    assert re.search(r"ok     meter m: answers, \d+ values", site.doctor())


# --- counters ---------------------------------------------------------------------------------------------------------


def test_a_counter_that_lags_far_behind_is_told_with_the_command_that_sets_it(
    site: DlmsSite, endpoints: Endpoints
) -> None:
    meter = made()
    meter.security.expected[GMAC_CLIENT] = 500_000
    site.write(endpoints.serve(meter), GMAC)
    site.put(counter=77)
    for _ in range(2):
        told = site.doctor()
        assert re.search(r"its invocation counter stands at 500000, ours at \d+: more than 10000 ahead", told)
        assert "if that is true, say where it goes on: metergate key add FILE m --counter 500000" in told
    site.put(counter=500_000)
    assert "meter m: answers" in site.doctor()


def test_a_counter_that_lags_a_little_catches_up(site: DlmsSite, endpoints: Endpoints) -> None:
    meter = made()
    meter.security.expected[GMAC_CLIENT] = 5_000
    site.write(endpoints.serve(meter), GMAC)
    site.put(counter=1)
    assert "meter m: answers" in site.doctor()


@pytest.mark.parametrize("public", [True, False])
def test_a_halted_counter_is_told(site: DlmsSite, endpoints: Endpoints, *, public: bool) -> None:
    clients = tuple(client for client in usual_clients() if public or client.address != PUBLIC)
    site.write(endpoints.serve(made(DlmsSettings(access=AccessSettings(clients=clients)))), GMAC)
    site.put()
    before = site.keys("1111")
    before.counter_of("m", client_title("gw")).raise_to(9)
    before.close()
    after = site.keys("2222")
    after.counter_of("m", client_title("gw"))
    after.close()
    told = site.doctor()
    halted = "its invocation counter is halted, as this disk was restored or replaced"
    assert f"note   meter m: {halted}: the meter is asked for its own" in told
    if public:
        assert "meter m: answers" in told
    else:
        assert f"WRONG  meter m: {halted}, and the public client is not told" in told
        assert "say one that was never used with this key: metergate key add FILE m --counter N" in told


# --- keys -------------------------------------------------------------------------------------------------------------


def test_missing_keys_are_told_and_the_meter_is_not_asked(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), LOW)
    told = site.doctor()
    assert "there is no password: metergate key add FILE m --password SECRET" in told
    assert "meter m: not asked: its secrets are not there, see keys above" in told


@pytest.mark.parametrize(
    ("master", "says"),
    [(None, "cannot be read"), (make_master(), "the master key is not the one of")],
    ids=["missing", "another"],
)
def test_a_master_key_that_opens_nothing_is_told(
    site: DlmsSite, endpoints: Endpoints, master: str | None, says: str
) -> None:
    site.write(endpoints.serve(made()), LOW)
    site.put()
    if master is None:
        site.master.unlink()
    else:
        site.master.write_text(master)
    told = site.doctor()
    assert re.search(rf"WRONG  keys: .*{says}", told)
    assert "the master key that made the store has to be there" in told
    assert "meter m: not asked" in told


def test_a_damaged_record_is_told(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), LOW)
    site.put()
    store = site.data / "keys" / "keys.json"
    store.write_text(re.sub(r'("m": *"..)....', r"\g<1>0000", store.read_text()))
    assert "the record of m is damaged; put its keys in again" in site.doctor()


def test_counters_have_one_owner_for_all_buses(site: DlmsSite, endpoints: Endpoints) -> None:
    site.write(endpoints.serve(made()), GMAC)
    text = site.file.read_text()
    second = text[text.index("[[bus]]") :].replace('"b"', '"c"').replace('"m"', '"n"').replace("MP-1", "MP-2")
    site.file.write_text(text + re.sub(r"port = \d+", endpoints.serve(made()).splitlines()[-1], second))
    site.put(counter=1)
    site.keys().put("n", site.secrets(), counter=1)
    told = site.doctor()
    assert "WRONG" not in told
    assert "meter m: answers" in told
    assert "meter n: answers" in told


# --- a running gateway ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dlms", "what"), [(GMAC, "invocation counter"), (LOW, "password")])
def test_what_a_running_gateway_owns_is_left_to_it(site: DlmsSite, endpoints: Endpoints, dlms: str, what: str) -> None:
    meter = made()
    site.write(endpoints.serve(meter), dlms)
    site.put(counter=1, password=b"87654321", encryption=WRONG)
    with site.running():
        told = site.doctor()
    assert f"note   meter m: not asked: the running gateway owns the meter's {what}; its API reads it: POST /v1" in told
    assert not meter.security.attempts


def test_nobody_is_looked_for_on_a_line_that_a_running_gateway_owns(site: DlmsSite, tmp_path: Path) -> None:
    line = DlmsLine({1: made()}, path=tmp_path / "head", baud=2400)
    line.start()
    try:
        site.write(f'kind = "hdlc"\nport = "{tmp_path / "head"}"')
        with site.running():
            told = site.doctor()
        assert line.misheard == 0
    finally:
        line.close()
    assert "note   bus b: the running gateway owns the line; its /metrics say how it fares, and its API reads" in told
