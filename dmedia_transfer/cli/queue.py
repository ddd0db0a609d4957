"""A machine's queue, as commands change and show it: through the daemon, or, without one, in the machine's document.

What is in the queue is what somebody wants; a daemon that is not running, or a machine that is off, finds it there
later. So another machine's queue is edited in the same way as that of this one without a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from dmedia_transfer import documents
from dmedia_transfer.cli.device import Device
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.config import EMBEDDED, PER_USER
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Direction,
    Entry,
    Failure,
    PauseQueue,
    Progress,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
    TransferKey,
    random_id,
)
from dmedia_transfer.states import Status

MOST_AT_ONCE: Final = 10_000  # files in one call, each of which is one write of the document
OWN_SERVERS: Final = (EMBEDDED, PER_USER)  # what is written there goes to others only while the daemon runs

if TYPE_CHECKING:
    from dmedia_transfer.client import Client
    from dmedia_transfer.couch.database import Database


class Command(StrEnum):
    """What can be said to a transfer."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    PRIORITIZE = "prioritize"


class Queue(Protocol):
    """What commands ask for."""

    running: bool  # whether the daemon is
    note: str  # what somebody should know who changes or looks at it; empty if there is nothing

    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask for transfers."""

    def transfers(self) -> list[TransferState]:
        """All that are wanted, also those that ended a moment ago; in no order."""

    def held(self) -> bool:
        """Whether the whole queue is paused."""

    def problems(self) -> Sequence[str]:
        """What a person should look at."""

    def steer(self, command: Command, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        """Say something to transfers; returns those for which it changed something."""

    def hold(self, held: bool) -> bool:
        """Pause the whole queue, or let it go on; says whether that changed anything."""


@contextmanager
def opened(device: Device, machine: str = "") -> Iterator[Queue]:
    """The queue of this machine, through the daemon if it is there, or of the machine that `machine` means.

    Raises:
        Unknown, Ambiguous: No machine is meant, or several are.
    """
    client = device.client
    if machine:
        with device.database() as database:
            raw = device.machine(database, machine)
            if raw["_id"] != device.machine_id:
                from dmedia_transfer.cli.remote import remote_queue

                yield remote_queue(database, raw, synced=client is not None or device.config.couchdb not in OWN_SERVERS)
                return
    if client is not None:
        yield BusQueue(client)
        return
    with device.database() as database:
        yield DocumentQueue(
            database,
            device.machine_id,
            base=device.new_machine(),
            failures=device.failures,
            note=f"the daemon is not running ({device.no_daemon}); it will see this when it is started",
        )


class BusQueue:
    """The queue through the daemon: what is asked for takes effect at once."""

    running = True
    note = ""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, entries: Sequence[Entry]) -> None:
        alike = {
            (one.direction, one.store_id, one.only, one.paused, one.metered, one.priority, one.requested_by)
            for one in entries
        }
        if len(entries) > 1 and len(alike) == 1:
            first = entries[0]
            if first.direction is Direction.DOWNLOAD and not (first.store_id or first.only or first.paused):
                for start in range(0, len(entries), MOST_AT_ONCE):
                    file_ids = [entry.file_id for entry in entries[start : start + MOST_AT_ONCE]]
                    self._client.queue_downloads(
                        file_ids, priority=first.priority, metered=first.metered, requested_by=first.requested_by
                    )
                return
        for entry in entries:
            who = entry.requested_by
            if entry.direction is Direction.UPLOAD:
                self._client.queue_upload(
                    entry.file_id, entry.store_id, priority=entry.priority, metered=entry.metered, requested_by=who
                )
            else:
                self._client.queue_download(
                    entry.file_id,
                    entry.store_id,
                    priority=entry.priority,
                    only=entry.only,
                    metered=entry.metered,
                    requested_by=who,
                )

    def transfers(self) -> list[TransferState]:
        return self._client.transfers()

    def held(self) -> bool:
        return self._client.state().queue_paused

    def problems(self) -> Sequence[str]:
        return self._client.state().problems

    def steer(self, command: Command, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        return {key for key in keys if self._steer(command, key, priority)}

    def hold(self, held: bool) -> bool:
        return self._client.pause_all() if held else self._client.resume_all()

    def _steer(self, command: Command, key: TransferKey, priority: int) -> bool:
        transfer = self._client.transfer(key)
        match command:
            case Command.PAUSE:
                return transfer.pause()
            case Command.RESUME:
                return transfer.resume()
            case Command.CANCEL:
                return transfer.cancel()
            case Command.RETRY:
                return transfer.retry()
            case Command.PRIORITIZE:
                return transfer.set_priority(priority)
            case _:
                assert_never(command)


class DocumentQueue:
    """The queue in a machine's document: what is asked for takes effect when that machine's daemon sees it."""

    running = False

    def __init__(
        self,
        database: Database,
        machine_id: str,
        *,
        base: Mapping[str, Any] | None = None,
        failures: Callable[[], Mapping[str, Failure]] = dict,
        note: str = "",
    ) -> None:
        """Nothing is read yet.

        Args:
            database: Where the document is.
            machine_id: Whose it is.
            base: The document to begin with, if there is none.
            failures: Tells why transfers failed, by the identities of their entries.
            note: What somebody should know.
        """
        self._database = database
        self._machine_id = machine_id
        self._base = base
        self._failures = failures
        self.note = note

    def ask(self, entries: Sequence[Entry]) -> None:
        there = self._queue().entries
        self._edit([AddEntry(entry) for entry in entries if not any(_same(entry, other) for other in there)])

    def transfers(self) -> list[TransferState]:
        failures = self._failures()
        return [_state(key, entries, failures) for key, entries in self.by_key().items()]

    def held(self) -> bool:
        return self._queue().paused

    def problems(self) -> Sequence[str]:
        return [str(problem) for problem in self._queue().problems]

    def steer(self, command: Command, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        by_key = self.by_key()
        failures = self._failures()
        edits: dict[TransferKey, list[QueueEdit]] = {
            key: _edits(command, by_key.get(key, []), failures, priority) for key in keys
        }
        self._edit([edit for each in edits.values() for edit in each])
        return {key for key, each in edits.items() if each}

    def hold(self, held: bool) -> bool:
        changed = self.held() != held
        self._edit([PauseQueue(held)] if changed else [])
        return changed

    def by_key(self) -> dict[TransferKey, list[Entry]]:
        """The entries that ask for each transfer."""
        by_key: dict[TransferKey, list[Entry]] = {}
        for entry in self._queue().entries:
            by_key.setdefault(entry.key, []).append(entry)
        return by_key

    def _queue(self) -> documents.Queue:
        raw = self._database.get_machine(self._machine_id)
        return documents.Queue() if raw is None else documents.read_queue(documents.read_machine(raw))

    def _edit(self, edits: Sequence[QueueEdit]) -> None:
        if edits:
            self._database.edit_machine(self._machine_id, edits, base=self._base)


def _same(one: Entry, other: Entry) -> bool:
    """Whether one entry asks for what the other asks for already."""
    return (one.key, one.store_id, one.priority, one.only, one.paused, one.metered) == (
        other.key,
        other.store_id,
        other.priority,
        other.only,
        other.paused,
        other.metered,
    )


def _edits(
    command: Command, entries: Sequence[Entry], failures: Mapping[str, Failure], priority: int
) -> list[QueueEdit]:
    """What a command changes in the queue; nothing where all is so already."""
    match command:
        case Command.PAUSE | Command.RESUME:
            paused = command is Command.PAUSE
            return _change([entry for entry in entries if entry.paused != paused], paused=paused)
        case Command.PRIORITIZE:
            return _change([entry for entry in entries if entry.priority != priority], priority=priority)
        case Command.CANCEL:
            return [RemoveEntries(tuple(entry.identity for entry in entries))] if entries else []
        case Command.RETRY:
            return [RenewEntry(entry.identity, random_id()) for entry in entries if entry.identity in failures]
        case _:
            assert_never(command)


def _change(entries: Sequence[Entry], *, paused: bool | None = None, priority: int | None = None) -> list[QueueEdit]:
    identities = tuple(entry.identity for entry in entries)
    return [ChangeEntries(identities, paused=paused, priority=priority)] if identities else []


def _state(key: TransferKey, entries: Sequence[Entry], failures: Mapping[str, Failure]) -> TransferState:
    failure = next((failures[entry.identity] for entry in entries if entry.identity in failures), None)
    if failure is not None:
        status = Status.FAILED
    else:
        status = Status.PAUSED if all(entry.paused for entry in entries) else Status.QUEUED
    return TransferState(
        key=key,
        status=status,
        reason=None,
        progress=Progress(),
        priority=max(entry.priority for entry in entries),
        store_id=next((entry.store_id for entry in entries if entry.store_id), ""),
        error=str(failure) if failure else "",
        requested_by=next((entry.requested_by for entry in entries if entry.requested_by), ""),
        sources=(),
        metered=any(entry.metered for entry in entries),
    )
