"""Survey: FileStores, looked at for many files in one go."""

from __future__ import annotations

from collections.abc import Sequence

from dmedia_transfer.errors import DiskFull, StoreMissing, TransferError
from dmedia_transfer.filestore.store import FileStore
from dmedia_transfer.model import StoreSpec


class Survey:
    """What these FileStores have, and have room for; those that are not there have nothing."""

    def __init__(self, stores: Sequence[FileStore]) -> None:
        """`stores` are looked at in each call, which costs less if they are held open meanwhile."""
        self._stores = stores
        self._specs: dict[str, StoreSpec] = {}

    def holding(self, file_id: str) -> list[StoreSpec]:
        """Those that have the file, complete."""
        return [self._spec(store) for store in self._stores if store.has(file_id)]

    def with_partial(self, file_id: str) -> list[FileStore]:
        """Those that have a part of the file; the one that was written to last at the beginning."""
        found = [(mtime, store) for store in self._stores if (mtime := store.partial_mtime(file_id)) is not None]
        return [store for _, store in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        """The one to save to: one with a partial file already, else the one with the most free space.

        Raises:
            StoreMissing: There is none, or none is there now.
            DiskFull: None has room above its floor.
        """
        for store in self.with_partial(file_id):
            try:
                if not (missing := store.missing_bytes(file_id, file_bytes)) or store.room_for(missing):
                    return self._spec(store)
            except TransferError:
                continue
        free: list[tuple[int, FileStore]] = []
        absent: list[TransferError] = []
        for store in self._stores:
            try:
                free.append((store.free_bytes(), store))
            except TransferError as error:
                absent.append(error)
        if not free:
            raise StoreMissing("; ".join(str(error) for error in absent) or "this machine has no FileStore")
        most, store = max(free, key=lambda pair: pair[0])
        if most < file_bytes:
            raise DiskFull(
                f"file {file_id} has {file_bytes} bytes, and no FileStore has more than {most} above its floor"
            )
        return self._spec(store)

    def _spec(self, store: FileStore) -> StoreSpec:
        """The same object for all files, so that it crosses to a worker once."""
        if store.store_id not in self._specs:
            self._specs[store.store_id] = store.spec
        return self._specs[store.store_id]
