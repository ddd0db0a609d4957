"""The stores that a worker has open, kept from job to job so that their connections stay open."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Final

from dmedia_transfer import backends
from dmedia_transfer.errors import (
    ConnectionLost,
    FileMissing,
    ObjectMissing,
    SourceChanged,
    StoreMissing,
    TransferError,
)
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.lines import MOST_CONNECTIONS
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.multipart import bodies
from dmedia_transfer.ports import Backend, Meter, ObjectInfo, PartialFile

MAX_OPEN: Final = 16  # backends; a job has 8 sources at most, and they may change while it runs


class OpenStores:
    """Backends by what they were made from; the one used longest ago is closed first. One thread at a time."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Backend] = OrderedDict()
        self._local: dict[str, LocalSource] = {}

    def backend(self, spec: StoreSpec, *, stall_s: float) -> Backend:
        """The backend of a store; how many connections it has is decided by who calls it.

        Raises:
            Unknown: Its plugin is not known here.
            InvalidDocument: Its settings cannot be used.
        """
        settings = json.dumps(dict(spec.settings), sort_keys=True, default=repr)
        name = f"{spec.store_id} {spec.plugin} {stall_s} {spec.login} {settings}"
        if name not in self._open:
            while len(self._open) >= MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[name] = backends.create(spec, stall_s=stall_s, connections=MOST_CONNECTIONS)
        self._open.move_to_end(name)
        return self._open[name]

    def local(self, spec: StoreSpec) -> LocalSource:
        """A FileStore of this machine, for reading."""
        name = json.dumps(dict(spec.settings), sort_keys=True, default=repr)
        return self._local.setdefault(name, LocalSource(FileStore.of(spec)))

    def cut(self) -> None:
        """Cut the connections of all; from any thread."""
        for backend in list(self._open.values()):
            backend.cut()


class LocalSource:
    """A FileStore of this machine as a source of a download."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._cuts = 0

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """The size of the file, or None."""
        try:
            return ObjectInfo(self._store.size(file.file_id))
        except FileMissing:
            return None

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` with the file's bytes from offset `start`."""
        cuts = self._cuts
        try:
            reader = self._store.open(file.file_id)
        except FileMissing as error:
            raise ObjectMissing(str(error)) from error
        with reader:
            for offset in range(0, len(into), bodies.PIECE_BYTES):
                piece = into[offset : offset + bodies.PIECE_BYTES]
                try:
                    reader.read(start + offset, piece)
                except (SourceChanged, StoreMissing) as error:  # of the source: the destination is not to blame
                    raise ConnectionLost(str(error)) from error
                meter(len(piece))
                if self._cuts != cuts:
                    raise ConnectionLost(f"reading from store {self._store.store_id} was cut")

    def copy(self, file: FileSpec, index: int, partial: PartialFile) -> bool:
        """Have the file system copy a leaf, if it can; what is there then is not verified."""
        try:
            reader = self._store.open(file.file_id)
        except TransferError:
            return False  # fetching it says what is wrong
        with reader:
            return reader.size == file.size and partial.copy_leaf(index, reader.fileno())

    def cut(self) -> None:
        """Reads in flight raise ConnectionLost."""
        self._cuts += 1
