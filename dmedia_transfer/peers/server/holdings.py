"""Holdings: what this machine has of a file, complete or not. Blocking: called in threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dmedia_transfer import leaves
from dmedia_transfer.errors import FileMissing, TransferError, Unknown
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.ports import LeafRecords

if TYPE_CHECKING:
    from dmedia_transfer.filestore import FileStore, FileStores


class Readable(Protocol):
    """An open file, complete or not."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, into: memoryview) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Holding:
    """A file that can be served."""

    file: Readable
    store_id: str
    leaves: frozenset[int] | None = None  # those that are there; None: all

    def has(self, start: int, end: int) -> bool:
        """Whether all these bytes are there."""
        if self.leaves is None:
            return True
        return self.leaves.issuperset(range(start // leaves.LEAF_BYTES, -(-end // leaves.LEAF_BYTES)))

    def read(self, start: int, size: int) -> memoryview:
        """So many bytes from this offset."""
        into = memoryview(bytearray(size))
        self.file.read(start, into)
        return into

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


class Holdings:
    """The FileStores of this machine, and the journal's records of files that are not complete yet."""

    def __init__(self, filestores: FileStores, records: LeafRecords) -> None:
        self._filestores = filestores
        self._records = records

    def find(self, file_id: str, store_id: str = "") -> Holding:
        """Open a file: complete if it is so anywhere, else the partial file with the most leaves.

        Raises:
            FileMissing: There is nothing of it, or not in the store that was asked for.
        """
        stores = self._stores(store_id)
        for store in stores:
            try:
                return Holding(store.open(file_id), store.store_id)
            except TransferError:
                continue
        parts = [part for store in stores if (part := self._part(store, file_id)) is not None]
        if not parts:
            raise FileMissing(f"file {file_id} is not on this machine" if not store_id else f"not in store {store_id}")
        best = max(parts, key=lambda part: len(part.leaves or ()))
        for part in parts:
            if part is not best:
                part.close()
        return best

    def _stores(self, store_id: str) -> list[FileStore]:
        if not store_id:
            return self._filestores.all()
        try:
            return [self._filestores.get(store_id)]
        except Unknown:
            raise FileMissing(f"this machine has no store {store_id}") from None

    def _part(self, store: FileStore, file_id: str) -> Holding | None:
        try:
            glimpse = store.glimpse(file_id)
        except TransferError:
            return None
        found = self._records.load(key_of(file_id), store.store_id, glimpse.identity)
        if not found:
            glimpse.close()
            return None
        return Holding(glimpse, store.store_id, frozenset(found))


def key_of(file_id: str) -> TransferKey:
    """Under which the journal has the leaves of a partial file: those of its download, whoever brings them."""
    return TransferKey(Direction.DOWNLOAD, file_id, "")
