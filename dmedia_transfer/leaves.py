"""Leaf and part arithmetic, leaf digests, file IDs.

A file is cut into leaves of 8 MiB (the last may be shorter). The digest of a leaf is the SHA-256 of its
bytes; the digest of the file is the SHA-256 of its leaf digests, concatenated in order; the file ID is the
first 240 bits of that in RFC 4648 base32. S3 computes the checksum of a multipart object in the same way
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html, "composite
checksums"), so with one leaf per part the server proves our hash for us.

Pure functions over bytes and numbers: no I/O, and any thread may call them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.sha256 import sha256

LEAF_BYTES: Final = 8 * 1024 * 1024
DIGEST_BYTES: Final = 32
FILE_ID_BITS: Final = 240
FILE_ID_LENGTH: Final = 48
RANDOM_ID_LENGTH: Final = 24  # machines and stores: 120 random bits

_FILE_ID = re.compile(r"[A-Z2-7]{48}\Z")
_RANDOM_ID = re.compile(r"[A-Z2-7]{24}\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """A slice of a file."""

    index: int  # which leaf or part, counted from 0
    start: int  # offset of its first byte
    size: int  # its length in bytes, at least 1

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.start + self.size


def is_file_id(text: object) -> bool:
    """Whether `text` has the form of a file ID."""
    return isinstance(text, str) and _FILE_ID.match(text) is not None


def is_random_id(text: object) -> bool:
    """Whether `text` has the form of a machine or store ID."""
    return isinstance(text, str) and _RANDOM_ID.match(text) is not None


def leaf_count(file_bytes: int) -> int:
    """How many leaves a file of `file_bytes` has.

    Raises:
        InvalidInput: The file is empty: empty files have no ID.
    """
    if file_bytes < 1:
        raise InvalidInput(f"a file has at least one byte, not {file_bytes}")
    return -(-file_bytes // LEAF_BYTES)


def leaf_span(file_bytes: int, index: int) -> Span:
    """The slice of leaf `index` in a file of `file_bytes`.

    Raises:
        InvalidInput: The file has no such leaf.
    """
    if not 0 <= index < leaf_count(file_bytes):
        raise InvalidInput(f"leaf {index} is not in a file of {file_bytes} bytes")
    start = index * LEAF_BYTES
    return Span(index, start, min(LEAF_BYTES, file_bytes - start))


def leaf_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The SHA-256 of a leaf's bytes (32 bytes). Releases the GIL."""
    return sha256(data)


def file_digest(leaf_digests: bytes) -> bytes:
    """The SHA-256 (32 bytes) of all leaf digests, concatenated in order."""
    if not leaf_digests or len(leaf_digests) % DIGEST_BYTES:
        raise InvalidInput(f"packed leaf digests are a multiple of {DIGEST_BYTES} bytes, not {len(leaf_digests)}")
    return hashlib.sha256(leaf_digests).digest()


def file_id(leaf_digests: bytes) -> str:
    """The file ID of a file with these packed leaf digests: 48 characters of base32."""
    return base64.b32encode(file_digest(leaf_digests)[: FILE_ID_BITS // 8]).decode("ascii")


def digest_of_leaf(leaf_digests: bytes, index: int) -> bytes:
    """Digest number `index` out of the packed ones.

    Raises:
        InvalidInput: There is none of that number.
    """
    if not 0 <= index < len(leaf_digests) // DIGEST_BYTES:
        raise InvalidInput(f"there are {len(leaf_digests) // DIGEST_BYTES} leaf digests, and none of number {index}")
    return leaf_digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]


def unpack(leaf_digests: bytes) -> Iterator[bytes]:
    """Each digest out of the packed ones, in order."""
    for start in range(0, len(leaf_digests), DIGEST_BYTES):
        yield leaf_digests[start : start + DIGEST_BYTES]


def check_leaf_digests(of_file_id: str, file_bytes: int, leaf_digests: bytes) -> None:
    """Hold packed leaf digests against the file's ID and size; nothing of them is believed before this.

    Raises:
        InvalidInput: They belong to another file or to a file of another number of leaves.
    """
    expected = leaf_count(file_bytes) * DIGEST_BYTES
    if len(leaf_digests) != expected:
        raise InvalidInput(
            f"{len(leaf_digests)} bytes of leaf digests, but a file of {file_bytes} bytes has {expected}"
        )
    actual = file_id(leaf_digests)
    if actual != of_file_id:
        raise InvalidInput(f"the leaf digests are those of file {actual}")


def leaves_per_part(file_bytes: int, *, max_parts: int) -> int:
    """The smallest power of two of leaves per part with which the file fits into `max_parts` parts.

    Raises:
        InvalidInput: The file is empty, or not even one part is allowed.
    """
    if max_parts < 1:
        raise InvalidInput(f"a file needs at least one part, not {max_parts}")
    leaves = leaf_count(file_bytes)
    each = 1
    while -(-leaves // each) > max_parts:
        each *= 2
    return each


def part_spans(file_bytes: int, part_leaves: int) -> list[Span]:
    """The slices of all parts of `part_leaves` leaves each, in order; the last part may be shorter.

    Raises:
        InvalidInput: The file is empty, or a part would be.
    """
    if file_bytes < 1 or part_leaves < 1:
        raise InvalidInput(f"there are no parts of {part_leaves} leaves in a file of {file_bytes} bytes")
    step = part_leaves * LEAF_BYTES
    return [Span(index, start, min(step, file_bytes - start)) for index, start in enumerate(range(0, file_bytes, step))]


def object_is_file(
    *,
    file_bytes: int,
    leaf_digests: bytes,
    object_bytes: int,
    object_sha256: bytes | None,
    object_composite_sha256: bytes | None,
) -> bool:
    """Whether what a server says of an object proves that it is this file.

    One leaf sent by one PUT: the object's SHA-256 is the leaf digest. Part = leaf: the composite SHA-256 is
    the file digest. Anything else proves nothing: the object has to be read and verified.
    """
    if object_bytes != file_bytes:
        return False
    if object_sha256 is not None and len(leaf_digests) == DIGEST_BYTES:
        return object_sha256 == leaf_digests
    return object_composite_sha256 is not None and object_composite_sha256 == file_digest(leaf_digests)
