"""The bytes of a part: out of memory, or out of a file piece by piece."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dmedia_transfer.leaves import Span
from dmedia_transfer.ports import Part

PIECE_BYTES: Final = 1024 * 1024
MD5: Final = re.compile(r"[0-9a-f]{32}\Z")  # as S3 writes the ETag of a part

Read = Callable[[int, memoryview], None]
"""Fills the buffer from this offset of a file (`ports.LocalFile.read`); raises where the file is too short."""


class BufferBody:
    """Bytes that are in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, sha256: bytes | None = None) -> None:
        self._data = memoryview(data)
        self._sha256 = sha256

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._data)

    @property
    def sha256(self) -> bytes | None:
        """Its SHA-256; computed when it is first asked for."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self._data).digest()
        return self._sha256

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, in pieces of at most 1 MiB."""
        for start in range(0, len(self._data), PIECE_BYTES):
            yield self._data[start : start + PIECE_BYTES]


class FileBody:
    """A slice of a file, read as it is sent: 1 MiB in memory, whatever its size."""

    def __init__(
        self, read: Read, span: Span, sha256: bytes | None = None, *, compute: Callable[[], bytes] | None = None
    ) -> None:
        """A slice of a file; where its SHA-256 is not given, `compute` computes it, or the slice is read for it."""
        self._read = read
        self._span = span
        self._sha256 = sha256
        self._compute = compute or (lambda: digest(read, span, "sha256"))

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._span.size

    @property
    def sha256(self) -> bytes | None:
        """Its SHA-256; computed when it is first asked for."""
        if self._sha256 is None:
            self._sha256 = self._compute()
        return self._sha256

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, in pieces of at most 1 MiB, each in the same buffer."""
        return read_pieces(self._read, self._span)


def read_pieces(read: Read, span: Span) -> Iterator[memoryview]:
    """A slice of a file in pieces of at most 1 MiB; a piece is good until the next is asked for."""
    buffer = memoryview(bytearray(min(PIECE_BYTES, span.size)))
    for start in range(span.start, span.end, PIECE_BYTES):
        piece = buffer[: min(PIECE_BYTES, span.end - start)]
        read(start, piece)
        yield piece


def digest(read: Read, span: Span, algorithm: str) -> bytes:
    """A digest of a slice of a file: `sha256`, or `md5` to compare with an ETag."""
    total = hashlib.new(algorithm, usedforsecurity=False)
    for piece in read_pieces(read, span):
        total.update(piece)
    return total.digest()


def composite_sha256(parts: Sequence[Part]) -> bytes | None:
    """The SHA-256 that S3 gives an object made of these parts; None where the server told none for a part."""
    digests = [part.sha256 for part in parts if part.sha256 is not None]
    if not digests or len(digests) < len(parts):
        return None
    return hashlib.sha256(b"".join(digests)).digest()


def composite_etag(parts: Sequence[Part]) -> str | None:
    """The ETag that S3 gives an object made of these parts; None where theirs are no MD5s."""
    if not parts or not all(MD5.match(part.etag) for part in parts):
        return None
    total = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return f"{total.hexdigest()}-{len(parts)}"
