"""How much is moved at once: little where a limit makes us wait, so that a limited line moves evenly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from dmedia_transfer.ports import Meter

MAX_PIECE_BYTES: Final = 1024 * 1024
MIN_PIECE_BYTES: Final = 16 * 1024  # below it the calls cost more than the bytes
FIRST_PIECE_BYTES: Final = 64 * 1024  # a limit that is there from the start is noticed before a megabyte has moved
WAIT_S: Final = 0.1  # so long a piece should take where the meter waits


class Pace:
    """The size of the next piece, found from how long the meter made us wait for the last ones.

    A meter waits so that a limit holds on average; how large the pieces are is what it cannot know. One for each
    direction of a store: its connections share the limit. Any thread may call; who comes between another two
    only guesses worse for one piece.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.piece_bytes = FIRST_PIECE_BYTES
        self._clock = clock

    def moved(self, count: int, meter: Meter) -> None:
        """Tell the meter of bytes that moved, and wait as it wants."""
        begun_s = self._clock()
        meter(count)
        waited_s = self._clock() - begun_s
        if waited_s > WAIT_S:
            self.piece_bytes = max(MIN_PIECE_BYTES, int(count * WAIT_S / waited_s))
        elif waited_s < WAIT_S / 2:
            self.piece_bytes = min(MAX_PIECE_BYTES, self.piece_bytes * 2)
