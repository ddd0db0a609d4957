"""Time that passes when a test says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class FakeClock:
    """A clock to inject."""

    now: float = 0.0  # seconds

    def __call__(self) -> float:
        return self.now


class FakeLoop:
    """A main loop with a clock of its own: calls wait until `run` reaches their time."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wakes = 0  # calls made so far
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function` once; the result takes that back."""
        assert delay_s >= 0
        number = next(self._numbers)
        heapq.heappush(self._calls, (self.clock.now + delay_s, number, function))
        return lambda: self._cancelled.add(number)

    @property
    def waiting(self) -> int:
        """How many calls are to come."""
        return sum(number not in self._cancelled for _, number, _ in self._calls)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.clock.now + seconds
        while self._calls and self._calls[0][0] <= end:
            time, number, function = heapq.heappop(self._calls)
            if number not in self._cancelled:
                self.clock.now = max(time, self.clock.now)
                self.wakes += 1
                function()
        self.clock.now = end
