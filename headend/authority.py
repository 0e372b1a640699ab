"""The head-end's own certificate authority: signs the gateways' keys and lists what was revoked. It keeps no state.

It is for the broker's listener alone, and vouches for nothing else. A gateway's certificate carries its id as common
name, which the broker takes for its user name, and serves for being a client of TLS, never a server.
"""

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headend.state.enrolment import Certificate
from metering.errors import ConfigError
from metering.model import SECOND

CERTIFICATE_DAYS = 730
CA_DAYS = 7300
CRL_DAYS = 30  # after which a broker lets nobody in: a list that is no longer written must not stay good for ever
BACKDATED_S = 300  # the clock of who reads a certificate may be behind ours
MAX_CSR_BYTES = 8192

_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class BadRequestOfCertificateError(ValueError):
    """A request for a certificate that is none, or is for a key that is not taken."""


def new_key() -> bytes:
    """Return a new private key (P-256) as PEM, not encrypted."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_of_private(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a private one that `new_key` made."""
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - of `new_key`
    return key.public_key()


def new_authority(name: str, now: int) -> tuple[bytes, bytes]:
    """Return certificate and key of a new authority, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(_instant(now) - dt.timedelta(seconds=BACKDATED_S))
        .not_valid_after(_instant(now) + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), pem


def key_of(csr: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key that a PKCS#10 request (PEM) asks for, and has signed with.

    Raises:
        BadRequestOfCertificateError: it is no such request, or its key is not on P-256.

    """
    if len(csr) > MAX_CSR_BYTES:
        raise BadRequestOfCertificateError(f"a request has at most {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr)
        key, good = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, TypeError):
        raise BadRequestOfCertificateError("this is no PKCS#10 request in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestOfCertificateError("the key must be an elliptic curve key on P-256")
    if not good:
        raise BadRequestOfCertificateError("the request is not signed by the key that it is for")
    return key


def digest_of(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key (SubjectPublicKeyInfo) in hex."""
    raw = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).hexdigest()


class Authority:
    """A certificate and its key.

    Raises:
        ConfigError: they cannot be read, or do not belong together.

    """

    def __init__(self, certificate: bytes, key: bytes) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError("the authority's certificate or key cannot be read: both are PEM, the key open") from None
        if (
            not isinstance(private, ec.EllipticCurvePrivateKey)
            or private.public_key() != self._certificate.public_key()
        ):
            raise ConfigError("the authority's key is not an elliptic curve key, or not the one of its certificate")
        self._key = private
        self.pem = certificate.decode("ascii")

    def sign(self, gateway: str, key: ec.EllipticCurvePublicKey, now: int) -> Certificate:
        """Return a gateway's certificate for a key: a client of TLS, for CERTIFICATE_DAYS."""
        return self._issue(gateway, key, now, [_CLIENT], None)

    def sign_server(self, name: str, key: ec.EllipticCurvePublicKey, now: int, hosts: Sequence[str]) -> Certificate:
        """Return a broker's certificate for a key, good for these host names and addresses."""
        return self._issue(name, key, now, [_SERVER], x509.SubjectAlternativeName([_host(each) for each in hosts]))

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        now: int,
        usage: list[x509.ObjectIdentifier],
        names: x509.SubjectAlternativeName | None,
    ) -> Certificate:
        serial = x509.random_serial_number()
        end = min(_instant(now) + dt.timedelta(days=CERTIFICATE_DAYS), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder(self._certificate.subject, _name(name), key, serial)
            .not_valid_before(_instant(now) - dt.timedelta(seconds=BACKDATED_S))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        return Certificate(
            f"{serial:x}",
            name,
            digest_of(key),
            made.public_bytes(serialization.Encoding.PEM).decode("ascii"),
            int(end.timestamp()) * SECOND,
            made.fingerprint(hashes.SHA256()).hex(),
        )

    def revocations(self, revoked: Iterable[tuple[str, int]], now: int) -> bytes:
        """Return the signed list of revoked serials (hex) with their instants, as PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(_instant(now) - dt.timedelta(seconds=BACKDATED_S))
            .next_update(_instant(now) + dt.timedelta(days=CRL_DAYS))
        )
        for serial, at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_instant(at))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _instant(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at // SECOND, dt.UTC)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
