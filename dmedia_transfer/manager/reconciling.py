"""Reconciling: from what is wanted to what is.

Compares the queue in force with the transfers and takes the next step of each; doing so twice changes nothing, so it
does not matter how often, or because of what, it is called.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.endings import Endings
from dmedia_transfer.manager.item import Item
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.manager.settling import Settling
from dmedia_transfer.manager.starting import LOOK_AHEAD, Starting
from dmedia_transfer.manager.wanted import Wanted
from dmedia_transfer.model import Entry, TransferKey
from dmedia_transfer.ports import Ledger
from dmedia_transfer.states import Event, Status

log = logging.getLogger(__name__)

_PAUSED: Final = frozenset({Status.PAUSED, Status.PAUSING})


class Reconciling:
    """Brings the transfers in line with the queue."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        wanted: Wanted,
        settling: Settling,
        starting: Starting,
        endings: Endings,
        ledger: Ledger,
    ) -> None:
        self._board = board
        self._runs = runs
        self._wanted = wanted
        self._settling = settling
        self._starting = starting
        self._endings = endings
        self._ledger = ledger

    def all(self, concerned: Iterable[TransferKey] = ()) -> None:
        """The whole queue may have changed; `concerned` are transfers that may have left it.

        Most of a long queue has not: a pass over all of it looks at each transfer no longer than it takes to see that.
        """
        keys = self._wanted.in_order()
        for key in self._board.put_in_order(keys):
            self._starting.offer(self._board.item(key))
        self.these([*keys, *concerned, *self._board.keys()])
        self._board.tell_summary()

    def these(self, keys: Iterable[TransferKey]) -> None:
        """What is wanted of these transfers, or the pause of the whole queue, may have changed."""
        different = [key for key in dict.fromkeys(keys) if not self._is_so(key)]
        asked = [entry.id for key in different if self._unseen(key) for entry in self._wanted.entries(key) if entry.id]
        gone = self._ledger.gone_among(asked)
        for key in different:
            self._one(key, gone)
        if len(self._board) <= LOOK_AHEAD:
            self._starting.ask(self._board)
        self._hold_or_let_go()
        self._starting.pump()

    def _is_so(self, key: TransferKey) -> bool:
        """Whether a transfer is as it is wanted: nearly all of a long queue are."""
        item = self._board.get(key)
        return item is not None and item.entries == self._wanted.entries(key) and _is_granted(item)

    def _unseen(self, key: TransferKey) -> list[Entry]:
        """The entries for a transfer that are new to it."""
        item = self._board.get(key)
        seen = item.identities if item is not None else ()
        return [entry for entry in self._wanted.entries(key) if entry.identity not in seen]

    def _one(self, key: TransferKey, gone: Container[str]) -> None:
        item = self._board.get(key)
        entries = self._without_gone(key, gone)
        new = any(entry in entries for entry in self._unseen(key))
        if item is not None and item.transfer.status in (Status.DONE, Status.CANCELLED):
            if not new:
                return  # its entries are on their way out of the queue
            self._board.drop(item)
            item = None
        if not entries:
            if item is not None:
                self._endings.cancelled(item)
                self._starting.offer(item)
            return
        if item is None:
            item = self._add(key, entries)
        else:
            self._board.change(item, **_wishes(entries))
            if new and item.transfer.status is Status.FAILED:
                self._endings.retried(item)
        item.entries = entries
        self._grant(item)

    def _without_gone(self, key: TransferKey, gone: Container[str]) -> tuple[Entry, ...]:
        """Leave out what ended here before and has come back with an old revision; it leaves the queue again."""
        entries = self._wanted.entries(key)
        back = [entry.id for entry in entries if entry.id in gone]
        if not back:
            return entries
        log.info("%s: ended before, its entry came back: %s", key, ", ".join(sorted(back)))
        self._settling.removed(back)
        return tuple(entry for entry in entries if entry.id not in back)

    def _add(self, key: TransferKey, entries: tuple[Entry, ...]) -> Item:
        failure = self._endings.failure_of(entries)
        status = Status.QUEUED if failure is None else Status.FAILED
        log.info("%s: wanted", key)
        return self._board.add(key, entries, status=status, failure=failure, **_wishes(entries))

    def _grant(self, item: Item) -> None:
        """Bring a transfer in line with what its entries ask for."""
        key, status = item.transfer.key, item.transfer.status
        self._runs.reprioritize(key, item.transfer.priority)
        paused = all(entry.paused for entry in item.entries)
        if paused and status not in _PAUSED:
            item.stay_asleep()
            self._board.event(item, Event.PAUSE)
            if item.transfer.status is Status.PAUSING:
                self._runs.drain(key, self._starting.settings.pause_grace_s)
        elif not paused and status in _PAUSED:
            self._board.event(item, Event.RESUME)
            if status is Status.PAUSING:
                self._runs.carry_on(key)
                item.held = False
        self._starting.offer(item)

    def _hold_or_let_go(self) -> None:
        """Bring the workers in line with whether the whole queue is held."""
        for live in self._runs:
            item = self._board.get(live.job.key)
            if item is None or item.transfer.status is not Status.ONGOING or item.held == self._wanted.paused:
                continue
            item.held = self._wanted.paused
            if item.held:
                self._runs.drain(live.job.key, self._starting.settings.pause_grace_s)
            else:
                self._runs.carry_on(live.job.key)


def _is_granted(item: Item) -> bool:
    """Whether a transfer is as the entries that it was last brought in line with want it."""
    paused = item.transfer.status in _PAUSED
    return bool(item.entries) and paused == all(entry.paused for entry in item.entries)


def _wishes(entries: Sequence[Entry]) -> dict[str, Any]:
    """What several entries for one transfer ask for together."""
    first = max(entries, key=lambda entry: (entry.priority, bool(entry.store_id)))
    return {
        "priority": first.priority,
        "preferred_store": first.store_id,
        "only": first.only,
        "metered": any(entry.metered for entry in entries),
        "requested_by": first.requested_by,
        "time": min(entry.time for entry in entries),
    }
