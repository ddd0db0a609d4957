"""What runs next: order, priority, limits, preemption.

Transfers that are ready wait in one heap per store, so that picking the next one costs the same with ten entries as
with ten thousand, also when one store's limit holds most of them back. Heap entries are withdrawn lazily: a
transfer's current rank is in `_ranks`, and an entry with another one is stale.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dmedia_transfer.model import PRIORITY_NOW, TransferKey

S = TypeVar("S")  # what a slot is known by
_Rank = tuple[int, float]  # minus the priority, then the place among equals: the smallest runs first


@dataclass(frozen=True, slots=True)
class Running:
    """A transfer that occupies a slot, or several small ones that share it."""

    store_id: str  # the store whose limit it counts against
    priority: int
    leaving: bool = False  # it was asked to let go: its slot is about to be free
    spare: bool = False  # some of those that share it may not be begun, and can be given back
    yielding: bool = False  # they were asked for: it is free when what was begun has ended


class Scheduler:
    """The transfers that are ready, and the limits."""

    def __init__(self, *, max_transfers: int, max_transfers_per_store: int) -> None:
        self.max_transfers = max_transfers
        self.max_transfers_per_store = max_transfers_per_store
        self._heaps: dict[str, list[tuple[_Rank, TransferKey]]] = {}
        self._ranks: dict[TransferKey, tuple[str, _Rank]] = {}

    def ready(self, key: TransferKey, *, store_id: str, priority: int, order: float) -> None:
        """The transfer could start now; called again when its priority, order or store changed."""
        place = (store_id, (-priority, order))
        if self._ranks.get(key) != place:
            self._ranks[key] = place
            heapq.heappush(self._heaps.setdefault(store_id, []), (place[1], key))

    def withdraw(self, key: TransferKey) -> None:
        """The transfer is not ready any more."""
        self._ranks.pop(key, None)

    def __contains__(self, key: TransferKey) -> bool:
        return key in self._ranks

    def __len__(self) -> int:
        return len(self._ranks)

    def next(self, running: Mapping[S, Running]) -> TransferKey | None:
        """The transfer that should start now, if a slot is free and its store has room. It is not ready any more."""
        if len(running) >= self.max_transfers:
            return None
        key = self._first(running)
        if key is not None:
            self.withdraw(key)
        return key

    def first(self, count: int) -> list[TransferKey]:
        """The best `count` of those that are ready, limits aside."""
        best = heapq.nsmallest(count, ((rank, key) for key, (_, rank) in self._ranks.items()))
        return [key for _, key in best]

    def following(self, store_ids: Iterable[str], priority: int) -> TransferKey | None:
        """The best of those that wait for these stores, if it is of this priority; it is still ready."""
        best = min((heap[0] for store_id in store_ids if (heap := self._fresh(store_id))), default=None)
        return best[1] if best is not None and best[0][0] == -priority else None

    def has_room(self, store_id: str, running: Mapping[S, Running]) -> bool:
        """Whether one more from or to this store is within its limit."""
        return sum(1 for one in running.values() if one.store_id == store_id) < self.max_transfers_per_store

    def victim(self, running: Mapping[S, Running]) -> S | None:
        """The slot that should be given up: to one of priority "now" that waits in vain, or to a new limit."""
        staying = [(one.priority, key) for key, one in running.items() if not one.leaving]
        if len(staying) < self.max_transfers:
            return None
        priority, key = min(reversed(staying), key=lambda one: one[0])  # among equals the one that began last
        if len(staying) > self.max_transfers:  # the limit was lowered
            return key
        first = self._first({})
        if first is None or -self._ranks[first][1][0] < PRIORITY_NOW:
            return None
        return key if priority < PRIORITY_NOW else None

    def outranked(self, running: Mapping[S, Running]) -> S | None:
        """The slot that should give back what is not begun of it, as something of a higher priority waits in vain.

        One at a time: when it is free there may be nothing any more that waits.
        """
        first = self._first({})
        if (
            first is None
            or len(running) < self.max_transfers
            or any(one.leaving or one.yielding for one in running.values())
        ):
            return None
        priority = -self._ranks[first][1][0]
        lower = [(one.priority, slot) for slot, one in running.items() if one.spare and one.priority < priority]
        return min(reversed(lower), key=lambda one: one[0])[1] if lower else None

    def _first(self, running: Mapping[S, Running]) -> TransferKey | None:
        """The best of those whose store has room."""
        used = Counter(one.store_id for one in running.values())
        best: tuple[_Rank, TransferKey] | None = None
        for store_id in list(self._heaps):
            heap = self._fresh(store_id)
            if heap and used[store_id] < self.max_transfers_per_store and (best is None or heap[0] < best):
                best = heap[0]
        return best[1] if best else None

    def _fresh(self, store_id: str) -> list[tuple[_Rank, TransferKey]]:
        """The heap of a store, with one on top that is ready; empty if none is."""
        heap = self._heaps.get(store_id, [])
        while heap and self._ranks.get(heap[0][1]) != (store_id, heap[0][0]):
            heapq.heappop(heap)
        if not heap:
            self._heaps.pop(store_id, None)
        return heap
