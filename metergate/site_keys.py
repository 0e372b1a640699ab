"""Whether the key store has what the meters of a site need, told before anything is asked. It shows no secret."""

from collections.abc import Iterator
from pathlib import Path

from collector.dlms_profile import load_dlms_profile
from collector.toml_file import error_at
from gateway.dlms_meters import dlms_access, secrets_needed
from gateway.keystore import KeyStore
from gateway.lines import open_keys
from gateway.settings import GatewayFile, MeterSettings
from gateway.settings_bus import PROTOCOLS
from metering.errors import ConfigError


def needed(site: GatewayFile, meter: MeterSettings) -> tuple[str, ...]:
    """Return the names of the secrets without which a meter of the file cannot be asked."""
    bus = next((bus for bus in site.bus if bus.id == meter.bus), None)
    if bus is None or PROTOCOLS[bus.kind] != "dlms" or meter.removed is not None:
        return ()
    return secrets_needed(dlms_access(site, meter, load_dlms_profile(meter.profile, site.gateway.profiles)))


def lacking(site: GatewayFile, meter: MeterSettings, store: KeyStore | None) -> tuple[str, ...]:
    """Return the names of those that the key store has not."""
    names = needed(site, meter)
    keys = store.keys_of(meter.id) if names and store is not None else None
    return tuple(name for name in names if not getattr(keys, name, b""))


def missing_keys(file: Path, site: GatewayFile, only: str = "") -> Iterator[ConfigError]:
    """Yield what is missing, meter by meter (of one meter `only`).

    Raises:
        ConfigError: the master key is missing or wrong.
        StorageError: the key store is damaged.

    """
    chosen = [(index, meter) for index, meter in enumerate(site.meter) if only in {"", meter.id}]
    keyed = [(index, meter) for index, meter in chosen if needed(site, meter)]
    store = open_keys(site) if keyed else None
    for index, meter in keyed:
        names = lacking(site, meter, store)
        if names and store is None:
            message = f"needs {' and '.join(names)}: name the key store's master key, [keys] and master = 'file:PATH'"
            yield error_at(file, ("meter", index, "dlms"), message)
        elif names:
            options = " ".join(f"--{name} SECRET" for name in names)
            message = f"there is no {' and no '.join(names)}: metergate key add {file} {meter.id} {options}"
            yield error_at(file, ("meter", index, "dlms"), message)


def check_keys(file: Path, site: GatewayFile, only: str = "") -> None:
    """Check that every meter (or one, `only`) has the secrets that it needs.

    Raises:
        ConfigError: one has not; says what to do, and how many there are more.

    """
    errors = list(missing_keys(file, site, only))
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{errors[0]}{more}")
