"""Leaves of a file on their way out, each verified in memory before its first byte is handed out."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import SourceChanged
from dmedia_transfer.leaves import Span
from dmedia_transfer.model import FileSpec
from dmedia_transfer.multipart import BufferBody, bodies
from dmedia_transfer.ports import Body, LocalFile


class LeafBody:
    """A part of one leaf or several; 8 MiB in memory, whatever its size."""

    def __init__(
        self, file: FileSpec, local: LocalFile, buffers: LeafBuffers, span: Span, sha256: bytes | None
    ) -> None:
        """The bytes of `span`, which begins with a leaf; `sha256` is theirs, where it is known without reading."""
        self._file = file
        self._local = local
        self._buffers = buffers
        self._span = span
        self._sha256 = sha256

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._span.size

    @property
    def first_leaf(self) -> int:
        """The number of its first leaf, counted from 0."""
        return self._span.start // leaves.LEAF_BYTES

    @property
    def sha256(self) -> bytes | None:
        """Its SHA-256, where that is known without reading it."""
        return self._sha256

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, in pieces of at most 1 MiB.

        Raises:
            SourceChanged: A leaf does not match its digest; nothing of it was handed out.
        """
        with self._buffers.borrow() as buffer:
            for start in range(self._span.start, self._span.end, leaves.LEAF_BYTES):
                leaf = self._load(start, buffer)
                for offset in range(0, len(leaf), bodies.PIECE_BYTES):
                    yield leaf[offset : offset + bodies.PIECE_BYTES]

    @contextlib.contextmanager
    def loaded(self) -> Iterator[Body]:
        """A body for one call of a backend: a single leaf is read and verified once, however often it is asked for.

        Raises:
            SourceChanged: The leaf does not match its digest.
        """
        if self._span.size > leaves.LEAF_BYTES:
            yield self
            return
        with self._buffers.borrow() as buffer:
            yield BufferBody(self._load(self._span.start, buffer), self._sha256)

    def check(self) -> None:
        """Read and verify it.

        Raises:
            SourceChanged: A leaf does not match its digest.
        """
        for _ in self.pieces():
            pass

    def digest(self) -> bytes:
        """The SHA-256 of the verified leaves."""
        total = hashlib.sha256()
        for piece in self.pieces():
            total.update(piece)
        return total.digest()

    def _load(self, start: int, buffer: memoryview) -> memoryview:
        index = start // leaves.LEAF_BYTES
        leaf = buffer[: min(leaves.LEAF_BYTES, self._span.end - start)]
        self._local.read(start, leaf)
        if leaves.leaf_digest(leaf) != leaves.digest_of_leaf(self._file.leaf_digests, index):
            raise SourceChanged(
                f"leaf {index} of file {self._file.file_id} on this machine's disk does not match its digest"
            )
        return leaf
