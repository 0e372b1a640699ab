"""`metergate enrol`: gets a gateway its certificate from the head-end, by a one-time token. The key stays here."""

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from metergate.site import load_site
from metering.errors import ConfigError, StorageError
from metering.hosts import is_loopback
from metering.secret import resolve_secret
from storage.files import replace_file

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024
FOLDER = "identity"  # inside the gateway's data folder


def run_enrol(file: Path, headend: str, token: str, api_ca: Path | None) -> None:
    """Enrol the gateway of a site file at the head-end whose API is at `headend`."""
    site = load_site(file)
    folder = site.gateway.data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(folder / "gateway.key")
    request = x509.CertificateSigningRequestBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site.gateway.id)])
    ).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode("ascii")
    answer = _post(headend, {"token": resolve_secret(token), "csr": csr}, api_ca)
    certificate, authority = _checked(answer, site.gateway.id, key)
    replace_file(folder / "ca.pem", authority)
    replace_file(folder / "gateway.pem", certificate)
    print(f"{site.gateway.id} is enrolled until {answer.get('expires_at')}. In {file}, [uplink] needs these lines:")
    print(f'port = 8883\nca_file = "{folder / "ca.pem"}"')
    print(f'cert_file = "{folder / "gateway.pem"}"\nkey_file = "{folder / "gateway.key"}"')


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the gateway's key; a new one is on the disk, for its owner alone, before it is used."""
    if path.exists():
        try:
            found = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError):
            raise ConfigError(f"{path} is no private key; move it away to have a new one made") from None
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{path} is no key on P-256; move it away to have a new one made")
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_bytes(pem)
    temporary.rename(path)
    return key


def _post(headend: str, body: dict[str, str], api_ca: Path | None) -> dict[str, Any]:
    address = urllib.parse.urlsplit(headend)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ConfigError(f"--headend {headend}: write the address of its API, for example https://headend.example")
    if address.scheme == "http" and not is_loopback(address.hostname):
        raise ConfigError("--headend: beyond this machine the token travels over https only")
    try:
        context = ssl.create_default_context(cafile=api_ca) if address.scheme == "https" else None
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ca {api_ca}: cannot be used: {error}") from None
    request = urllib.request.Request(  # noqa: S310 - http and https alone, as checked above
        f"{headend.rstrip('/')}/v1/enrolments",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310 - as above
            return dict(json.loads(answer.read(MAX_ANSWER_BYTES)))
    except urllib.error.HTTPError as error:
        raise StorageError(f"the head-end refuses: {_detail(error)}", retry=error.code in {429, 503}) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StorageError(f"no answer of the head-end at {headend}: {error}", retry=True) from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(MAX_ANSWER_BYTES))["detail"])
    except (ValueError, KeyError, OSError, TypeError):
        return f"status {error.code}"


def _checked(answer: dict[str, Any], gateway: str, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Return certificate and authority as they are stored, if they are for this gateway and fit each other."""
    certificate, authority = (str(answer.get(name, "")).encode() for name in ("certificate", "authority"))
    try:
        mine = x509.load_pem_x509_certificate(certificate)
        mine.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        raise StorageError("the head-end's answer is no certificate of its own authority", retry=False) from None
    names = [each.value for each in mine.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if mine.public_key() != key.public_key():
        raise StorageError("the head-end's certificate is for another key than ours", retry=False)
    if names != [gateway]:
        raise ConfigError(f"the token is for the gateway {names}, this file's [gateway] id is {gateway!r}")
    return certificate, authority
