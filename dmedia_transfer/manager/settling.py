"""Settling: what happens to documents and journal when transfers end.

Ends come in crowds when files are small, and each one is an edit of one and the same machine document. They are
gathered for a moment and written together: first the journal's outbox, then CouchDB. A crash in between loses
nothing: the entry is still in the queue, the file is found in its place, and it ends once more. So the journal need not
be on the disk before the next thing is done, but for what nothing could find again: what a person asks for, and what
became of a file that was taken out of the queue meanwhile.

Each time that entries leave, the whole queue is written anew. So that a long queue does not cost the square of its
length, they leave when they are a quarter of what is left, which costs four times the entry for each, however long the
queue is; or sooner, when what is written so in a second is little. What a person asks for takes along all that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.manager.wanted import Wanted
from dmedia_transfer.model import Edit, RecordStored, RemoveEntries, TransferKey
from dmedia_transfer.ports import Ledger, Library, Outbox
from dmedia_transfer.states import Status

GATHER_S: Final = 0.2  # while others have not ended: writing many at once costs little more than writing one
LEAVING_SHARE: Final = 0.25  # of the queue that is left: so many that have ended are worth writing it
LEAVING_BYTES_PER_S: Final = 33_000.0  # of queue, written for fewer
LEAVING_MAX_S: Final = 60.0  # and after this time for one
ENTRY_BYTES: Final = 250  # of an entry in the document, more or less


class Settling:
    """Edits on their way into the outbox."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        ledger: Ledger,
        library: Library,
        wanted: Wanted,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
    ) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._library = library
        self._wanted = wanted
        self._call_later = call_later
        self._gathered: list[RecordStored] = []
        self._removed: list[str] = []
        self._ended: list[tuple[TransferKey, tuple[str, ...], Status, int]] = []
        self._timer: CancelTimer | None = None
        self._leaving = 0  # entries that have ended and wait in the outbox
        self._leave: CancelTimer | None = None

    def now(self, edits: Sequence[Edit]) -> list[TransferKey]:
        """A person's edits: durable when this returns. Returns the transfers that are concerned.

        They are handed over by the caller, when he has brought these in line: of ten thousand new ones the first are
        read and on their way before the queue is written, which takes a while.
        """
        self.flush()
        return self._write(edits, durable=True)

    def stored(self, record: RecordStored) -> None:
        """A store has, or has no more, a copy of a file."""
        self._gathered.append(record)
        self._soon()

    def ended(self, key: TransferKey, identities: Iterable[str], status: Status, size: int) -> None:
        """A transfer is done: its entries leave the queue, after what it stored was recorded."""
        self._ended.append((key, tuple(identities), status, size))
        self._soon()

    def removed(self, identities: Iterable[str]) -> None:
        """These entries have no business in the queue any more."""
        self._removed.extend(identities)
        self._soon()

    def hurry(self) -> None:
        """Nothing more ends soon that could be written together with what was gathered: write it in a moment."""
        if self._timer is not None:
            self._timer()
            self._timer = self._call_later(0, self._time_is_up)

    def flush(self) -> None:
        """Write what was gathered into the outbox; to the disk what is of no entry that is found there again."""
        if self._timer is not None:
            self._timer()
            self._timer = None
        recorded, ended = list(self._gathered), list(self._ended)
        edits: list[Edit] = [*recorded]
        leaving = [*self._removed, *(identity for _, identities, _, _ in ended for identity in identities)]
        if leaving:
            edits.append(RemoveEntries(tuple(leaving)))
        self._gathered.clear()
        self._removed.clear()
        self._ended.clear()
        if edits:
            found_again = {key.file_id for key, *_ in ended}
            self._write(edits, durable=any(record.file_id not in found_again for record in recorded))
            self._leaving += len(leaving)
            self._hand_over_when_worth_it()
        # Last, because whoever finds the tombstone relies on what the outbox has.
        self._ledger.all_ended(ended)

    def hand_over(self) -> None:
        """Have the outbox written into the database."""
        if self._leave is not None:
            self._leave()
            self._leave = None
        self._leaving = 0
        self._library.flush(left=len(self._wanted))

    def close(self) -> None:
        """Write all of it that can be: nothing is gathered after this."""
        self.flush()
        self.hand_over()

    def _write(self, edits: Sequence[Edit], *, durable: bool) -> list[TransferKey]:
        pending = self._outbox.add(edits, durable=durable)
        return self._wanted.edited(pending)

    def _hand_over_when_worth_it(self) -> None:
        left = len(self._wanted)
        if self._leaving >= left * LEAVING_SHARE:
            self.hand_over()
            return
        self._library.record()
        if self._leave is None:
            self._leave = self._call_later(min(left * ENTRY_BYTES / LEAVING_BYTES_PER_S, LEAVING_MAX_S), self.hand_over)

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = self._call_later(GATHER_S, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.flush()
