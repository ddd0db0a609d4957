"""A factory for every value: a test names only what it is about."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from dmedia_transfer import leaves
from dmedia_transfer.model import FileSpec

MACHINE_ID = "M" * 24
STORE_ID = "S" * 24
OTHER_STORE_ID = "T" * 24


def content(size: int, *, seed: int = 0) -> bytes:
    """Bytes that do not compress and are the same in every run."""
    chance = random.Random(seed)
    step = 64 * 1024 * 1024  # Python makes less than 256 MiB at once
    return b"".join(chance.randbytes(min(step, size - start)) for start in range(0, size, step))


def leaf_digests_of(data: bytes) -> bytes:
    """The packed leaf digests of a file's content."""
    return b"".join(
        leaves.leaf_digest(data[start : start + leaves.LEAF_BYTES]) for start in range(0, len(data), leaves.LEAF_BYTES)
    )


def file_spec(data: bytes, *, ext: str = "", mime: str = "") -> FileSpec:
    """A file with this content."""
    digests = leaf_digests_of(data)
    return FileSpec(leaves.file_id(digests), len(data), digests, ext=ext, mime=mime)


class BytesBody:
    """The bytes of a part; with a SHA-256 of its own choice it lies about them."""

    def __init__(self, data: bytes, *, sha256: bytes | None = None, known: bool = True) -> None:
        self._data = memoryview(data)
        self.size = len(data)
        self.sha256: bytes | None = (sha256 or hashlib.sha256(data).digest()) if known else None

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, in pieces of at most 1 MiB."""
        for start in range(0, self.size, 1024 * 1024):
            yield self._data[start : start + 1024 * 1024]
