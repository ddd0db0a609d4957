"""Flushing: what waits in the journal's outbox, written into the database, on the library's thread.

What was found out of files costs the same for each, however many there are. It is written soon, also while other
transfers are on their way.

Edits of the queue rewrite the whole document of the machine. So that a long queue does not cost the square of its
length, a pause goes before each write that grows with the document: entries leave in batches, and the bytes written per
second stay bounded. What makes a long queue short is as little as the queue that is left, and waits for nothing.

The order is a promise: what is stored where is written before an entry leaves the queue. Edits that can never be
written are dropped with a line in the log, so that they do not hold up the others.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer import merge
from dmedia_transfer.couch import stored
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.errors import InvalidDocument, TransferError
from dmedia_transfer.model import AddEntry, AddFile, PendingEdit, QueueEdit, RecordStored
from dmedia_transfer.ports import Outbox

log = logging.getLogger(__name__)

WRITE_BYTES_PER_S: Final = 500_000.0  # of machine documents, on average
ENTRY_BYTES: Final = 200  # of an entry, more or less
BUSY_SHARE: Final = 0.2  # of the time that goes into writing the queue, at most
PAUSE_MAX_S: Final = 5.0
UNITE_S: Final = 15.0  # after which replication has mostly brought what others wrote of a file at the same time
READ_KEPT: Final = 3000  # file documents that were read and are written soon: of small files, all that are on their way

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flushed:
    """What the database has taken."""

    seqs: list[int]  # of the edits
    machine: Raw | None = None  # the revision of the machine's document that has them; None if none was about the queue
    held_back: bool = False  # some edits were not taken, and are to be offered again


class Flushing:
    """For the library's thread alone, but for `starts`."""

    def __init__(self, database: Database, outbox: Outbox, own: OwnMachine, *, machine_id: str) -> None:
        self._database = database
        self._outbox = outbox
        self._own = own
        self._machine_id = machine_id
        self._read: dict[str, bytes] = {}  # file documents as they were read, in that order; JSON takes less memory
        self._recorded: dict[RecordStored, float] = {}  # written a short time ago, and when
        self._wrote = (0.0, 0.0, 0)  # the queue last: when that was over (monotonic), how long it took, its entries

    def starts(self, entries: int | None) -> float:
        """When the queue may be written (monotonic seconds) that will have so many entries; None: as many as before."""
        over, took_s, before = self._wrote
        most = before if entries is None else min(entries, before)
        pause_s = max(most * ENTRY_BYTES / WRITE_BYTES_PER_S, took_s / BUSY_SHARE * (most + 1) / (before + 1))
        return over + min(pause_s, PAUSE_MAX_S)

    # What was found out of files.

    def remember(self, file_id: str, raw: Raw | TransferError) -> None:
        """Most documents are read before a transfer and written after it, and are the same in between."""
        self._read.pop(file_id, None)
        same = stored.as_read(raw) if isinstance(raw, dict) else None
        if same is not None:
            self._read[file_id] = json.dumps(same).encode()
            if len(self._read) > READ_KEPT:
                del self._read[next(iter(self._read))]

    def unwritten(self, file_ids: Container[str]) -> Mapping[str, Sequence[RecordStored]]:
        """What was found out of these files and is not in their documents yet."""
        records: dict[str, list[RecordStored]] = {}
        for one in self._outbox.pending([RecordStored]):
            if isinstance(one.edit, RecordStored) and one.edit.file_id in file_ids:
                records.setdefault(one.edit.file_id, []).append(one.edit)
        return records

    def write_files(self) -> Flushed:
        """Write what was found out of files."""
        return Flushed(self._write_files(self._outbox.pending([AddFile, RecordStored])))

    @property
    def recorded(self) -> bool:
        """Whether something was recorded that `unite` has not looked at once more."""
        return bool(self._recorded)

    def unite(self) -> None:
        """Look at what was recorded once more: machines that get a file at the same time write conflicting revisions.

        Writing a record again changes nothing, but that it ends a conflict. Of two machines that both do, each writes
        the same.
        """
        due = [each for each, written in self._recorded.items() if time.monotonic() - written >= UNITE_S]
        self._database.record_stored(due)
        for each in due:
            del self._recorded[each]

    def _write_files(self, pending: Sequence[PendingEdit]) -> list[int]:
        """Write what of these is about files; their `seq`. New documents first: records are written into them."""
        news = [one.edit for one in pending if isinstance(one.edit, AddFile)]
        records = [one.edit for one in pending if isinstance(one.edit, RecordStored)]
        if not news and not records:
            return []
        read = {
            each.file_id: json.loads(text)
            for each in records
            if (text := self._read.pop(each.file_id, None)) is not None
        }
        problems = self._database.add_files(news) | self._database.record_stored(records, read=read)
        for file_id, problem in problems.items():
            log.error("file %s: where it is stored cannot be written, dropped: %s", file_id, problem)
        self._recorded |= dict.fromkeys(records, time.monotonic())
        seqs = [one.seq for one in pending if isinstance(one.edit, AddFile | RecordStored)]
        self._outbox.taken(seqs)
        return seqs

    # The queue.

    def write_all(self) -> Flushed:
        """Write all that waits."""
        pending = self._outbox.pending()
        seqs = self._write_files(pending)
        edits = merge.queue_edits(one.edit for one in pending)
        if not edits:
            return Flushed(seqs)
        began = time.monotonic()
        machine, held_back = self._write_queue(edits)
        over = time.monotonic()
        self._wrote = (over, over - began, len(machine["queue"]) if machine else 0)
        taken = [one.seq for one in pending if isinstance(one.edit, QueueEdit) and one.edit not in held_back]
        self._outbox.taken(taken)
        return Flushed(sorted([*seqs, *taken]), machine, bool(held_back))

    def _write_queue(self, edits: Sequence[QueueEdit]) -> tuple[Raw, frozenset[QueueEdit]]:
        """Edit the machine's document; returns it, and the edits that could not be written."""
        try:
            return self._own.edit(edits), frozenset()
        except InvalidDocument as problem:
            # Most likely it is too large. What makes it smaller must not wait for what makes it larger.
            held_back = merge.additions(edits)
            if not held_back:
                raise
            log.warning("machine %s: %s edits wait to be written: %s", self._machine_id, len(held_back), problem)
            rest = [edit for edit in edits if not isinstance(edit, AddEntry)]
            return self._own.edit(rest), held_back
