"""What a configuration from afar may not do: name the gateway itself, its trust document, or its secrets' places."""

from pathlib import Path

import pytest

from metergate.remote import load_remote
from metergate.site import SiteFile, load_site
from metering.errors import ConfigError


@pytest.fixture
def local(tmp_path: Path) -> SiteFile:
    path = tmp_path / "site.toml"
    path.write_text(
        f'[gateway]\nid = "g"\ndata = "{tmp_path / "data"}"\n'
        '[mqtt]\nhost = "broker"\nusername = "u"\npassword = "env:BROKER"\n'
    )
    return load_site(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[gateway]\nid = "other"\n', r"offer\.toml:1: gateway: unknown key"),
        ('[trust]\ndocument = "x"\n', r"offer\.toml:1: trust: unknown key"),
        ('[uplink]\nhost = "x"\n', r"offer\.toml:1: uplink: unknown key"),
        ('[keys]\nmaster = "env:X"\n', r"offer\.toml:1: keys: unknown key"),
        ('[mqtt]\nhost = "x"\nca_file = "DATA/trust/document"\n', r"offer\.toml:3: mqtt\.ca_file: points into"),
        ('[mqtt]\nhost = "x"\npassword = "file:DATA/trust/document"\n', r"offer\.toml:3: mqtt\.password: points into"),
        (
            '[[bus]]\nid = "b"\nkind = "rtu"\nport = "DATA/../data/trust/document"\nbaud = 9600\n',
            r"offer\.toml:4: bus\[0\]\.port: points into",
        ),
        ('[mqtt]\nhost = "thief"\npassword = "env:BROKER"\n', r"offer\.toml:3: mqtt\.password: secrets are for"),
    ],
    ids=["gateway", "trust", "uplink", "keys", "ca file", "password file", "serial port", "password to elsewhere"],
)
def test_it_reaches_neither_the_gateway_itself_nor_its_trust_document_nor_its_secrets(
    local: SiteFile, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "offer.toml"
    path.write_text(text.replace("DATA", str(local.gateway.data)))
    with pytest.raises(ConfigError, match=said):
        load_remote(local, path)


def test_all_of_the_field_is_as_the_version_says_and_the_rest_as_on_site(local: SiteFile, tmp_path: Path) -> None:
    path = tmp_path / "offer.toml"
    path.write_text('[schedule]\nregisters = "1h"\n')
    made = load_remote(local, path)
    assert (made.schedule.registers, made.mqtt) == (3600, None)
    assert (made.gateway, made.uplink) == (local.gateway, local.uplink)
