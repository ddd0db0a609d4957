"""Identity: this machine's own key and certificate, made at the first start, kept for its owner only, and rotated.

Rotation publishes before it uses: a new key is made beside the current one, both certificates stand in the machine
document, and only when the others had time to see it does the new one take over. Until then the current one is shown
and accepted as before.

    peer/current.pem   the key that is used, and its certificate
    peer/next.pem      the one that will be, while others learn of it

The daemon rotates; workers and the server only `load`. A file is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from dmedia_transfer.errors import InvalidConfig
from dmedia_transfer.peers import certificates
from dmedia_transfer.peers.certificates import Certificate

FOLDER: Final = "peer"
CURRENT: Final = "current.pem"
NEXT: Final = "next.pem"
ROTATE_BEFORE: Final = timedelta(days=90)  # so long before it expires a certificate gets a successor ...
LEARN: Final = timedelta(days=30)  # ... and so long that one is published before it is used

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is to its peers."""

    file: Path  # PEM of the private key and the certificate, as `ssl.SSLContext.load_cert_chain` takes it
    certificate: Certificate  # the one that is shown
    published: tuple[Certificate, ...]  # what goes into the machine document: `certificate`, and its successor


def load(state_dir: Path) -> Identity:
    """The identity that `keep` made.

    Raises:
        InvalidConfig: There is none, or it cannot be read.
    """
    current = state_dir / FOLDER / CURRENT
    try:
        certificate = _read(current)
    except FileNotFoundError:
        raise InvalidConfig(f"{current}: there is no key for peers yet; the daemon makes it") from None
    with contextlib.suppress(FileNotFoundError):
        return Identity(current, certificate, (certificate, _read(state_dir / FOLDER / NEXT)))
    return Identity(current, certificate, (certificate,))


def keep(state_dir: Path, machine_id: str, *, now: datetime | None = None) -> Identity:
    """The identity of this machine: made if there is none, and rotated if it is time. Asked at start and once a day.

    Raises:
        InvalidConfig: It cannot be read or written.
    """
    now = now or datetime.now(UTC)
    with _changing(state_dir) as folder:
        current, following = folder / CURRENT, folder / NEXT
        if not current.exists():
            _make(current, machine_id, now)
        certificate = _read(current)
        if following.exists():
            successor = _read(following)
            # It was published when it began, a day of clock skew aside.
            published_at = _began(successor)
            if now - published_at >= LEARN or not certificate.is_valid(now):
                following.replace(current)
                _sync(folder)
                log.info(
                    "the key for peers %.16s was replaced by %.16s", certificate.fingerprint, successor.fingerprint
                )
        elif certificate.not_after - now < ROTATE_BEFORE:
            _make(following, machine_id, now)
    return load(state_dir)


def rotate(state_dir: Path, machine_id: str, *, now: datetime | None = None) -> Identity:
    """Make a successor now, whatever the age of the key; it takes over once others had time to see it.

    Raises:
        InvalidConfig: It cannot be written.
    """
    with _changing(state_dir) as folder:
        if not (folder / CURRENT).exists():
            _make(folder / CURRENT, machine_id, now or datetime.now(UTC))
        elif not (folder / NEXT).exists():
            _make(folder / NEXT, machine_id, now or datetime.now(UTC))
    return load(state_dir)


def renew(state_dir: Path, machine_id: str, *, now: datetime | None = None) -> Identity:
    """Throw the key away and make a new one: it was stolen, or every peer has been told to deny it.

    Peers reach us again once they have seen the new certificate.

    Raises:
        InvalidConfig: It cannot be written.
    """
    with _changing(state_dir) as folder:
        _make(folder / CURRENT, machine_id, now or datetime.now(UTC))
        (folder / NEXT).unlink(missing_ok=True)
    return load(state_dir)


@contextlib.contextmanager
def _changing(state_dir: Path) -> Iterator[Path]:
    folder = state_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # the command line may rotate while the daemon looks
            yield folder
        finally:
            os.close(fd)
    except OSError as error:
        raise InvalidConfig(f"{folder}: the key for peers cannot be kept: {error.strerror}") from error


def _read(path: Path) -> Certificate:
    try:
        pem = path.read_bytes()
        found = x509.load_pem_x509_certificate(pem)
        key = serialization.load_pem_private_key(pem, password=None)
        if key.public_key() != found.public_key():
            raise InvalidConfig(f"{path}: the key is not that of the certificate")
        return Certificate.of_der(found.public_bytes(serialization.Encoding.DER))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        # Never made anew by itself: it may be a disk that fails, and a new key is one that nobody knows yet.
        raise InvalidConfig(
            f"{path}: is no key and certificate ({type(error).__name__}); with the file removed, a new one is made"
        ) from None


def _began(certificate: Certificate) -> datetime:
    return x509.load_der_x509_certificate(certificate.der).not_valid_before_utc + certificates.CLOCK_SKEW


def _make(path: Path, machine_id: str, now: datetime) -> None:
    key, certificate = certificates.make(machine_id, now=now)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key + certificate.pem.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)
    log.info("made a key for peers: %s has the certificate %.16s", path, certificate.fingerprint)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
