"""`metergate key` as a person uses it: a master key, keys from files, a list that shows none, another master key."""

import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.keystore import KeyStore
from metergate.cli import app
from metering.errors import ConfigError
from trust.transport import Bound, unwrap

SITE = """
[gateway]
id = "gw"
data = "{data}"

[keys]
master = "file:{master}"

[[bus]]
kind = "wrapper"
id = "riser"
host = "127.0.0.1"

[[meter]]
id = "flat-1"
profile = "dlms_generic"
point = "p1"
region = "js/nj"
bus = "riser"
"""
GUEK = "000102030405060708090a0b0c0d0e0f"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE.format(data=tmp_path / "data", master=tmp_path / "master.key"))
    assert run("init", tmp_path / "master.key").exit_code == 0
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["key", *(str(word) for word in words)])


def test_a_key_goes_in_and_is_listed_but_never_shown(tmp_path: Path, site: Path) -> None:
    (tmp_path / "guek.hex").write_text(GUEK)
    done = run("add", site, "flat-1", "--encryption", f"file:{tmp_path / 'guek.hex'}", "--counter", "40")
    assert done.exit_code == 0
    shown = run("list", site)
    assert "flat-1  encryption  " in shown.output
    assert "counter from 40" in shown.output
    assert GUEK not in done.output + shown.output


def test_a_key_in_the_call_itself_is_refused_and_not_repeated(site: Path) -> None:
    failed = run("add", site, "flat-1", "--encryption", GUEK)
    assert isinstance(failed.exception, ConfigError)
    assert "env:NAME or file:PATH" in str(failed.exception)
    assert GUEK not in str(failed.exception)


def test_a_shipment_goes_in_whole_or_not_at_all(tmp_path: Path, site: Path) -> None:
    keys = tmp_path / "shipment.toml"
    keys.write_text(f'[flat-1]\nencryption = "{GUEK}"\npassword = "secret1"\n[flat-9]\npassword = "x"\n')
    failed = run("import", site, keys)
    assert "there is no meter 'flat-9'" in str(failed.exception)
    assert "no keys yet" in run("list", site).output
    keys.write_text(f'[flat-1]\nencryption = "{GUEK}"\npassword = "secret1"\ncounter = 3\n')
    assert "1 meters stored" in run("import", site, keys).output
    stored = KeyStore(tmp_path / "data" / "keys", f"file:{tmp_path / 'master.key'}").keys_of("flat-1")
    assert (stored.encryption.hex(), stored.password) == (GUEK, b"secret1")


def test_the_master_key_is_never_overwritten(tmp_path: Path, site: Path) -> None:
    del site
    assert "is there already" in str(run("init", tmp_path / "master.key").exception)
    assert (tmp_path / "master.key").stat().st_mode & 0o077 == 0


def test_rotation_says_what_to_write_into_the_file(tmp_path: Path, site: Path) -> None:
    run("add", site, "flat-1", "--counter", "1")
    run("init", tmp_path / "new.key")
    done = run("rotate", site, "--new", f"file:{tmp_path / 'new.key'}")
    assert f"[keys] master = 'file:{tmp_path / 'new.key'}'" in done.output
    assert "is not the one of" in str(run("list", site).exception)


def test_a_refused_meter_is_named_and_can_be_unlocked(tmp_path: Path, site: Path) -> None:
    run("add", site, "flat-1", "--counter", "1")
    store = KeyStore(tmp_path / "data" / "keys", f"file:{tmp_path / 'master.key'}")
    store.put("flat-1", {"password": b"a"})
    store.refuse("flat-1", "wrong password")
    assert "REFUSED: wrong password" in run("list", site).output
    assert run("unlock", site, "flat-1").exit_code == 0
    assert "REFUSED" not in run("list", site).output
    assert "has refused nothing" in str(run("unlock", site, "flat-1").exception)


def test_a_file_with_one_wrong_key_stores_none(tmp_path: Path, site: Path) -> None:
    site.write_text(
        site.read_text()
        + site.read_text()[site.read_text().index("[[meter]]") :]
        .replace("flat-1", "flat-2")
        .replace("p1", "p2")
        .replace('"dlms_generic"', '"dlms_generic"\ndlms = {server = 2}')
    )
    (tmp_path / "keys.toml").write_text(f'[flat-1]\nencryption = "{GUEK}"\n[flat-2]\nencryption = "{GUEK[2:]}"\n')
    failed = run("import", site, tmp_path / "keys.toml")
    assert "flat-2: the encryption key has 16 bytes" in str(failed.exception)
    assert "no keys yet" in run("list", site).output


def test_keys_are_wrapped_for_the_key_that_the_gateway_shows_and_stand_in_no_file(tmp_path: Path, site: Path) -> None:
    public = run("transport", site).output.strip()
    assert run("transport", site).output.strip() == public
    (tmp_path / "shipment.toml").write_text(f'[flat-1]\nencryption = "{GUEK}"\ncounter = 7\n')
    out = tmp_path / "wrapped"
    done = run("wrap", tmp_path / "shipment.toml", "--for", "gw", "--to", public, "--out", out, "--version", 3)
    assert done.exit_code == 0, done.output
    raw = (out / "flat-1.json").read_bytes()
    assert GUEK.encode() not in raw
    body = json.loads(raw)
    store = KeyStore(tmp_path / "data" / "keys", f"file:{tmp_path / 'master.key'}")
    secrets = unwrap(base64.b64decode(body["bundle"]), Bound("flat-1", "gw", 3), store.transport_key())
    assert (secrets.keys, secrets.counter) == ({"encryption": bytes.fromhex(GUEK)}, 7)


@pytest.mark.parametrize("public", ["", "00" * 31, "no hex digits", "00" * 32])
def test_what_is_no_public_key_wraps_nothing(tmp_path: Path, public: str) -> None:
    (tmp_path / "shipment.toml").write_text(f'[flat-1]\nencryption = "{GUEK}"\n')
    failed = run("wrap", tmp_path / "shipment.toml", "--for", "gw", "--to", public, "--out", tmp_path / "out")
    assert isinstance(failed.exception, ConfigError)
    assert "--to" in str(failed.exception)
    assert not (tmp_path / "out").exists()
