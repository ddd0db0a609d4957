"""Sourcing: where running downloads take their leaves from, and which file documents the feed tells of.

A file document says which stores have a file, and changes while a download runs: another machine has it now, too, or
has it no more. A download that runs for more than a moment is therefore watched, and its worker is told when what it
can be fetched from is not the same any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from dmedia_transfer.errors import TransferError
from dmedia_transfer.manager import planning
from dmedia_transfer.manager.allowing import Allowing
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import CancelTimer, Item
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.model import Direction, Download
from dmedia_transfer.ports import Library, Stores
from dmedia_transfer.states import Reason, Status

log = logging.getLogger(__name__)

WATCH_S: Final = 1.0  # at most so often the feed is told of other files
SETTLED_S: Final = 2.0  # a download that has run for so long is watched: of thousands of small files, not each


class Sourcing:
    """Keeps running downloads and the feed in line with what is known of sources."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        stores: Stores,
        library: Library,
        allowing: Allowing,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
    ) -> None:
        self._board = board
        self._runs = runs
        self._stores = stores
        self._library = library
        self._allowing = allowing
        self._call_later = call_later
        self._clock = clock
        self._watched: list[str] = []
        self._timer: CancelTimer | None = None
        self._watched_s = float("-inf")
        self._stopped = False

    def stop(self) -> None:
        """Wake up no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer()

    def started(self, item: Item) -> None:
        """A worker has got it."""
        item.started_s = self._clock()
        if item.transfer.key.direction is Direction.DOWNLOAD:
            self._later(SETTLED_S)

    def watch(self) -> None:
        """Be told when the documents change of files that have no source, or that are being fetched."""
        wait_s = self._watched_s + WATCH_S - self._clock()
        if wait_s > 0:
            self._later(wait_s)
        elif self._timer is None:
            self._look()

    def refresh(self, item: Item) -> bool:
        """Have a running download read from what is a source now; False if it may read from nothing at all."""
        live = self._runs.of(item.transfer.key)
        if live is None or not isinstance(live.job, Download) or item.known is None:
            return True
        if item.transfer.status is not Status.ONGOING or live.job.key.direction is not Direction.DOWNLOAD:
            return True
        refuses = self._allowing.refuses(item.transfer, item.known.file.size)
        try:
            sources = planning.sources(item.transfer, item.known, self._stores, live.job.destination, refuses)
        except TransferError as error:
            if error.reason != Reason.NO_SOURCE:
                return False
            log.debug("%s: goes on as it is: %s", item.transfer.key, error)  # the worker finds out
            return True
        size, there = item.known.file.size, {store.store_id: store for store in live.job.sources}
        found = []
        for source in sources:
            now, had = self._allowing.within(item.transfer, size, source), there.get(source.store_id)
            stays = had is not None and self._allowing.within(item.transfer, size, had) == had
            found.append(had if had is not None and stays and not planning.has_moved(had, now) else now)
        sources = tuple(found)
        if sources != live.job.sources:
            log.info("%s: is fetched from %s now", item.transfer.key, ", ".join(one.store_id for one in sources))
            self._runs.use_sources(item.transfer.key, sources)
        return True

    def refresh_all(self) -> None:
        """A store has changed: look at all downloads that run."""
        for live in self._runs:
            item = self._board.get(live.job.key)
            if item is not None:
                self.refresh(item)

    def _later(self, seconds: float) -> None:
        if self._timer is None and not self._stopped:
            self._timer = self._call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        self._watched_s = now_s = self._clock()
        wanted = {item.transfer.key.file_id for item in self._board if item.transfer.reason is Reason.NO_SOURCE}
        young = False
        for live in self._runs:
            item = self._board.get(live.job.key)
            if item is None or live.job.key.direction is not Direction.DOWNLOAD:
                continue
            if now_s - item.started_s >= SETTLED_S:
                wanted.add(live.job.key.file_id)
            else:
                young = True
        if sorted(wanted) != self._watched and not self._stopped:
            self._watched = sorted(wanted)
            self._library.watch(self._watched)
        if young:
            self._later(SETTLED_S)
