"""Another machine's queue: what is wanted of it is in its document, what it does in its `dmedia/transfers`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dmedia_transfer.cli import words
from dmedia_transfer.cli.queue import DocumentQueue
from dmedia_transfer.couch.machinequeue import OtherMachineQueue, status_of
from dmedia_transfer.statusdoc import StatusDocument

if TYPE_CHECKING:
    from dmedia_transfer.couch.database import Database

__all__ = ["RemoteQueue", "last_heard", "remote_queue", "status_of"]


def remote_queue(database: Database, machine: Mapping[str, Any], *, synced: bool) -> RemoteQueue:
    """The queue of another machine.

    Args:
        database: The library.
        machine: The machine's document.
        synced: Whether what is written here can be on its way at once.
    """
    return RemoteQueue(database, machine, synced=synced)


def last_heard(status: StatusDocument | None) -> str:
    """How long ago a machine said something of itself, in words."""
    if status is None:
        return "was never heard of"
    ago_s = max(0.0, time.time() - status.time)
    return f"was last heard of {words.duration(ago_s)} ago ({words.moment(status.time)})"


class RemoteQueue(DocumentQueue):
    """The queue of another machine."""

    def __init__(self, database: Database, machine: Mapping[str, Any], *, synced: bool) -> None:
        name = words.printable(str(machine.get("hostname") or machine["_id"]))
        note = f"{name} {last_heard(status_of(database, machine['_id']))}; it sees changes when it has synced"
        if not synced:
            note += ", and this machine does so when its daemon runs"
        super().__init__(database, machine["_id"], note=note)
        self._queue = OtherMachineQueue(database, machine["_id"])
