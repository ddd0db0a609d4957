"""A machine's queue in its document: what is wanted of it, and, of another machine, what it said last that it does.

Everything works while that machine is off: it sees the edits when it has synced, and what it did last stays readable.
Every call reads the database, and blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, assert_never

from dmedia_transfer import documents, statusdoc
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Direction,
    Entry,
    Failure,
    MoveEntries,
    PauseQueue,
    Progress,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
    SourceUse,
    Transfer,
    TransferKey,
    Verb,
    random_id,
)
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument, TransferLine


class Documents(Protocol):
    """What of a `Database` this needs."""

    def get(self, document_id: str) -> Mapping[str, Any] | None: ...

    def get_machine(self, machine_id: str) -> Mapping[str, Any] | None: ...

    def edit_machine(
        self, machine_id: str, edits: Sequence[QueueEdit], *, base: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]: ...


class MachineQueue:
    """`ports.MachineQueue`: what is asked for takes effect when that machine's daemon sees it."""

    def __init__(
        self,
        database: Documents,
        machine_id: str,
        *,
        base: Mapping[str, Any] | None = None,
        failures: Callable[[], Mapping[str, Failure]] = dict,
    ) -> None:
        """Nothing is read yet.

        Args:
            database: Where the document is.
            machine_id: Whose it is.
            base: The document to begin with, if there is none.
            failures: Tells why transfers failed, by the identities of their entries.
        """
        self._database = database
        self._machine_id = machine_id
        self._base = base
        self._failures = failures

    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask for transfers, unless they are asked for already."""
        there = self._queue().entries
        self._edit([AddEntry(entry) for entry in entries if not any(_same(entry, other) for other in there)])

    def transfers(self) -> list[Transfer]:
        """All that are wanted, in order."""
        failures = self._failures()
        return [
            _transfer(key, entries, failures, order)
            for order, (key, entries) in enumerate(self.by_key().items(), start=1)
        ]

    def held(self) -> bool:
        """Whether the whole queue is paused."""
        return self._queue().paused

    def problems(self) -> Sequence[str]:
        """What a person should look at."""
        return [str(problem) for problem in self._queue().problems]

    def steer(self, verb: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        """Say something to transfers; returns those for which it changed something."""
        by_key = self.by_key()
        failures = self._failures()
        edits: dict[TransferKey, list[QueueEdit]] = {
            key: _edits(verb, by_key.get(key, []), failures, priority) for key in keys
        }
        self._edit([edit for each in edits.values() for edit in each])
        return {key for key, each in edits.items() if each}

    def hold(self, held: bool) -> bool:
        """Pause the whole queue, or let it go on; says whether that changed anything."""
        changed = self.held() != held
        self._edit([PauseQueue(held)] if changed else [])
        return changed

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        """Give transfers another place: just before another one, with its priority, or after all others."""
        by_key = self.by_key()
        entries = [entry for key in keys for entry in by_key.get(key, [])]
        there = by_key.get(before, []) if before is not None else []
        if not entries or (before is not None and (not there or before in keys)):
            return False
        moved = max(round(time.time(), 3), *(entry.moved + 0.001 for entry in entries))
        identities = tuple(entry.identity for entry in entries)
        edits: list[QueueEdit] = [MoveEntries(identities, there[0].identity if there else "", moved)]
        if there:
            priority = max(entry.priority for entry in there)
            edits += _change([entry for entry in entries if entry.priority != priority], priority=priority)
        self._edit(edits)
        return True

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


class OtherMachineQueue(MachineQueue):
    """The queue of another machine, with what that one tells of it."""

    def __init__(self, database: Documents, machine_id: str) -> None:
        super().__init__(database, machine_id, failures=self._failed)

    def transfers(self) -> list[Transfer]:
        """What is wanted, and what the machine said last of each."""
        told = {key_of(line): line for line in self._lines()}
        return [_as_told(wanted, told[wanted.key]) if wanted.key in told else wanted for wanted in super().transfers()]

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


def status_of(database: Documents, machine_id: str) -> StatusDocument | None:
    """What a machine said of itself last; None if it never did, or said nothing that can be believed."""
    return read_status(database.get(statusdoc.transfers_id(machine_id)))


def read_status(raw: Mapping[str, Any] | None) -> StatusDocument | None:
    """What a machine said of itself; None if there is nothing that can be believed."""
    try:
        return None if raw is None else statusdoc.read_status(raw)
    except InvalidDocument:
        return None


def key_of(line: TransferLine) -> TransferKey:
    """The transfer that a line is about."""
    store_id = line.store_id if line.action is Direction.UPLOAD else ""
    return TransferKey(line.action, line.file_id, store_id)


def _as_told(wanted: Transfer, line: TransferLine) -> Transfer:
    """What is wanted by now, and what the machine did of it when it said something last."""
    paused = wanted.status is Status.PAUSED
    return replace(
        wanted,
        status=Status.PAUSED if paused and not line.status.ended else line.status,
        reason=None if paused else line.reason,
        progress=Progress(line.bytes_done, line.bytes_total, line.rate, line.eta),
        failure=Failure("TransferError", line.error) if line.error else None,
        sources=tuple(SourceUse(one.store_id, one.bytes, one.rate, one.state, one.reason) for one in line.sources),
    )


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


def _edits(verb: Verb, entries: Sequence[Entry], failures: Mapping[str, Failure], priority: int) -> list[QueueEdit]:
    """What a command changes in the queue; nothing where all is so already."""
    match verb:
        case Verb.PAUSE | Verb.RESUME:
            paused = verb is Verb.PAUSE
            return _change([entry for entry in entries if entry.paused != paused], paused=paused)
        case Verb.PRIORITIZE:
            return _change([entry for entry in entries if entry.priority != priority], priority=priority)
        case Verb.SPEND | Verb.SPARE:
            metered = verb is Verb.SPEND
            return _change([entry for entry in entries if entry.metered != metered], metered=metered)
        case Verb.CANCEL:
            return [RemoveEntries(tuple(entry.identity for entry in entries))] if entries else []
        case Verb.RETRY:
            return [RenewEntry(entry.identity, random_id()) for entry in entries if entry.identity in failures]
        case _:
            assert_never(verb)


def _change(
    entries: Sequence[Entry], *, paused: bool | None = None, priority: int | None = None, metered: bool | None = None
) -> list[QueueEdit]:
    identities = tuple(entry.identity for entry in entries)
    return [ChangeEntries(identities, paused=paused, priority=priority, metered=metered)] if identities else []


def _transfer(key: TransferKey, entries: Sequence[Entry], failures: Mapping[str, Failure], order: int) -> Transfer:
    failure = next((failures[entry.identity] for entry in entries if entry.identity in failures), None)
    if failure is not None:
        status = Status.FAILED
    else:
        status = Status.PAUSED if all(entry.paused for entry in entries) else Status.QUEUED
    return Transfer(
        key,
        status=status,
        priority=max(entry.priority for entry in entries),
        preferred_store=next((entry.store_id for entry in entries if entry.store_id), ""),
        only=any(entry.only for entry in entries),
        metered=any(entry.metered for entry in entries),
        failure=failure,
        requested_by=next((entry.requested_by for entry in entries if entry.requested_by), ""),
        time=min(entry.time for entry in entries),
        order=order,
    )
