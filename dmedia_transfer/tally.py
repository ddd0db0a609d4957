"""How far one job is: bytes done and in flight, never going back and never beyond the total."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable


class Tally:
    """Counts the bytes of one run, from several threads.

    A piece is a leaf or a part, known by a number. What is in flight counts as done until the piece is dropped; of a
    piece that comes from two stores at once, what the faster one has sent. What listeners were told of stays told, and
    only bytes beyond it show again.
    """

    def __init__(self, total_bytes: int | None, listener: Callable[[Tally], None] | None = None) -> None:
        """`total_bytes` is None where the end is not known; `listener` is called after each change, from any thread."""
        self._total = total_bytes
        self._listener = listener
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}
        self._done_bytes = 0
        self._in_flight: dict[int, dict[str, int]] = {}  # by piece and store
        self._in_flight_bytes = 0
        self._shown = 0
        self._sent = 0
        self._stores: Counter[str] = Counter()
        self._wrong: set[int] = set()

    @property
    def bytes_done(self) -> int:
        """Verified or confirmed, and in flight."""
        with self._lock:
            now = self._done_bytes + self._in_flight_bytes
            self._shown = max(self._shown, now if self._total is None else min(now, self._total))
            return self._shown

    @property
    def pieces_done(self) -> int:
        """Leaves written, or parts confirmed."""
        with self._lock:
            return len(self._done)

    @property
    def sent_bytes(self) -> int:
        """All payload that crossed the wire in this run, also what was cut or thrown away."""
        with self._lock:
            return self._sent

    @property
    def stores(self) -> tuple[tuple[str, int], ...]:
        """Bytes that each store sent in this run."""
        with self._lock:
            return tuple(sorted(self._stores.items()))

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The pieces that are on their way."""
        with self._lock:
            return tuple(sorted(self._in_flight))

    @property
    def wrong(self) -> tuple[int, ...]:
        """The pieces that came, were not what they should be, and have not come as they should since."""
        with self._lock:
            return tuple(sorted(self._wrong))

    def moved(self, piece: int, count: int, store_id: str = "", *, wire: bool = True) -> None:
        """`count` more bytes of a piece came or went; over the wire, or from a disk to another."""
        with self._lock:
            stores = self._in_flight.setdefault(piece, {})
            before = max(stores.values(), default=0)
            stores[store_id] = stores.get(store_id, 0) + count
            self._in_flight_bytes += max(before, stores[store_id]) - before
            self._sent += count if wire else 0
            if store_id:
                self._stores[store_id] += count
        self.tell()

    def dropped(self, piece: int, store_id: str | None = None) -> None:
        """What was in flight of a piece counts no more: it was cut, or is wrong. From one store, or from all."""
        with self._lock:
            stores = self._in_flight.get(piece, {})
            before = max(stores.values(), default=0)
            if store_id is None:
                stores.clear()
            else:
                stores.pop(store_id, None)
            self._in_flight_bytes -= before - max(stores.values(), default=0)
            if not stores:
                self._in_flight.pop(piece, None)

    def differs(self, piece: int) -> None:
        """A piece came, and is not what it should be."""
        with self._lock:
            self._wrong.add(piece)

    def done(self, piece: int, size: int) -> None:
        """A piece of `size` bytes is where it should be; saying so twice changes nothing."""
        with self._lock:
            self._in_flight_bytes -= max(self._in_flight.pop(piece, {}).values(), default=0)
            self._done_bytes += size - self._done.get(piece, 0)
            self._done[piece] = size
            self._wrong.discard(piece)
        self.tell()

    def undone(self) -> None:
        """Nothing is done any more: the work begins anew. What was shown is not taken back."""
        with self._lock:
            self._done.clear()
            self._done_bytes = 0

    def tell(self) -> None:
        """Call the listener, though nothing may have changed: it may not have looked when something did."""
        if self._listener is not None:
            self._listener(self)
