"""`metergate key wrap` and `key transport`: meter keys wrapped at the custodian's desk for one gateway. No network."""

import base64
import os
import tomllib
from pathlib import Path

import msgspec

from gateway.keystore import KeyStore
from metergate.commands.key import shipment
from metergate.site import load_site
from metering.errors import ConfigError
from trust.transport import PUBLIC_BYTES, Bound, MeterSecrets, public_key, wrap


def transport(file: Path) -> None:
    """Print the public key of a site's gateway, which is made where there is none yet."""
    site = load_site(file)
    if site.keys is None:
        raise ConfigError("the file has no [keys] table; write [keys] and master = 'file:PATH' or 'env:NAME'")
    store = KeyStore(site.gateway.data / "keys", site.keys.master)
    print(public_key(store.transport_key()).hex())


def wrap_all(keys: Path, gateway: str, public: str, version: int, out: Path) -> None:
    """Write a file for each meter of a shipment: its keys wrapped to a gateway, as the head-end's API takes them."""
    try:
        to = bytes.fromhex(public)
    except ValueError:
        to = b""
    if len(to) != PUBLIC_BYTES:
        raise ConfigError(f"--to: a public key has {2 * PUBLIC_BYTES} hex digits, as metergate key transport prints it")
    try:
        tables = tomllib.loads(keys.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is no TOML file: {error}", file=str(keys)) from None
    made = {}
    for meter, table in tables.items():
        given, counter = shipment(keys, meter, table)
        try:
            bundle = wrap(MeterSecrets(given, counter), Bound(meter, gateway, version), to)
        except ValueError as error:
            raise ConfigError(f"--to: {error}") from None
        body = {"gateway": gateway, "version": version, "bundle": base64.b64encode(bundle).decode()}
        made[meter] = msgspec.json.encode(body)
    out.mkdir(parents=True, exist_ok=True)
    for meter, content in made.items():
        fd = os.open(out / f"{meter}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    print(
        f"{len(made)} meters wrapped for {gateway} in {out}; only that gateway can open them: PUT each to the head-end"
    )
