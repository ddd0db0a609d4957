"""Arriving: the bytes of a new file on their way into a FileStore, hashed as they come.

Blocking: its methods are called in threads, one at a time. What the file is called in the library is known only at the
end; until then it is a partial file under a made-up ID, so that everything that holds for partial files holds for it.
The digest of each leaf is kept beside the upload: after a restart of the machine, what is on the disk is held against
it.
"""

from __future__ import annotations

import os
from pathlib import Path

from dmedia_transfer import faults, leaves
from dmedia_transfer.errors import InvalidInput, TransferError
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.ports import LeafRecords
from dmedia_transfer.web.edges import PartialPlace


class Arriving:
    """A `serving.tus.Incoming` of a file that the library may not know."""

    def __init__(
        self, place: PartialPlace, place_id: str, *, store_id: str, size: int, digests: Path, records: LeafRecords
    ) -> None:
        """Take over the open partial file.

        Args:
            place: The partial file.
            place_id: The ID that it is under, until it has its own.
            store_id: The FileStore that it is in.
            size: Bytes that the file will have.
            digests: Where the digests of its leaves are kept.
            records: The journal's.
        """
        self._place = place
        self._key = TransferKey(Direction.DOWNLOAD, place_id, "")
        self._store_id = store_id
        self._size = size
        self._path = digests
        self._records = records
        self._digests = bytearray()
        self._buffer = memoryview(bytearray(min(leaves.LEAF_BYTES, size)))
        self._filled = 0

    @property
    def _leaf(self) -> int:
        """The leaf that is being gathered."""
        return len(self._digests) // leaves.DIGEST_BYTES

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self.verified + self._filled

    @property
    def verified(self) -> int:
        """How many bytes are hashed and written."""
        return self._size if self.complete else self._leaf * leaves.LEAF_BYTES

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self._leaf >= leaves.leaf_count(self._size)

    @property
    def tail(self) -> memoryview:
        """The bytes of the leaf that is not complete yet."""
        return self._buffer[: self._filled]

    @property
    def leaf_digests(self) -> bytes:
        """Packed, 32 bytes each."""
        return bytes(self._digests)

    @property
    def file_id(self) -> str:
        """What the file is, once it is complete."""
        if not self.complete:
            raise InvalidInput("a file that is not complete has no ID")
        return leaves.file_id(self.leaf_digests)

    def is_leaf(self, size: int | None, sha256: bytes) -> bool:
        """No: nobody knows what the next leaf has to be."""
        return False

    def seek(self, offset: int, tail: bytes) -> None:
        """Go on at `offset`, or before it where not all that should be here is: `offset` then says where."""
        try:
            kept = self._path.read_bytes()
        except FileNotFoundError:
            kept = b""
        wanted, within = divmod(min(offset, self._size), leaves.LEAF_BYTES)
        if offset >= self._size:
            wanted, within = leaves.leaf_count(self._size), 0
        recorded = set() if self._place.fresh else self._records.load(self._key, self._store_id, self._place.identity)
        for index in range(wanted):
            digest = kept[index * leaves.DIGEST_BYTES : (index + 1) * leaves.DIGEST_BYTES]
            if len(digest) < leaves.DIGEST_BYTES or not (index in recorded or self._is_written(index, digest)):
                within = 0
                break
            self._digests += digest
        self._filled = within if len(tail) >= within else 0
        self._buffer[: self._filled] = tail[: self._filled]

    def room(self) -> int:
        """How many bytes are missing until the leaf is complete; 0 if the file is."""
        return 0 if self.complete else leaves.leaf_span(self._size, self._leaf).size - self._filled

    def gather(self, data: memoryview) -> None:
        """Add bytes, no more than `room`."""
        self._buffer[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def commit(self) -> None:
        """The leaf is complete: hash, write and record it.

        Raises:
            DiskFull, StoreMissing: It was not written.
        """
        index, data = self._leaf, self.tail
        digest = leaves.leaf_digest(data)
        try:
            self._place.write_leaf(index, data)
        except TransferError:
            self._filled = 0
            self._records.forget(self._key, self._store_id)
            raise
        faults.point("arriving.written")
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, digest, index * leaves.DIGEST_BYTES)
        finally:
            os.close(fd)
        self._records.record(self._key, self._store_id, self._place.identity, index)
        faults.point("arriving.recorded")
        self._digests += digest
        self._filled = 0

    def publish(self) -> None:
        """All is here: give the file its name.

        Raises:
            DiskFull, StoreMissing: It was not published.
        """
        try:
            self._place.publish(self.file_id)
        finally:
            self._records.forget(self._key, self._store_id)

    def close(self) -> None:
        """Let go, and leave it as it is."""
        self._place.close()

    def _is_written(self, index: int, digest: bytes) -> bool:
        size = leaves.leaf_span(self._size, index).size
        if self._place.fresh or not self._place.read_leaf(index, self._buffer):
            return False
        if leaves.leaf_digest(self._buffer[:size]) != digest:
            return False
        self._records.record(self._key, self._store_id, self._place.identity, index)
        return True
