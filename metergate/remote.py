"""What may be configured from afar, checked whole: a version's file over the gateway's own. It starts nothing."""

import tempfile
from pathlib import Path

from collector.toml_file import error_at, unique, validate
from gateway.settings import FieldFile, GatewayFile, GatewaySettings, KeySettings
from gateway.settings_bus import SERIAL_BUSES
from metergate.site import SiteFile, check_points
from metergate.site_meters import check_meters
from metering.errors import ConfigError

SECRETS = ("password", "cert_file", "key_file")  # which no head-end may have sent anywhere else


def load_remote(local: SiteFile, path: Path) -> SiteFile:
    """Return the gateway's file with everything of the field as the version at `path` says.

    Raises:
        ConfigError: names file, line and key.

    """
    made = local.model_copy(update=_checked(path, local, local.gateway.data))
    mqtt = made.mqtt
    for key in SECRETS:
        if mqtt is not None and getattr(mqtt, key) is not None and mqtt != local.mqtt:
            raise error_at(path, ("mqtt", key), "secrets are for the broker that the file on site names, with them")
    return made


def check_remote(text: bytes, profiles: Path | None) -> None:
    """Check a version as far as a head-end can: all but what rests on the gateway's own folders.

    Raises:
        ConfigError: names line and key.

    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "configuration.toml"
        path.write_bytes(text)
        base = GatewayFile(
            gateway=GatewaySettings(id="any", data=Path(folder) / "data", profiles=profiles),
            keys=KeySettings(master="env:ANY"),
        )
        try:
            _checked(path, base, base.gateway.data)
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"{folder}/", "")) from None


def _checked(path: Path, base: GatewayFile, data: Path) -> dict[str, object]:
    field = validate(FieldFile, path)
    unique(path, ("bus",), "id", [bus.id for bus in field.bus])
    unique(path, ("meter",), "id", [meter.id for meter in field.meter])
    values = {name: getattr(field, name) for name in FieldFile.model_fields}
    check_meters(path, base.model_copy(update=values))
    check_points(path, field.meter)
    _check_paths(path, field, data)
    return values


def _check_paths(path: Path, field: FieldFile, data: Path) -> None:
    """Nothing may point into the gateway's own data folder: trust document, keys and log are out of reach."""
    named: list[tuple[tuple[str | int, ...], str]] = [
        (("bus", index, "port"), bus.port) for index, bus in enumerate(field.bus) if isinstance(bus, SERIAL_BUSES)
    ]
    if field.mqtt is not None:
        for key in ("ca_file", "cert_file", "key_file", "password"):
            value = getattr(field.mqtt, key)
            if value is not None:
                named.append((("mqtt", key), str(value).removeprefix("file:")))
    inside = data.resolve()
    for key_path, value in named:
        if Path(value).resolve().is_relative_to(inside):
            raise error_at(path, key_path, "points into the gateway's own data folder, which no configuration may")
