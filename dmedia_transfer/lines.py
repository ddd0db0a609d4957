"""Lines: how many pieces of one job may be worked on at once, and how many of those have a connection.

A piece that was received needs no connection any more: while it is hashed and written, the next one is on its way. So
there are a few pieces, and threads, more than connections; what limits them is memory, a leaf for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from dmedia_transfer.growth import Growth

MOST_CONNECTIONS: Final = 32
MOST_TOGETHER: Final = 12  # of several stores, unless one alone has more: each takes a leaf of memory
SPARE: Final = 3  # pieces that have left their connection, beside those that are on one ...
MOST_WITH_SPARE: Final = 8  # ... as long as they are no more than so many together


class Lines:
    """The numbers for one job. Any thread may ask and tell."""

    def __init__(self, connections: int, *, grows: bool, clock: Callable[[], float]) -> None:
        """See `Crew`."""
        self._connections = connections
        self._growth = Growth(connections) if grows else None
        self._growing = threading.Lock()
        self._clock = clock
        self._stores = 1
        self.most = MOST_CONNECTIONS  # more than so many are of no use for this job

    @property
    def connections(self) -> int:
        """How many pieces have a connection at once."""
        return min(self.each, self.most) if self._stores == 1 else min(self.together, self.most)

    @property
    def pieces(self) -> int:
        """How many pieces are worked on at once."""
        return min(_with_spare(self.connections), self.most)

    @property
    def each(self) -> int:
        """How many connections there may be to one store."""
        return self._connections if self._growth is None else self._growth.connections

    @property
    def together(self) -> int:
        """How many connections there may be to all stores."""
        return self._with_all(self.each)

    @property
    def room(self) -> int:
        """How many pieces there may ever be at once: so many are worth keeping memory for."""
        return _with_spare(self._with_all(self._connections))

    def spread(self, stores: int) -> None:
        """So many stores have connections of their own from now on."""
        self._stores = max(1, stores)

    def connect(self, connections: int) -> None:
        """There may be so many to one store from now on."""
        self._connections = connections
        if self._growth is not None:
            with self._growing:
                self._growth.allow(connections)

    def moved(self, count: int) -> bool:
        """So many bytes crossed the wire; whether there may be more or fewer connections now."""
        if self._growth is None:
            return False
        with self._growing:
            before = self._growth.connections
            self._growth.moved(count, self._clock())
            return self._growth.connections != before

    def held(self) -> None:
        """Our own bandwidth limit holds us up."""
        if self._growth is not None:
            with self._growing:
                self._growth.held()

    def refused(self) -> int | None:
        """The one store asks for less: how many connections are left; None if fewer are no answer to that."""
        if self._growth is None or self._stores > 1:
            return None
        with self._growing:
            return self._growth.connections if self._growth.refused(self._clock()) else None

    def _with_all(self, each: int) -> int:
        return max(each, min(each * self._stores, MOST_TOGETHER))


def _with_spare(connections: int) -> int:
    return max(connections, min(connections + SPARE, MOST_WITH_SPARE))
