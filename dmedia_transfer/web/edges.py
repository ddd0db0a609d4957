"""Edges: what the daemon hands to the web. All but the two controls block, and are called in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dmedia_transfer.model import Failure, StoreSpec, TransferKey
from dmedia_transfer.ports import Control, JobControl, LocalFile, MachineQueue
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument

Raw = Mapping[str, Any]


class Documents(Protocol):
    """The library's documents."""

    def get(self, document_id: str) -> Raw | None: ...

    def get_many(self, ids: Iterable[str]) -> Mapping[str, Raw]: ...

    def find(self, selector: Mapping[str, Any]) -> Sequence[Raw]: ...

    def find_files(self, text: str) -> Sequence[Raw]: ...


class LocalStore(Protocol):
    """A FileStore of this machine."""

    @property
    def store_id(self) -> str: ...

    @property
    def root(self) -> Path: ...

    def open(self, file_id: str) -> LocalFile: ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...


class LocalStores(Protocol):
    """The FileStores of this machine."""

    def all(self) -> Sequence[LocalStore]: ...

    def get(self, store_id: str) -> LocalStore: ...

    def path(self, file_id: str) -> str | None: ...


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
