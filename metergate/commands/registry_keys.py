"""`metergate registry ca`, `certificate`, `invite` and `revoke`: who may speak with the broker, and who no more."""

import contextlib
import os
import re
from pathlib import Path

from headend.authority import digest_of, key_of_private, new_authority, new_key
from headend.enrolling import Enrolling
from headend.state.enrolment import Enrolment
from headend.state.gateways import Gateways
from metergate.headend_file import EnrolmentSettings, load_headend, open_authority, open_state
from metering import timing
from metering.errors import ConfigError
from metering.model import SECOND

IDENTITY = re.compile(r"[A-Za-z0-9_-]+")  # a gateway's id; what has a dot can never be one
HOUR = 3600 * SECOND


def make_authority(file: Path) -> None:
    """Make certificate and key of the authority that a head-end's file names."""
    settings = _enrolment(file)
    scheme, _, place = settings.ca_key.partition(":")
    if scheme != "file":
        raise ConfigError('[enrolment] ca_key: a new key is written to a file; say "file:PATH"')
    certificate, key = new_authority(f"metergate {file.stem}", timing.now())
    _write(Path(place), key, 0o600)
    _write(settings.ca_cert, certificate, 0o644)
    print(f"{settings.ca_cert} is the authority; keep a copy of {place} where nobody else can read it")


def make_certificate(file: Path, name: str, folder: Path, hosts: list[str]) -> None:
    """Make key and certificate of a broker, or of the head-end."""
    if not hosts and IDENTITY.fullmatch(name):
        raise ConfigError(f"{name!r} could be a gateway's id: take a name with a dot, as metergate.headend")
    authority = open_authority(_enrolment(file))
    pem = new_key()
    public = key_of_private(pem)
    now = timing.now()
    made = authority.sign_server(name, public, now, hosts) if hosts else authority.sign(name, public, now)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{name}.key", pem, 0o600)
    _write(folder / f"{name}.pem", made.pem.encode(), 0o644)
    print(f"{folder / name}.pem for the key {digest_of(public)[:16]} until {timing.to_rfc3339(made.expires_at)}")


def invite(file: Path, gateway: str, hours: int) -> None:
    """Make a gateway and print a one-time token for it."""
    with contextlib.closing(open_state(load_headend(file))) as state:
        now = timing.now()
        Gateways(state).create(gateway, now)
        print(Enrolment(state).create(gateway, now + hours * HOUR))


def revoke(file: Path, gateway: str) -> None:
    """End a gateway and write the list of revoked certificates."""
    headend = load_headend(file)
    with contextlib.closing(open_state(headend)) as state:
        if not Gateways(state).revoke(gateway, timing.now()):
            raise ConfigError(f"there is no gateway {gateway!r}; metergate registry list shows them")
        if headend.enrolment is not None:
            Enrolling(state, open_authority(headend.enrolment), headend.enrolment.crl_file).write_crl()
    print(f"{gateway} is revoked; a broker that is to cut it off reads the list anew after SIGHUP")


def _enrolment(file: Path) -> EnrolmentSettings:
    settings = load_headend(file).enrolment
    if settings is None:
        raise ConfigError(f"{file} has no [enrolment] with ca_cert and ca_key")
    return settings


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet: a key is never written over."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; move it away if a new one is wanted") from None
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
