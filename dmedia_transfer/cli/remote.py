"""Another machine's queue: what is wanted of it is in its document, what it does in its `dmedia/transfers`.

Everything works while that machine is off: it sees the edits when it has synced, and what it did last stays readable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dmedia_transfer import statusdoc
from dmedia_transfer.cli import words
from dmedia_transfer.cli.queue import DocumentQueue
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import Direction, Failure, Progress, SourceUse, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument, TransferLine

if TYPE_CHECKING:
    from dmedia_transfer.couch.database import Database


def remote_queue(database: Database, machine: Mapping[str, Any], *, synced: bool) -> RemoteQueue:
    """The queue of another machine.

    Args:
        database: The library.
        machine: The machine's document.
        synced: Whether what is written here can be on its way at once.
    """
    return RemoteQueue(database, machine, synced=synced)


def status_of(database: Database, machine_id: str) -> StatusDocument | None:
    """What a machine said of itself last; None if it never did, or said nothing that can be believed."""
    raw = database.get(statusdoc.transfers_id(machine_id))
    try:
        return None if raw is None else statusdoc.read_status(raw)
    except InvalidDocument:
        return None


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
        status = status_of(database, machine["_id"])
        note = f"{name} {last_heard(status)}; it sees changes when it has synced"
        if not synced:
            note += ", and this machine does so when its daemon runs"
        super().__init__(database, machine["_id"], failures=self._failed, note=note)

    def transfers(self) -> list[TransferState]:
        """What is wanted, and what the machine said last of each."""
        told = {key_of(line): line for line in self._lines()}
        return [_as_told(state, told[state.key]) if state.key in told else state for state in super().transfers()]

    def problems(self) -> list[str]:
        """What that machine says a person should look at."""
        status = status_of(self._database, self._machine_id)
        return list(status.problems) if status else []

    def _lines(self) -> list[TransferLine]:
        status = status_of(self._database, self._machine_id)
        return status.transfers if status else []

    def _failed(self) -> dict[str, Failure]:
        failed = {key_of(line): line.error for line in self._lines() if line.status is Status.FAILED}
        return {
            entry.identity: Failure("TransferError", failed[key])
            for key, entries in self.by_key().items()
            if key in failed
            for entry in entries
        }


def key_of(line: TransferLine) -> TransferKey:
    """The transfer that a line is about."""
    store_id = line.store_id if line.action is Direction.UPLOAD else ""
    return TransferKey(line.action, line.file_id, store_id)


def _as_told(wanted: TransferState, line: TransferLine) -> TransferState:
    """What is wanted by now, and what the machine did of it when it said something last."""
    paused = wanted.status is Status.PAUSED
    return replace(
        wanted,
        status=Status.PAUSED if paused and not line.status.ended else line.status,
        reason=None if paused else line.reason,
        progress=Progress(line.bytes_done, line.bytes_total, line.rate, line.eta),
        error=line.error,
        sources=tuple(SourceUse(one.store_id, one.bytes, one.rate, one.state, one.reason) for one in line.sources),
    )
