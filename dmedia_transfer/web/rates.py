"""Rates: how fast it went in the last minutes, of all together and of each transfer; for graphs. One thread.

They are made of the bytes that were done, and not of the smoothed rates that are told: a graph shows what happened.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dmedia_transfer.model import Direction, Transfer, TransferKey

INTERVAL_S: Final = 1.0
KEPT: Final = 600  # samples: ten minutes


class RateSample(NamedTuple):
    """At one moment."""

    time: float  # Unix seconds
    download: float  # bytes per second
    upload: float


class RateHistory:
    """The samples."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._done: dict[TransferKey, int] = {}  # bytes, at the last sample
        self._sampled_s: float | None = None
        self._all: deque[RateSample] = deque(maxlen=KEPT)
        self._each: dict[TransferKey, deque[RateSample]] = {}

    def sample(self, moving: Iterable[Transfer]) -> None:
        """Take note of how far those are that a worker has."""
        now_s, wall = self._clock(), round(self._wall(), 3)
        passed_s = now_s - self._sampled_s if self._sampled_s is not None else None
        self._sampled_s = now_s
        totals = dict.fromkeys(Direction, 0.0)
        done = {one.key: one.progress.bytes_done for one in moving}
        for key, bytes_done in done.items():
            before = self._done.get(key)
            rate = max(0, bytes_done - before) / passed_s if passed_s and before is not None else 0.0
            totals[key.direction] += rate
            own = self._each.setdefault(key, deque(maxlen=KEPT))
            own.append(_sample(wall, key.direction, rate))
        self._done = done
        self._all.append(RateSample(wall, totals[Direction.DOWNLOAD], totals[Direction.UPLOAD]))

    def pause(self) -> None:
        """Nothing moves any more: the next sample does not measure from the last one."""
        if self._sampled_s is not None:
            self._all.append(RateSample(round(self._wall(), 3), 0.0, 0.0))
        self._done.clear()
        self._sampled_s = None

    def forget(self, key: TransferKey) -> None:
        """The transfer is gone."""
        self._each.pop(key, None)

    def all(self) -> list[RateSample]:
        """Of all transfers together."""
        return list(self._all)

    def of(self, key: TransferKey) -> list[RateSample]:
        """Of one transfer."""
        return list(self._each.get(key, ()))


def _sample(wall: float, direction: Direction, rate: float) -> RateSample:
    return RateSample(wall, rate, 0.0) if direction is Direction.DOWNLOAD else RateSample(wall, 0.0, rate)
