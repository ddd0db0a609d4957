"""Growth: how many connections one job should have now, found by trying.

It starts with few, as two or three fill most lines, and more of them only cost: memory, turns between threads, a
server's patience. It tries one more each time that it knows how fast it is; what does not make it `WORTH` as fast is
taken back, and tried again later, after a longer and longer time. When the server says that it is too much
(`SlowDown`, 503, 429), half of them go at once, and no more are tried for a while.

It is told what moved and when, and reads no clock. Our own bandwidth limit is no reason for more: while it holds us up
nothing is learned. What is in flight beyond the number just finishes.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024
FIRST: Final = 3
LOOK_S: Final = 1.0  # a rate is measured for so long ...
LOOK_BYTES: Final = 16 * MIB  # ... or until so much has moved for each connection
LEAST_LOOK_S: Final = 0.05  # what is shorter is noise
WORTH: Final = 1.03  # times as fast as before; what is measured while others use the line, too, is not more exact
FIRST_REST_S: Final = 8.0  # until a number that brought nothing is tried again
LAST_REST_S: Final = 120.0
BUSY_REST_S: Final = 30.0  # after the server said that it is too much
ONE_WORD_S: Final = 1.0  # refusals that come so close together are one


class Growth:
    """The number for one job. Not thread-safe."""

    def __init__(self, most: int, *, first: int = FIRST) -> None:
        """`most` is what the user allows."""
        self._most = most
        self._now = min(first, most)
        self._since_s: float | None = None  # when measuring began
        self._last_s = 0.0  # when something moved last
        self._bytes = 0
        self._settling = False  # one more was taken just now, and is not measured before it had time to get going
        self._before: float | None = None  # bytes per second with one less, while one more is tried
        self._quiet_until_s = 0.0
        self._rest_s = FIRST_REST_S
        self._refused_s: float | None = None

    @property
    def connections(self) -> int:
        """As many as there should be."""
        return self._now

    def allow(self, most: int) -> None:
        """The user allows so many from now on; who allows more than before wants to see them."""
        before, self._most = self._most, most
        if self._now > most or most > before:
            self._become(most)

    def held(self) -> None:
        """Our own limit holds us up."""
        self._since_s = None

    def moved(self, count: int, now_s: float) -> None:
        """So many bytes came or went by now, in monotonic seconds."""
        idle_s, self._last_s = now_s - self._last_s, now_s
        if self._since_s is None or idle_s > LOOK_S:
            self._measure_from(now_s)
            return
        self._bytes += count
        spent_s = now_s - self._since_s
        if spent_s < LEAST_LOOK_S or (spent_s < LOOK_S and self._bytes < LOOK_BYTES * self._now):
            return
        rate, settling = self._bytes / spent_s, self._settling
        self._measure_from(now_s)
        if not settling:
            self._decide(rate, now_s)

    def refused(self, now_s: float) -> bool:
        """The server asks for less; whether fewer connections are an answer to that."""
        if self._refused_s is not None and now_s - self._refused_s < ONE_WORD_S:
            return True
        if self._now == 1:
            return False
        self._refused_s = now_s
        self._quiet_until_s = max(self._quiet_until_s, now_s + BUSY_REST_S)
        self._become(self._now // 2)
        return True

    def _decide(self, rate: float, now_s: float) -> None:
        before, self._before = self._before, None
        if before is not None and rate < before * WORTH:
            self._now -= 1
            self._quiet_until_s = now_s + self._rest_s
            self._rest_s = min(LAST_REST_S, self._rest_s * 2)
            return
        if before is not None:
            self._rest_s = FIRST_REST_S
        if self._now < self._most and now_s >= self._quiet_until_s:
            self._now += 1
            self._before = rate
            self._settling = True  # after `_measure_from`: the window that begins now does not count

    def _become(self, connections: int) -> None:
        self._now = connections
        self._before = None
        self._since_s = None

    def _measure_from(self, now_s: float) -> None:
        self._since_s, self._bytes, self._settling = now_s, 0, False
