"""Certificates: made, read and shown. A certificate is known by the SHA-256 of its DER, its fingerprint.

A machine's certificate is signed by itself, names the machine and nothing else (no address, no person), and cannot
sign others. Keys are P-256: TLS 1.3 of every OpenSSL, GnuTLS and Secure Transport takes them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dmedia_transfer.errors import InvalidInput, shown

VALID_DAYS: Final = 730
CLOCK_SKEW: Final = timedelta(days=1)  # a peer whose clock is behind takes a new certificate all the same
MAX_DER_BYTES: Final = 4096  # ours have about 400


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate; equal where the bytes are."""

    der: bytes

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its DER, in hex."""
        return fingerprint(self.der)

    @property
    def text(self) -> str:
        """As it stands in a machine document: its DER in base64."""
        return base64.b64encode(self.der).decode("ascii")

    @property
    def pem(self) -> str:
        """As OpenSSL and curl read it."""
        return x509.load_der_x509_certificate(self.der).public_bytes(serialization.Encoding.PEM).decode("ascii")

    @property
    def not_after(self) -> datetime:
        """When it expires."""
        return x509.load_der_x509_certificate(self.der).not_valid_after_utc

    def is_valid(self, now: datetime) -> bool:
        """Whether it is in force at this time."""
        certificate = x509.load_der_x509_certificate(self.der)
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read one out of a machine document.

        Raises:
            InvalidInput: It is no certificate that TLS could use; the message begins with the value.
        """
        if not isinstance(text, str) or len(text) > 2 * MAX_DER_BYTES:
            raise InvalidInput(f"{shown(text)} is not a certificate in base64")
        try:
            return cls.of_der(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise InvalidInput(f"{shown(text)} is not a certificate in base64") from None

    @classmethod
    def of_der(cls, der: bytes) -> Self:
        """Check that DER is a certificate with a key that TLS 1.3 can use.

        Raises:
            ValueError: It is not.
        """
        if len(der) > MAX_DER_BYTES:
            raise ValueError("too long")
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            raise ValueError("the key is neither of an elliptic curve nor Ed25519")  # noqa: TRY004 - of its content
        if certificate.not_valid_after_utc < certificate.not_valid_before_utc:
            raise ValueError("it ends before it begins")
        try:
            certificate.verify_directly_issued_by(certificate)
        except InvalidSignature:
            raise ValueError("it is not signed by itself") from None
        return cls(der)


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a certificate's DER, in hex."""
    return hashlib.sha256(der).hexdigest()


def make(machine_id: str, *, now: datetime | None = None, valid_days: float = VALID_DAYS) -> tuple[bytes, Certificate]:
    """A new key, as unencrypted PKCS#8 PEM, and its certificate."""
    began = (now or datetime.now(UTC)).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, machine_id)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began - CLOCK_SKEW)
        .not_valid_after(began + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{machine_id.lower()}.dmedia.invalid")]), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, Certificate(certificate.public_bytes(serialization.Encoding.DER))
