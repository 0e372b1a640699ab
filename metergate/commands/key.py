"""`metergate key`: the meters' keys and passwords of one gateway, encrypted on its disk. It prints no secret."""

import getpass
import os
import sys
import tomllib
from pathlib import Path

from gateway.keystore import KEY_LENGTHS, KeyStore, check_secret
from gateway.master_key import make_master
from metergate.site import SiteFile, load_site
from metering.errors import ConfigError
from metering.secret import resolve_secret

PROMPT = "-"  # instead of env: or file:, asks for the secret without showing it


def make_master_key(path: Path) -> None:
    """Write a new master key into a file that only its owner can read."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; a key store that it opens would be lost with it") from None
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(make_master() + "\n")
    print(f"{path}: a new master key; name it in the site file: [keys] master = 'file:{path}', and keep a copy apart")


def add(file: Path, meter: str, secrets: dict[str, str | None], counter: int | None) -> None:
    """Store secrets of one meter. Each is `env:NAME`, `file:PATH` or `-` (asked for)."""
    site = load_site(file)
    _known(site, meter)
    given = {name: _value(name, reference) for name, reference in secrets.items() if reference is not None}
    if not given and counter is None:
        raise ConfigError("say at least one secret or --counter; metergate key add --help names them")
    _store(site).put(meter, given, counter=counter)
    print(f"{meter}: {', '.join([*given, *(['counter'] if counter is not None else [])])} stored")


def add_all(file: Path, keys: Path) -> None:
    """Store the secrets of many meters from a TOML file: a table for each meter, hex digits."""
    site = load_site(file)
    try:
        tables = tomllib.loads(keys.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is no TOML file: {error}", file=str(keys)) from None
    checked = []
    for meter, table in tables.items():
        _known(site, meter)
        checked.append((meter, *shipment(keys, meter, table)))
    store = _store(site)
    for meter, given, counter in checked:
        store.put(meter, given, counter=counter)
    print(f"{len(checked)} meters stored; remove {keys}, it holds their keys in clear")


def show(file: Path) -> None:
    """Print which meters have which secrets, and which of them refused theirs."""
    infos = list(_store(load_site(file)).list())
    for info in infos:
        counter = f"  counter from {info.counter}" if info.counter is not None else ""
        refused = f"  REFUSED: {info.refused}" if info.refused else ""
        print(f"{info.meter}  {','.join(info.has) or '-'}  {info.fingerprint or '-'}{counter}{refused}")
    if not infos:
        print("no keys yet; store some with: metergate key add")


def remove(file: Path, meter: str) -> None:
    """Forget a meter's secrets."""
    if not _store(load_site(file)).remove(meter):
        raise ConfigError(f"there are no keys of {meter!r}; metergate key list shows whose there are")
    print(f"the keys of {meter} are removed")


def unlock(file: Path, meter: str) -> None:
    """Let a meter be asked again with the secrets that it refused."""
    if not _store(load_site(file)).unlock(meter):
        raise ConfigError(f"{meter!r} has refused nothing")
    print(f"{meter} is asked again with the keys it refused; meters lock after a few wrong attempts")


def rotate(file: Path, new: str) -> None:
    """Encrypt the key store anew under another master key."""
    count = _store(load_site(file)).rotate(new)
    print(f"{count} meters are under the new master key; name it in the site file now: [keys] master = '{new}'")


def _store(site: SiteFile) -> KeyStore:
    if site.keys is None:
        raise ConfigError("the file has no [keys] table; write [keys] and master = 'file:PATH' or 'env:NAME'")
    return KeyStore(site.gateway.data / "keys", site.keys.master)


def _known(site: SiteFile, meter: str) -> None:
    if all(each.id != meter for each in site.meter):
        raise ConfigError(f"there is no meter {meter!r} in the file; there are {', '.join(m.id for m in site.meter)}")


def _value(name: str, reference: str) -> bytes:
    if reference == PROMPT:
        if not sys.stdin.isatty():
            raise ConfigError(f"{name}: there is no terminal to ask at; write env:NAME or file:PATH")
        return _bytes(name, getpass.getpass(f"{name}: "))
    return _bytes(name, resolve_secret(reference))


def _bytes(name: str, text: str) -> bytes:
    """Return a secret's bytes: keys are hex digits, a password is text, or hex digits behind `hex:`."""
    hexadecimal = text.removeprefix("hex:")
    if name not in KEY_LENGTHS and hexadecimal == text:
        return text.encode()
    try:
        return bytes.fromhex(hexadecimal)
    except ValueError:
        raise ConfigError(f"{name}: is written in hex digits") from None


def shipment(keys: Path, meter: str, table: object) -> tuple[dict[str, bytes], int | None]:
    """Return the secrets of a meter's table in a shipment, and where its counter begins. Raises `ConfigError`."""
    if not isinstance(table, dict):
        raise ConfigError(f"{meter}: write a table [{meter}] with its keys", file=str(keys))
    counter = table.pop("counter", None)
    if counter is not None and (not isinstance(counter, int) or counter < 0):
        raise ConfigError(f"{meter}: counter is a whole number", file=str(keys))
    for name, value in table.items():
        if name not in {*KEY_LENGTHS, "password"} or not isinstance(value, str):
            raise ConfigError(
                f"{meter}: {name!r} is no key; known are {', '.join([*KEY_LENGTHS, 'password', 'counter'])}",
                file=str(keys),
            )
    given = {name: _bytes(name, value) for name, value in table.items()}
    try:
        for name, secret in given.items():
            check_secret(name, secret)
    except ConfigError as error:
        raise ConfigError(f"{meter}: {error}", file=str(keys)) from None
    return given, counter
