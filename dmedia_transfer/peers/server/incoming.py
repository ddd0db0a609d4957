"""Incoming: the bytes of one upload on their way into a partial file, verified leaf by leaf.

Blocking: its methods are called in threads, one at a time. Bytes are gathered in memory until their leaf is complete;
then it is held against the file document, written, and recorded, in this order, as a download does it. So a file that
came half by upload and half by download is one file, and what was verified once is not asked for again.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING

from dmedia_transfer import faults, leaves
from dmedia_transfer.errors import InvalidInput, TransferError
from dmedia_transfer.model import FileSpec
from dmedia_transfer.peers import wire
from dmedia_transfer.peers.server.holdings import key_of
from dmedia_transfer.ports import LeafRecords
from dmedia_transfer.serving.tus import Mismatch

if TYPE_CHECKING:
    from dmedia_transfer.filestore import FileStore

log = logging.getLogger(__name__)


class BadLeaf(Mismatch):
    """A leaf that does not match the file document."""

    def __init__(self, index: int, expected: bytes, actual: bytes) -> None:
        super().__init__(f"leaf {index} has the SHA-256 {actual.hex()}, and should have {expected.hex()}")
        digest = f"sha-256=:{base64.b64encode(expected).decode('ascii')}:"
        self.headers = {wire.LEAF: str(index), wire.EXPECTED: digest}


class Incoming:
    """An open partial file that bytes are added to in order."""

    def __init__(self, file: FileSpec, store: FileStore, records: LeafRecords) -> None:
        """Open the partial file, or make it.

        Raises:
            DiskFull, StoreMissing: There is no room for it, or no drive.
            Transient: A worker of this machine is writing it.
        """
        self._file = file
        self._store = store
        self._records = records
        self._key = key_of(file.file_id)
        self._partial = store.partial(file.file_id, file.size)
        self.fresh = self._partial.fresh  # there was none before
        self._buffer = memoryview(bytearray(min(leaves.LEAF_BYTES, file.size)))
        self._leaf = 0  # that is being gathered
        self._filled = 0  # bytes of it that are in the buffer

    @property
    def offset(self) -> int:
        """How many bytes of the file are here: verified leaves, and what was gathered."""
        return self._leaf * leaves.LEAF_BYTES + self._filled

    @property
    def verified(self) -> int:
        """How many bytes of the file are verified and written."""
        return self._leaf * leaves.LEAF_BYTES if not self.complete else self._file.size

    @property
    def complete(self) -> bool:
        """Whether all leaves are verified and written."""
        return self._leaf >= leaves.leaf_count(self._file.size)

    @property
    def tail(self) -> memoryview:
        """The bytes of the leaf that is not complete yet."""
        return self._buffer[: self._filled]

    def is_leaf(self, size: int | None, sha256: bytes) -> bool:
        """Whether the next `size` bytes are a whole leaf, and this is what its digest has to be."""
        if self.complete or self._filled or size != self.room():
            return False
        return sha256 == leaves.digest_of_leaf(self._file.leaf_digests, self._leaf)

    def seek(self, offset: int, tail: bytes) -> None:
        """Go on at `offset`, or before it where not all that should be here is: `offset` then says where.

        Leaves that are not on record are read back and hashed: the machine crashed, or the journal is new.
        """
        wanted, within = divmod(min(offset, self._file.size), leaves.LEAF_BYTES)
        if offset >= self._file.size:
            wanted, within = leaves.leaf_count(self._file.size), 0
        recorded = set() if self.fresh else self._records.load(self._key, self._store.store_id, self._partial.identity)
        for index in range(wanted):
            if index not in recorded and not self._is_written(index):
                wanted, within = index, 0
                break
        self._leaf = wanted
        self._filled = within if len(tail) >= within else 0
        self._buffer[: self._filled] = tail[: self._filled]

    def room(self) -> int:
        """How many bytes are missing until the leaf is complete; 0 if the file is."""
        if self.complete:
            return 0
        return leaves.leaf_span(self._file.size, self._leaf).size - self._filled

    def gather(self, data: memoryview) -> None:
        """Add bytes, no more than `room`. Quick."""
        self._buffer[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def commit(self) -> None:
        """The leaf is complete: verify, write and record it.

        Raises:
            BadLeaf: It is not what the document says; it is thrown away.
            DiskFull, StoreMissing: It was not written.
        """
        index, data = self._leaf, self.tail
        expected = leaves.digest_of_leaf(self._file.leaf_digests, index)
        actual = leaves.leaf_digest(data)
        if actual != expected:
            self._filled = 0
            raise BadLeaf(index, expected, actual)
        try:
            self._partial.write_leaf(index, data)
        except TransferError:
            self._filled = 0
            self._records.forget(self._key, self._store.store_id)
            raise
        faults.point("incoming.written")
        self._records.record(self._key, self._store.store_id, self._partial.identity, index)
        faults.point("incoming.recorded")
        self._leaf += 1
        self._filled = 0

    def publish(self) -> None:
        """All leaves are here: give the file its name.

        Raises:
            DiskFull, StoreMissing: It was not published.
        """
        if not self.complete:
            raise InvalidInput(f"file {self._file.file_id} is not complete")
        try:
            self._partial.publish()
        except TransferError:
            self._records.forget(self._key, self._store.store_id)
            raise
        self._records.forget(self._key, self._store.store_id)
        log.info("file %s: published in store %s, as a peer sent it", self._file.file_id, self._store.store_id)

    def close(self) -> None:
        """Let go of the partial file and leave it as it is."""
        self._partial.close()

    def _is_written(self, index: int) -> bool:
        size = leaves.leaf_span(self._file.size, index).size
        if self.fresh or not self._partial.read_leaf(index, self._buffer):
            return False
        if leaves.leaf_digest(self._buffer[:size]) != leaves.digest_of_leaf(self._file.leaf_digests, index):
            return False
        self._records.record(self._key, self._store.store_id, self._partial.identity, index)
        return True


def discard(store: FileStore, records: LeafRecords, file_id: str, *, brought: int) -> bool:
    """Remove the partial file of an upload that is not wanted any more, unless somebody else has added to it.

    Args:
        store: Where it is.
        records: The journal's.
        file_id: Of what.
        brought: How many leaves, from the first on, the upload has brought.

    Returns:
        Whether nothing of it is left.
    """
    try:
        with store.glimpse(file_id) as glimpse:
            found = records.load(key_of(file_id), store.store_id, glimpse.identity)
        if not found <= set(range(brought)):
            return False
        store.discard(file_id)
    except TransferError as error:
        log.info("file %s: what a peer had sent is left in store %s: %s", file_id, store.store_id, error)
        return False
    records.forget(key_of(file_id), store.store_id)
    return True
