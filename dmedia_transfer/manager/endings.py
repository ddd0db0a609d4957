"""Endings: what is done when a transfer is done, has failed or is not wanted any more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from dmedia_transfer.manager import planning
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import CancelTimer, Item
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.manager.settling import Settling
from dmedia_transfer.model import Direction, Entry, Failure, Progress, RecordStored
from dmedia_transfer.ports import Ledger, Stores
from dmedia_transfer.states import Event, Status

log = logging.getLogger(__name__)

LINGER_S: Final = 10.0  # how long an ended transfer can still be looked at
DROPPED_AT_ONCE: Final = 100  # of those: some milliseconds
DROP_PAUSE_S: Final = 0.02  # until the next ones


class Endings:
    """Ends transfers, and remembers those that failed until somebody retries or removes them."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        settling: Settling,
        ledger: Ledger,
        stores: Stores,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._board = board
        self._runs = runs
        self._settling = settling
        self._ledger = ledger
        self._stores = stores
        self._call_later = call_later
        self._clock = clock
        self._wall = wall
        self._lingering: deque[tuple[float, Item]] = deque()  # ended, and until when (monotonic seconds), in this order
        self._failures: dict[str, Failure] = {}  # by the identity of the entry

    def remember(self) -> None:
        """Take up the failures of an earlier life."""
        self._failures = dict(self._ledger.failures())

    def failure_of(self, entries: Sequence[Entry]) -> Failure | None:
        """Why the transfer that these ask for has failed, if all of them saw it fail."""
        failures = [self._failures.get(entry.identity) for entry in entries]
        return failures[0] if all(failures) else None

    def record(self, file_id: str, store_id: str) -> None:
        """A store has a verified copy."""
        self._settling.stored(RecordStored(file_id, store_id, copies=1, time=round(self._wall(), 3)))

    def record_all_again(self) -> None:
        """The database was restored or made anew: it may not know what was brought here, or sent, since its backup.

        At the time at which it was done, so that what has become of a copy later, and is known there, stays.
        """
        for key, time_s in self._ledger.done():
            upload = key.direction is Direction.UPLOAD
            for store_id in [key.store_id] if upload else [one.store_id for one in self._stores.holding(key.file_id)]:
                self._settling.stored(RecordStored(key.file_id, store_id, copies=1, time=round(time_s, 3)))

    def done(self, item: Item) -> None:
        """The bytes are where they should be, and that was recorded."""
        total = item.transfer.progress.bytes_total
        stores = tuple(one.store_id for one in item.transfer.sources)
        self._board.event(item, Event.FINISH, progress=Progress(total, total), failure=None, sources=())
        item.stay_asleep()
        item.known = None  # thousands of small files may linger at once
        self._settling.ended(item.transfer.key, item.identities, Status.DONE, total)
        if not self._board.waiting:
            self._settling.hurry()
        log.info(
            "%s: done, %d bytes",
            item.transfer.key,
            total,
            extra={"stores": stores},
        )
        self._linger(item)

    def failed(self, item: Item, failure: Failure) -> None:
        """Trying again does not help; a person may say otherwise."""
        log.error("%s: failed: %s", item.transfer.key, failure)
        self._board.change(item, failure=failure)
        self._board.event(item, Event.FAIL)
        self._failures.update((identity, failure) for identity in item.identities)
        self._ledger.failed(item.transfer.key, item.identities, failure, item.transfer.progress.bytes_total)

    def retried(self, item: Item) -> None:
        """A failed one is wanted again."""
        self._forget_failure(item)
        self._board.event(item, Event.RETRY)
        self._board.change(item, failure=None, attempts=0)

    def cancelled(self, item: Item) -> None:
        """Nobody asks for it any more."""
        item.stay_asleep()
        self._forget_failure(item)
        self._board.event(item, Event.CANCEL)
        if item.transfer.key in self._runs:
            self._runs.stop(item.transfer.key)  # what it leaves is discarded when it has let go
        else:
            self.discard(item)
        self._linger(item)

    def discard(self, item: Item) -> None:
        """Have what it left removed: a partial file, or an upload at a store."""
        key = item.transfer.key
        if key.direction is Direction.UPLOAD and key not in self._ledger.uploads():
            return
        job = planning.discard(key, item.known, self._stores)
        if job is not None:
            self._runs.start(job)

    def _forget_failure(self, item: Item) -> None:
        for identity in item.identities:
            self._failures.pop(identity, None)

    def _linger(self, item: Item) -> None:
        """Let people see how it ended, for a moment."""
        self._lingering.append((self._clock() + LINGER_S, item))
        if len(self._lingering) == 1:
            self._call_later(LINGER_S, self._drop)

    def _drop(self) -> None:
        """Take away those that have been seen long enough; thousands in slices, with one timer for all."""
        now_s = self._clock()
        for _ in range(DROPPED_AT_ONCE):
            if not self._lingering or self._lingering[0][0] > now_s:
                break
            _, item = self._lingering.popleft()
            if self._board.get(item.transfer.key) is not item or not item.transfer.status.ended:
                continue
            if item.transfer.key in self._runs:
                self._lingering.append((now_s + LINGER_S, item))  # what its worker leaves has to be discarded yet
            else:
                self._board.drop(item)
        if self._lingering:
            self._call_later(max(DROP_PAUSE_S, self._lingering[0][0] - now_s), self._drop)
