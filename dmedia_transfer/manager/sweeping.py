"""Sweeping: what is unfinished and not wanted any more goes, at the start and once a day.

Unfinished uploads cost money at the store, partial files cost room here. Only what this machine's journal and its
FileStores know of is touched: an upload that the journal does not know may be another device's.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final

from dmedia_transfer.manager import planning
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.model import Direction, Discard, TransferKey
from dmedia_transfer.ports import Ledger, Stores
from dmedia_transfer.states import Status

log = logging.getLogger(__name__)

DAY_S: Final = 24 * 3600.0
RETRY_S: Final = 1.0  # after a discard that failed; twice as long after each further one


class Sweeping:
    """Gives the left-overs to a worker, one after the other."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        stores: Stores,
        ledger: Ledger,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        wall: Callable[[], float],
        expire_s: float,
    ) -> None:
        """Nothing is swept before `sweep`.

        Args:
            board: The transfers, which say what is wanted.
            runs: Where a discard becomes a worker's.
            stores: Where left-overs are.
            ledger: What the journal knows of uploads.
            call_later: Calls something later, on the manager's thread.
            wall: Unix seconds.
            expire_s: Seconds after which a partial file that nothing wants, or an upload that is paused, goes.
        """
        self._board = board
        self._runs = runs
        self._stores = stores
        self._ledger = ledger
        self._call_later = call_later
        self._wall = wall
        self.expire_s = expire_s
        self._todo: deque[Discard] = deque()
        self._failed: Counter[TransferKey] = Counter()  # discards in a row
        self._stopped = False
        self._timer: CancelTimer | None = None

    def sweep(self) -> None:
        """Look for left-overs now, and again in a day."""
        if self._timer is not None:
            self._timer()
        self._timer = self._call_later(DAY_S, self._again)
        before = self._wall() - self.expire_s
        self._todo = deque([*self._uploads(before), *self._partials(before)])
        self.proceed()

    def proceed(self) -> None:
        """Start the next discard, if none is under way. Called whenever a worker has ended one."""
        if any(isinstance(live.job, Discard) for live in self._runs):
            return
        while self._todo:
            job = self._todo.popleft()
            if job.key not in self._runs and (job.keep_current or self._may_go(job.key)):
                log.info("%s: nothing wants what is left of it at %s: it goes", job.key, job.store.store_id)
                self._runs.start(job)
                return

    def ended(self, job: Discard, *, failed: bool) -> None:
        """A worker has ended a discard; one that failed is tried again, later and later."""
        if not failed:
            del self._failed[job.key]
            return
        self._failed[job.key] += 1
        self._call_later(min(DAY_S, RETRY_S * 2 ** min(self._failed[job.key] - 1, 16)), lambda: self._retry(job))

    def stop(self) -> None:
        """Sweep no more."""
        self._stopped = True
        self._todo.clear()
        if self._timer is not None:
            self._timer()

    def _retry(self, job: Discard) -> None:
        if not self._stopped:
            self._todo.append(job)
            self.proceed()

    def _again(self) -> None:
        self._timer = None
        self.sweep()

    def _may_go(self, key: TransferKey) -> bool:
        """Whether nobody wants it now, or it has been paused for so long that it was listed."""
        item = self._board.get(key)
        return item is None or item.transfer.status.ended or item.transfer.status is Status.PAUSED

    def _uploads(self, before: float) -> Iterator[Discard]:
        for key, begun in sorted(self._ledger.uploads().items()):
            item = self._board.get(key)
            wanted = item is not None and item.transfer.status not in (Status.DONE, Status.CANCELLED)
            paused = item is not None and item.transfer.status is Status.PAUSED
            job = planning.discard(key, item.known if item else None, self._stores)
            if job is None:
                continue
            # Of one that is still wanted, only what an earlier upload of it has left goes.
            yield job if not wanted or (paused and begun < before) else planning.keeping_current(job)

    def _partials(self, before: float) -> Iterator[Discard]:
        for file_id, store in self._stores.unfinished(before):
            key = TransferKey(Direction.DOWNLOAD, file_id, "")
            item = self._board.get(key)
            if item is None or item.transfer.status.ended:
                yield Discard(key, None, store)
