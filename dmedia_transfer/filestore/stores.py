"""FileStores: all FileStores of this machine, of which some may be on drives that are not there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dmedia_transfer.errors import TransferError, Unknown
from dmedia_transfer.filestore.store import FLOOR_BYTES, FLOOR_PERCENT, FileStore
from dmedia_transfer.filestore.survey import Survey
from dmedia_transfer.model import StoreSpec


class FileStores:
    """The FileStores of this machine, looked at anew in each call: a handful of system calls for each store."""

    def __init__(
        self,
        paths: Callable[[], Mapping[str, Path]],
        *,
        floor_bytes: int = FLOOR_BYTES,
        floor_percent: float = FLOOR_PERCENT,
    ) -> None:
        """`paths` tells where each FileStore is, by its ID; it is asked in each call."""
        self._paths = paths
        self._floor_bytes = floor_bytes
        self._floor_percent = floor_percent

    def keep_free(self, *, floor_bytes: int, floor_percent: float) -> None:
        """From now on so much stays free in each: `floor_bytes`, or `floor_percent` of its disk if that is less."""
        self._floor_bytes = floor_bytes
        self._floor_percent = floor_percent

    def all(self) -> list[FileStore]:
        """All of them, also those that are not there now."""
        return [self._at(store_id, root) for store_id, root in self._paths().items()]

    def get(self, store_id: str) -> FileStore:
        """One of them, whether or not it is there now.

        Raises:
            Unknown: This machine has no such FileStore.
        """
        root = self._paths().get(store_id)
        if root is None:
            raise Unknown(f"this machine has no FileStore {store_id}")
        return self._at(store_id, root)

    def spec(self, store_id: str) -> StoreSpec:
        """One of them, as a job names it.

        Raises:
            Unknown: This machine has no such FileStore.
            StoreMissing: It is not there now.
        """
        store = self.get(store_id)
        store.check()
        return store.spec

    def homes(self) -> list[StoreSpec]:
        """Those that are there now."""
        present = []
        for store in self.all():
            with contextlib.suppress(TransferError):
                store.check()
                present.append(store.spec)
        return present

    def holding(self, file_id: str) -> list[StoreSpec]:
        """Those that have the file, complete."""
        return Survey(self.all()).holding(file_id)

    def path(self, file_id: str) -> str | None:
        """Where one of them has the file, complete."""
        return next((str(store.path(file_id)) for store in self.all() if store.has(file_id)), None)

    def partial(self, file_id: str) -> StoreSpec | None:
        """The one that has a part of the file; of several, the one that was written to last."""
        having = Survey(self.all()).with_partial(file_id)
        return having[0].spec if having else None

    def unfinished(self, before: float) -> list[tuple[str, StoreSpec]]:
        """The partial files (their IDs) that were last written to before this time (Unix seconds), and where."""
        found: list[tuple[str, StoreSpec]] = []
        for store in self.all():
            with contextlib.suppress(TransferError):
                found.extend((one.file_id, store.spec) for one in store.partials() if one.mtime < before)
        return sorted(found, key=lambda one: one[0])

    def salvage(self, file_id: str) -> list[str]:
        """Make what is good of copies in quarantine available to a download; the stores that had one."""
        having = [store for store in self.all() if store.quarantined(file_id)]
        for store in having:
            store.salvage(file_id)
        return [store.store_id for store in having]

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        """The one to save to; see `Survey.destination`."""
        return Survey(self.all()).destination(file_id, file_bytes)

    @contextlib.contextmanager
    def survey(self) -> Iterator[Survey]:
        """All of them, held open for as many questions as there are in the block."""
        with contextlib.ExitStack() as held:
            yield Survey([held.enter_context(store.held()) for store in self.all()])

    def room(self) -> tuple[frozenset[str], int]:
        """Those that are there now (their IDs), and the most bytes that one of them can take."""
        free: dict[str, int] = {}
        for store in self.all():
            with contextlib.suppress(TransferError):
                free[store.store_id] = store.free_bytes()
        return frozenset(free), max(free.values(), default=0)

    def _at(self, store_id: str, root: Path) -> FileStore:
        return FileStore(store_id, root, floor_bytes=self._floor_bytes, floor_percent=self._floor_percent)
