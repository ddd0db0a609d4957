"""Edges: what the daemon hands to the web. All but the two controls and `vitals` block, and are called in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from dmedia_transfer.model import AddFile, Entry, Failure, StoreSpec, TransferKey
from dmedia_transfer.ports import Control, JobControl, LeafRecords, LocalFile, MachineQueue, UploadRecords, Vitals
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument

Raw = Mapping[str, Any]


class Documents(Protocol):
    """The library's documents."""

    def get(self, document_id: str) -> Raw | None: ...

    def get_many(self, ids: Iterable[str]) -> Mapping[str, Raw]: ...

    def find(self, selector: Mapping[str, Any]) -> Sequence[Raw]: ...

    def find_files(self, text: str) -> Sequence[Raw]: ...


class PartialPlace(Protocol):
    """A partial file of a FileStore, open and locked."""

    @property
    def fresh(self) -> bool: ...

    @property
    def identity(self) -> str: ...

    def write_leaf(self, index: int, data: memoryview) -> None: ...

    def read_leaf(self, index: int, into: memoryview) -> bool: ...

    def publish(self, as_file_id: str = "") -> None: ...

    def close(self) -> None: ...


class Glimpse(Protocol):
    """A partial file, open for reading."""

    @property
    def identity(self) -> str: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class LocalStore(Protocol):
    """A FileStore of this machine."""

    @property
    def store_id(self) -> str: ...

    @property
    def root(self) -> Path: ...

    def open(self, file_id: str) -> LocalFile: ...

    def has(self, file_id: str) -> bool: ...

    def partial(self, file_id: str, size: int) -> PartialPlace: ...

    def glimpse(self, file_id: str) -> Glimpse: ...

    def discard(self, file_id: str) -> bool: ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...


class LocalStores(Protocol):
    """The FileStores of this machine."""

    def all(self) -> Sequence[LocalStore]: ...

    def get(self, store_id: str) -> LocalStore: ...

    def path(self, file_id: str) -> str | None: ...

    def partial(self, file_id: str) -> StoreSpec | None: ...

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec: ...


class KnownStores(Protocol):
    """All stores that this machine knows of."""

    def known(self) -> Sequence[Raw]: ...

    def spec(self, store_id: str) -> StoreSpec: ...


class EndedTransfer(Protocol):
    """A line of the history."""

    @property
    def key(self) -> TransferKey: ...

    @property
    def status(self) -> Status: ...

    @property
    def failure(self) -> Failure | None: ...

    @property
    def time(self) -> float: ...

    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Receiver:
    """What takes new files in."""

    folder: Path  # where unfinished uploads are kept
    records: LeafRecords
    enter: Callable[
        [AddFile, Sequence[Entry]], None
    ]  # on the manager's thread: a new file, and where it goes from here
    expire_s: float  # after which an upload goes that nobody goes on with


@dataclass(frozen=True)
class Edges:
    """All of them."""

    machine_id: str
    hostname: str
    control: Control
    jobs: JobControl | None
    documents: Documents
    machine_queue: Callable[[str], MachineQueue]  # of another machine, by its ID
    machine_status: Callable[[Raw | None], StatusDocument | None]
    stores: KnownStores
    filestores: LocalStores
    history: Callable[[], Sequence[EndedTransfer]]  # the latest first
    receiver: Receiver
    uploads: UploadRecords  # which parts of an upload its server has
    vitals: Callable[[], Vitals] = Vitals  # on the manager's thread
