"""Joining: from when on the dearer sources help.

The sources of the lowest cost fetch all they can from the start, each on connections of its own. Those of the next
cost join when the cheaper ones have had a few seconds and still move less than `ENOUGH_BPS` together, or when there is
no cheaper one left. They leave when the cheaper ones move enough by themselves again; and for a minute, when it turns
out that all together are no faster than the cheaper ones were before, as then it is the line that is slow and not the
sources. Time for which our own bandwidth limit holds connections up is no slowness of theirs, either.

Why a rate, and not simply all at once: what is dearer costs money (a bucket's egress) or somebody's data volume, and a
person who waits notices the difference between 1 and 8 MiB/s, and hardly one beyond.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

from dmedia_transfer.download.source import Standing
from dmedia_transfer.model import TransferKey

log = logging.getLogger(__name__)

ENOUGH_BPS: Final = 8 * 1024 * 1024  # a leaf each second
GRACE_S: Final = 3.0  # for the cheaper ones to get going
TRIAL_S: Final = 8.0  # for the dearer ones to show that they help
HELPS: Final = 1.1  # times as fast as without
AWAY_S: Final = 60.0  # after a trial that showed nothing
HELD: Final = 0.25  # of the connections wait for our own limit: they could be faster


class _Trial:
    """The dearer sources of one cost, since they have joined."""

    def __init__(self) -> None:
        self.joined_s: float | None = None
        self.before_bps = 0.0
        self.passed = False
        self.away_until_s = 0.0


class Joining:
    """Which sources may be asked. Guarded by the board's lock."""

    def __init__(self, key: TransferKey, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock
        self._trials: dict[int, _Trial] = {}  # by cost

    def allowed(self, up: Collection[Standing]) -> list[Standing]:
        """Those of the sources that work which may be asked now."""
        costs = sorted({standing.source.cost for standing in up})
        if len(costs) <= 1:
            return list(up)
        joined: list[Standing] = []
        for cost in costs:
            if joined and not self._joins(cost, joined, up):
                break
            joined += [standing for standing in up if standing.source.cost == cost]
        return joined

    def _joins(self, cost: int, cheaper: Collection[Standing], up: Collection[Standing]) -> bool:
        trial = self._trials.setdefault(cost, _Trial())
        now_s = self._clock()
        rate = sum(standing.rate for standing in cheaper)
        if not self._are_slow(cheaper, rate, now_s):
            trial.joined_s, trial.passed = None, False
            return False
        if now_s < trial.away_until_s:
            return False
        if trial.joined_s is None:
            trial.joined_s, trial.before_bps = now_s, rate
            log.info("%s: sources of cost %s join: the cheaper ones move %.0f B/s", self._key, cost, rate)
        elif not trial.passed and now_s - trial.joined_s >= TRIAL_S:
            together = sum(standing.rate for standing in up if standing.source.cost <= cost)
            if together < trial.before_bps * HELPS:
                log.info("%s: sources of cost %s leave: they do not make it faster", self._key, cost)
                trial.joined_s, trial.away_until_s = None, now_s + AWAY_S
                return False
            trial.passed = True
        return True

    def _are_slow(self, cheaper: Collection[Standing], rate: float, now_s: float) -> bool:
        begun = [standing.first_s for standing in cheaper if standing.first_s is not None]
        if not begun or now_s - min(begun) < GRACE_S or rate >= ENOUGH_BPS:
            return False
        connections = sum(standing.connections for standing in cheaper)
        return sum(standing.held for standing in cheaper) < HELD * max(1, connections)
