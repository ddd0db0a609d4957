"""Rechecking: when those that wait for a store, a source or room are looked at again.

At once when somebody says that stores have changed. Otherwise, while something waits, the FileStores themselves are
looked at every few seconds, which are a handful of system calls, and only if one came, went or has more room are those
that wait planned anew; without a cause all of them rarely, in case that what has changed is nothing that can be seen.
Ten thousand of them are gone through in slices, so that the main loop is never held up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import CancelTimer, Item
from dmedia_transfer.model import TransferKey
from dmedia_transfer.ports import Stores
from dmedia_transfer.states import Reason

LOOK_S: Final = 5.0  # how often the FileStores are looked at while something waits
ALL_S: Final = 30.0  # how often all that wait are planned anew without a cause
SLICE: Final = 200  # so many at a time: some milliseconds
WAITING: Final = frozenset({Reason.DISK_FULL, Reason.STORE_MISSING, Reason.NO_SOURCE})


class Rechecking:
    """Looks again at what waits. Nothing wakes up while nothing waits."""

    def __init__(
        self,
        *,
        board: Board,
        stores: Stores,
        look: Callable[[Item], None],
        after: Callable[[], None],
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
    ) -> None:
        """Nothing waits at first.

        Args:
            board: All transfers.
            stores: Says which FileStores are there, and how much room they have.
            look: Sees whether one transfer can go on; may call `soon`.
            after: Called when some have been looked at.
            call_later: Calls something later, on the manager's thread.
            clock: Monotonic seconds.
        """
        self._board = board
        self._stores = stores
        self._look = look
        self._after = after
        self._call_later = call_later
        self._clock = clock
        self._there: frozenset[str] = frozenset()  # the FileStores, when they were looked at
        self._room = 0  # the most bytes that one of them could take then
        self._all_s = 0.0  # when all were looked at
        self._fresh: dict[TransferKey, None] = {}  # wait since the last look: what they wait for may be over already
        self._todo: dict[TransferKey, None] = {}
        self._timer: CancelTimer | None = None
        self._slice: CancelTimer | None = None
        self._looking = False
        self._stopped = False

    def stop(self) -> None:
        """Wake up no more."""
        self._stopped = True
        for timer in (self._timer, self._slice):
            if timer is not None:
                timer()

    def soon(self, key: TransferKey) -> None:
        """This one waits from now on."""
        if not self._looking:
            self._fresh[key] = None
        if self._timer is None and not self._stopped:
            if not self._looking:
                self._there, self._room = self._stores.room()
                self._all_s = self._clock()
            self._timer = self._call_later(LOOK_S, self._tick)

    def look(self) -> None:
        """A file system came or went: see at once whether it has one of the FileStores; nothing, if nothing waits."""
        if self._timer is not None:
            self._timer()
            self._tick()

    def all(self) -> None:
        """Look at all that wait: something has changed that may matter to any of them."""
        self._all_s = self._clock()
        self._begin(item.transfer.key for item in self._board if item.transfer.reason is not None)

    def _tick(self) -> None:
        self._timer = None
        waiting = [item for item in self._board if item.transfer.reason in WAITING]
        if not waiting:
            self._fresh.clear()
            return
        self._timer = self._call_later(LOOK_S, self._tick)
        there, room = self._stores.room()
        came_or_went, more_room = there != self._there, room > self._room
        self._there, self._room = there, room
        if came_or_went or self._clock() - self._all_s >= ALL_S:
            self._fresh.clear()
            self.all()
            return
        fresh, self._fresh = self._fresh, {}
        self._begin(
            item.transfer.key
            for item in waiting
            if item.transfer.key in fresh
            or (more_room and item.transfer.reason is Reason.DISK_FULL and _missing_bytes(item) <= room)
        )

    def _begin(self, keys: Iterable[TransferKey]) -> None:
        self._todo.update(dict.fromkeys(keys))
        if self._slice is None:
            self._go_on()

    def _go_on(self) -> None:
        self._slice = None
        for key in list(islice(self._todo, SLICE)):
            del self._todo[key]
            item = self._board.get(key)
            if item is not None:
                self._looking = True
                try:
                    self._look(item)
                finally:
                    self._looking = False
        if self._todo and not self._stopped:
            self._slice = self._call_later(0, self._go_on)
        self._after()


def _missing_bytes(item: Item) -> int:
    """The least that it still needs room for."""
    return item.transfer.progress.bytes_total - item.transfer.progress.bytes_done
