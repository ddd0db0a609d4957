"""Gathering: small files that are given to a worker together, as what a file costs is mostly not its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import Item
from dmedia_transfer.manager.runs import primary_store
from dmedia_transfer.manager.settings import Settings
from dmedia_transfer.model import Download, Job, Upload
from dmedia_transfer.ports import Survey
from dmedia_transfer.scheduler import Scheduler

PASSED_OVER: Final = 16  # that are of another store, while such as are not are looked for behind them


class Gathering:
    """Finds what goes with a small file that is about to start."""

    def __init__(
        self,
        *,
        board: Board,
        scheduler: Scheduler,
        prepare: Callable[[Item, Survey], Download | Upload | None],
        ready: Callable[[Item, str], None],
    ) -> None:
        """Nothing is gathered yet.

        Args:
            board: All transfers.
            scheduler: Whose turn it is.
            prepare: What a worker has to do for one, with these stores; None if that is nothing, or cannot be done now.
            ready: Gives one back to the scheduler, for a store.
        """
        self._board = board
        self._scheduler = scheduler
        self._prepare = prepare
        self._ready = ready

    def with_it(
        self, first: Item, job: Job, waited_for: str, settings: Settings, stores: Survey
    ) -> list[tuple[Item, Job]]:
        """The small files whose turn is next, of the same priority, direction and store; none for a large one.

        Args:
            first: The one that is about to start.
            job: What is to be done for it.
            waited_for: The store that the scheduler had it under; empty if any would do.
            settings: How many there may be.
            stores: Where they go, and come from.
        """
        found: list[tuple[Item, Job]] = []
        passed: list[tuple[Item, str]] = []
        store_id = primary_store(job)
        waiting = {waited_for, store_id}  # some are known to be for a store only once they were looked at
        size = _size(first)
        room = settings.together_bytes - size
        while size and len(found) + 1 < settings.together_files and len(passed) < PASSED_OVER:
            key = self._scheduler.following(waiting, first.transfer.priority)
            item = None if key is None else self._board.item(key)
            size = 0 if item is None else _size(item)
            if item is None or not 0 < size <= room:
                break
            self._scheduler.withdraw(item.transfer.key)
            other = self._prepare(item, stores)
            if other is None:
                continue
            if type(other) is type(job) and primary_store(other) == store_id:
                found.append((item, other))
                room -= size
            else:
                passed.append((item, primary_store(other)))
        for item, its_store in passed:
            self._ready(item, its_store)
        return found


def _size(item: Item) -> int:
    """The bytes of a file that a worker may be given together with others; 0 if it is to have one for itself."""
    size = item.known.file.size if item.known is not None else 0
    return 0 if item.alone or size > leaves.LEAF_BYTES else size
