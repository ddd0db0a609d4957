"""Disks: how much room the FileStores of this machine have, asked so that a disk that hangs holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dmedia_transfer.errors import TransferError
from dmedia_transfer.web.bridge import Bridge

WAIT_S: Final = 3.0  # Prometheus gives up after ten


class Store(Protocol):
    """What of a FileStore this needs. Calls may block for as long as the disk does."""

    @property
    def store_id(self) -> str: ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...


class Stores(Protocol):
    """The FileStores of this machine."""

    def all(self) -> Sequence[Store]: ...


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a FileStore."""

    store_id: str
    there: bool  # it is mounted, and answers
    total_bytes: int = 0
    free_bytes: int = 0  # above the floor


class Disks:
    """For one event loop. However often somebody asks, one thread looks."""

    def __init__(self, filestores: Stores, bridge: Bridge, *, wait_s: float = WAIT_S) -> None:
        self._filestores = filestores
        self._bridge = bridge
        self._wait_s = wait_s
        self._looking: asyncio.Task[list[Disk]] | None = None
        self._last: list[Disk] = []

    async def all(self) -> list[Disk]:
        """All of them; those that were seen last, as not there, if the disks do not answer in time."""
        looking = self._looking = self._looking or asyncio.create_task(self._bridge.thread(self._look))
        done, _ = await asyncio.wait([looking], timeout=self._wait_s)
        if not done:
            return [Disk(one.store_id, there=False) for one in self._last]
        if self._looking is looking:
            self._looking = None
        self._last = looking.result()
        return self._last

    def _look(self) -> list[Disk]:
        return [_look_at(store) for store in self._filestores.all()]


def _look_at(store: Store) -> Disk:
    try:
        return Disk(store.store_id, True, store.total_bytes(), store.free_bytes())
    except TransferError:
        return Disk(store.store_id, there=False)
