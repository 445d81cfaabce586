"""The relay's certificate: an authority of its own, and under it a certificate for the addresses of this machine.

A link looks at neither: it trusts the relay's key, which signs the digest of the certificate. Who speaks HTTP can trust
the authority. A certificate is made anew a month before it ends and when the addresses change, and nobody has to be
asked. Not here: who serves it (`door`). Above: the relay's program. Below: `cryptography`, which nothing else imports.
Invariants: every file is 0600 and is replaced whole; a private key is in no `repr`, error or log.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import secrets
import ssl
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis

DAYS: Final = 90
"""How long a certificate is good for."""
RENEWED_AT: Final = 30
"""How many days before its end a new one is made."""
AUTHORITY_DAYS: Final = 3650
_EARLY: Final = timedelta(days=1)
"""How long before now a certificate begins, for clocks that are behind."""
_AUTHORITY: Final = "authority.pem"
_SERVED: Final = "certificate.pem"
_MOST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the relay serves."""

    path: Path
    """The file with the private key, the certificate and the authority's certificate."""
    digest: bytes
    """SHA-256 of the certificate in DER: what a link binds."""
    names: frozenset[str]
    """The addresses and names that it is for."""
    renew_at: Millis
    """When a new one should be made, by the wall clock."""
    authority: bytes
    """The authority's certificate as PEM, for those who want to trust it."""

    def context(self) -> ssl.SSLContext:
        """How to serve it. The file is read again, so make the context of a certificate once."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A ticket would be for a session that is taken up again, which no link does.
        context.num_tickets = 0
        context.load_cert_chain(self.path)
        return context


def keep(directory: Path, names: Iterable[str], now: Millis) -> Certificate:
    """The certificate for these addresses and names, made or made anew where need be. `directory` is private (0700).

    Raises `ParlerError` `home_unsafe` for files that others may read or that are no certificates, `home_not_writable`.
    """
    wanted = frozenset(names)
    if not wanted:
        raise ValueError("a certificate is for at least one address")
    moment = datetime.fromtimestamp(now / 1000, UTC)
    authority, authority_key, is_new = _authority(directory / _AUTHORITY, moment)
    path = directory / _SERVED
    served = None if is_new else _load(path)
    if served is not None:
        certificate, key = served
        is_ours = certificate.issuer == authority.subject and _is_issued_by(certificate, authority)
        due = certificate.not_valid_after_utc - timedelta(days=RENEWED_AT)
        if is_ours and _names_of(certificate) == wanted and certificate.not_valid_before_utc <= moment < due:
            return _described(path, certificate, authority)
    certificate, key = _issue(sorted(wanted), authority, authority_key, moment)
    _replace(path, _pem(key) + _public(certificate) + _public(authority))
    return _described(path, certificate, authority)


def _described(path: Path, certificate: x509.Certificate, authority: x509.Certificate) -> Certificate:
    due = certificate.not_valid_after_utc - timedelta(days=RENEWED_AT)
    return Certificate(
        path=path,
        digest=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest(),
        names=_names_of(certificate),
        renew_at=Millis(int(due.timestamp() * 1000)),
        authority=_public(authority),
    )


def _authority(path: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, bool]:
    """The authority and its key, and whether it was made just now."""
    found = _load(path)
    if found is not None:
        certificate, key = found
        if certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - timedelta(days=DAYS):
            return certificate, key, False
    key = ec.generate_private_key(ec.SECP256R1())
    # The number makes the authorities of two relays two, also where somebody trusts both.
    name = _name(f"Parler relay authority {secrets.token_hex(4)}")
    made = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _replace(path, _pem(key) + _public(made))
    return made, key, True


def _issue(
    names: Sequence[str], authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    made = (
        _builder(_name("Parler relay"), authority.subject, key, now, DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return made, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset((*names.get_values_for_type(x509.DNSName), *addresses))


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError):
        return False
    except Exception as error:
        # The library tells a wrong signature by an exception of its own, which it keeps in another module.
        if type(error).__name__ != "InvalidSignature":
            raise
        return False
    return True


# -- files -----------------------------------------------------------------------------------------------------


def _load(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The first certificate in a file and the key that belongs to it; None where there is no file."""
    data = _read(path)
    if data is None:
        return None
    try:
        key = serialization.load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificates(data)[0]
    except (ValueError, TypeError, IndexError):
        raise _damaged(path) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise _damaged(path)
    return certificate, key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _read(path: Path) -> bytes | None:
    try:
        # The file that is checked is the file that is read; a link or a pipe in its place is neither.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ParlerError("home_unsafe", f"{path} cannot be read: {error.strerror}.") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ParlerError(
                "home_unsafe",
                f"{path} can be read by others, so its key may be known to them.",
                hint=f"Move {path} away: a new one is made, and nobody has to be asked.",
                path=str(path),
            )
        return file.read(_MOST)


def _replace(path: Path, data: bytes) -> None:
    """Put `data` at `path`, 0600 and on the disk, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise ParlerError(
            "home_not_writable", f"{path.parent} cannot be used: {error.strerror}.", path=str(path)
        ) from error


def _damaged(path: Path) -> ParlerError:
    return ParlerError(
        "home_unsafe",
        f"{path} does not hold the certificate and the key that it should.",
        hint=f"Move {path} away: a new one is made, and nobody has to be asked.",
        path=str(path),
    )
