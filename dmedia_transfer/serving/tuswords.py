"""The words of tus 1.0, and its headers, read. Pure; https://tus.io/protocols/resumable-upload"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer.errors import InvalidInput, shown

TUS_VERSION: Final = "1.0.0"
TUS_EXTENSIONS: Final = ("creation", "creation-with-upload", "expiration", "checksum", "termination")
TUS_CHECKSUMS: Final = ("sha256", "sha1", "md5")
TUS_RESUMABLE: Final = "Tus-Resumable"
UPLOAD_LENGTH: Final = "Upload-Length"
UPLOAD_OFFSET: Final = "Upload-Offset"
UPLOAD_METADATA: Final = "Upload-Metadata"
UPLOAD_CHECKSUM: Final = "Upload-Checksum"
UPLOAD_EXPIRES: Final = "Upload-Expires"
UPLOAD_CONTENT_TYPE: Final = "application/offset+octet-stream"
CHECKSUM_MISMATCH: Final = 460

_MAX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Checksum:
    """What an `Upload-Checksum` says of the body of its request."""

    algorithm: str
    digest: bytes

    def begin(self) -> Any:
        """A hash of this algorithm. MD5 and SHA-1 are no protection, but what clients of tus send."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def read_number(headers: Mapping[str, str], name: str) -> int:
    """A header that is a number of bytes.

    Raises:
        InvalidInput: It is missing, or is none.
    """
    text = headers.get(name)
    if text is None:
        raise InvalidInput(f"{name} is missing")
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise InvalidInput(f"{name} should be a number of bytes, not {shown(text)}")
    return int(text)


def read_length(headers: Mapping[str, str]) -> int:
    """How long what a POST begins will be.

    Raises:
        InvalidInput: It is missing, is none, or is to be said later.
    """
    if "Upload-Defer-Length" in headers:
        raise InvalidInput("Upload-Defer-Length is not offered: the length of a file is known")
    return read_number(headers, UPLOAD_LENGTH)


def read_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The keys and values of `Upload-Metadata`.

    Raises:
        InvalidInput: It cannot be understood.
    """
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in headers.get(UPLOAD_METADATA, "").split(","))):
        key, _, value = pair.partition(" ")
        decoded = _base64(value)
        if decoded is None or key in found:
            raise InvalidInput(f"{UPLOAD_METADATA}: {shown(pair)} is no key with a value in base64")
        found[key] = decoded.decode("utf-8", "replace")
    return found


def write_metadata(metadata: Mapping[str, str]) -> str:
    """The way back; keys without a value have none."""
    pairs = [(key, base64.b64encode(value.encode()).decode("ascii")) for key, value in metadata.items()]
    return ",".join(f"{key} {value}".rstrip() for key, value in pairs)


def read_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """The checksum of a PATCH, if it has one.

    Raises:
        InvalidInput: It cannot be understood, or is of an algorithm that is not offered.
    """
    text = headers.get(UPLOAD_CHECKSUM)
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in TUS_CHECKSUMS:
        raise InvalidInput(f"{UPLOAD_CHECKSUM}: {shown(algorithm)} is none of {', '.join(TUS_CHECKSUMS)}")
    digest = _base64(value)
    if digest is None or len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise InvalidInput(f"{UPLOAD_CHECKSUM}: {shown(value)} is no {algorithm} in base64")
    return Checksum(algorithm, digest)


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
