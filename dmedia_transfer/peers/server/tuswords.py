"""The headers of tus 1.0, read. Pure; https://tus.io/protocols/resumable-upload"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, shown
from dmedia_transfer.peers import wire

_MAX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Checksum:
    """What an `Upload-Checksum` says of the body of its request."""

    algorithm: str
    digest: bytes

    def begin(self) -> Any:
        """A hash of this algorithm. MD5 and SHA-1 are no protection, but what clients of tus send."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a POST wants to upload."""

    file_id: str
    size: int
    store_id: str = ""  # empty: any FileStore


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


def read_wish(headers: Mapping[str, str]) -> Wish:
    """What a POST wants to upload.

    Raises:
        InvalidInput: A header is missing or cannot be understood.
    """
    if "Upload-Defer-Length" in headers:
        raise InvalidInput("Upload-Defer-Length is not offered: the length of a file is known")
    size = read_number(headers, wire.UPLOAD_LENGTH)
    metadata = _metadata(headers.get(wire.UPLOAD_METADATA, ""))
    file_id = metadata.get(wire.META_FILE_ID, "")
    if not leaves.is_file_id(file_id):
        raise InvalidInput(
            f"{wire.UPLOAD_METADATA} should name the file in `{wire.META_FILE_ID}`, not {shown(file_id)}"
        )
    store_id = metadata.get(wire.META_STORE_ID, "")
    if store_id and not leaves.is_random_id(store_id):
        raise InvalidInput(f"{wire.UPLOAD_METADATA}: {shown(store_id)} is no ID of a store")
    return Wish(file_id, size, store_id)


def read_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """The checksum of a PATCH, if it has one.

    Raises:
        InvalidInput: It cannot be understood, or is of an algorithm that is not offered.
    """
    text = headers.get(wire.UPLOAD_CHECKSUM)
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in wire.TUS_CHECKSUMS:
        raise InvalidInput(f"{wire.UPLOAD_CHECKSUM}: {shown(algorithm)} is none of {', '.join(wire.TUS_CHECKSUMS)}")
    digest = _base64(value)
    if digest is None or len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise InvalidInput(f"{wire.UPLOAD_CHECKSUM}: {shown(value)} is no {algorithm} in base64")
    return Checksum(algorithm, digest)


def _metadata(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        decoded = _base64(value)
        if decoded is None or key in found:
            raise InvalidInput(f"{wire.UPLOAD_METADATA}: {shown(pair)} is no key with a value in base64")
        found[key] = decoded.decode("utf-8", "replace")
    return found


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
