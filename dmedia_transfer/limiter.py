"""Bandwidth budget and timetable.

Each worker has a `TokenBucket` for each direction, on which its connections wait. The daemon has the limit of the
whole service; once a second it looks at what each worker did with its share, calls `divide`, and tells each worker
its new one. So a share that one worker leaves over flows to the others.

No I/O; clocks are injected. A bucket may be used from any number of threads, all else is pure.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from datetime import time as wall_time
from typing import Final, Self, TypeVar

from dmedia_transfer.errors import Interrupted, InvalidConfig, shown

BURST_S: Final = 0.2  # what an idle line may save up: long enough to outlast a late wake-up
QUANTUM_S: Final = 0.005  # what one thread is granted before it is the next one's turn
LOOK_S: Final = 0.1  # after this long a waiting thread looks whether the rate was changed
MAX_PIECE_BYTES: Final = 1024 * 1024
MIN_RATE_BPS: Final = 1000.0  # below it servers give up on us
MAX_RATE_BPS: Final = 1e12
HUNGRY: Final = 0.95  # who uses this much of a share would use more
HEADROOM: Final = 1.25  # room to grow for who does not, until the next division
FIRST_SHARE: Final = 0.01  # of a full share, for who moved nothing lately

Key = TypeVar("Key", bound=Hashable)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class TokenBucket:
    """A rate that threads share fairly. The rate may change at any time.

    Those who wait are served in turn, a few milliseconds' bytes at a time, so that large pieces do not crowd out
    smaller ones. A late wake-up is made up for out of what was saved up meanwhile.

    Bytes are accounted for after they moved (`ports.Meter`), so a thread pays by waiting before its next piece; a
    piece should be no larger than `piece_bytes`, or a slow line moves in jerks.
    """

    def __init__(self, rate_bps: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rate_bps: float | None = None
        self._asked = 0.0  # bytes that were ever asked for ...
        self._granted = 0.0  # ... and how far the line has come with them: a place in the queue is a number of bytes
        self._seen_s = clock()
        self.set_rate(rate_bps)

    @property
    def rate_bps(self) -> float | None:
        """Bytes per second; None is no limit."""
        return self._rate_bps

    @property
    def piece_bytes(self) -> int:
        """The most bytes to move between two calls of `take`."""
        rate_bps = self._rate_bps
        return MAX_PIECE_BYTES if rate_bps is None else max(1, min(MAX_PIECE_BYTES, int(rate_bps * BURST_S / 2)))

    def set_rate(self, rate_bps: float | None) -> None:
        """Change the rate from now on, also for those who wait; None is no limit.

        Raises:
            ValueError: A rate that is not a positive number.
        """
        if rate_bps is not None and not 0 < rate_bps < math.inf:
            raise ValueError(f"a rate is a positive number of bytes per second or None, not {rate_bps!r}")
        with self._lock:
            self._refill()
            if self._rate_bps is None:
                self._granted = self._asked  # nothing is owed, and nothing was saved up
            self._rate_bps = rate_bps
            self._refill()

    def take(self, count: int, wait: Callable[[float], bool] = _sleep) -> None:
        """Account for `count` bytes that moved, and wait until the line is free again.

        Args:
            count: Bytes.
            wait: Waits for some seconds and says whether to give up: `threading.Event.wait` of an event to stop.

        Raises:
            Interrupted: `wait` said so. What was not accounted for by then is forgiven.
        """
        for delay_s in self.delays(count):
            if wait(delay_s):
                raise Interrupted("stopped while waiting for the bandwidth limit")

    def delays(self, count: int) -> Iterator[float]:
        """The waits of `take`, in seconds, for callers who wait in a way of their own."""
        left = float(count)
        while left > 0:
            with self._lock:
                if self._rate_bps is None:
                    return
                self._refill()
                quantum = min(left, max(1.0, self._rate_bps * QUANTUM_S))
                self._asked += quantum
                place = self._asked
            left -= quantum
            while (delay_s := self._delay(place)) > 1e-6:
                yield min(delay_s, LOOK_S)

    def _delay(self, place: float) -> float:
        with self._lock:
            if self._rate_bps is None:
                return 0.0
            self._refill()
            return (place - self._granted) / self._rate_bps

    def _refill(self) -> None:
        now_s = self._clock()
        if self._rate_bps is not None:
            granted = self._granted + self._rate_bps * max(0.0, now_s - self._seen_s)
            self._granted = min(granted, self._asked + self._rate_bps * BURST_S)
        self._seen_s = now_s


@dataclass(frozen=True, slots=True)
class Use:
    """What a worker did with its share since the last division."""

    rate_bps: float  # measured, bytes per second
    share_bps: float | None  # what it was allowed; None: no limit


def divide(limit_bps: float | None, uses: Mapping[Key, Use | None]) -> dict[Key, float | None]:
    """The share of each worker: max-min fair, and what one does not use is there for the others.

    A worker that moves less than it may keeps a little more than it moves, and only what it moves is counted; the
    others share the rest equally. So the shares can add up to more than the limit, but what moves does not, but for
    the second in which somebody grows.

    Args:
        limit_bps: For all together, bytes per second; None is no limit.
        uses: What each worker did; None for one that has just begun.
    """
    if limit_bps is None or not uses:
        return dict.fromkeys(uses, None)
    calm = {key: max(0.0, use.rate_bps) for key, use in uses.items() if use is not None and not _hungry(use)}
    left_bps, sharers = limit_bps, len(uses)
    for rate_bps in sorted(calm.values()):
        if rate_bps * sharers >= left_bps:
            break
        left_bps -= rate_bps
        sharers -= 1
    if not sharers:  # nobody needs more: all may grow into what is left
        spare_bps = left_bps / len(uses)
        return {key: max(rate_bps * HEADROOM, rate_bps + spare_bps) for key, rate_bps in calm.items()}
    level_bps = left_bps / sharers
    least_bps = level_bps * FIRST_SHARE
    return {key: min(level_bps, max(calm[key] * HEADROOM, least_bps)) if key in calm else level_bps for key in uses}


def _hungry(use: Use) -> bool:
    return use.share_bps is not None and use.rate_bps >= use.share_bps * HUNGRY


_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kKmMgG]i?)?B)?(?:/s)?", re.ASCII)
_UNITS: Final = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


_SHOWN_UNITS: Final = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1))


def _plain(number: float) -> str:
    """Without an exponent, and without a fraction where there is none."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def parse_rate(text: str, *, setting: str = "rate") -> float | None:
    """Read `5MB/s`, `500 kB/s`, `2 MiB/s` or a plain number of bytes per second; `0`, `off` and nothing are no limit.

    Raises:
        InvalidConfig: Naming `setting` and what was given.
    """
    stripped = text.strip()
    if stripped.lower() in ("", "off"):
        return None
    match = _RATE.fullmatch(stripped)
    if not match:
        hint = "; bits are not understood" if re.search(r"[\dkKmMgG]\s*b", stripped) else ""
        raise InvalidConfig(f"{setting}: {shown(text)} is not a rate like 5MB/s, 500kB/s, 2MiB/s or off{hint}")
    rate_bps = float(match[1]) * _UNITS[(match[2] or "").lower()]
    if rate_bps == 0:
        return None
    if not MIN_RATE_BPS <= rate_bps <= MAX_RATE_BPS:
        raise InvalidConfig(f"{setting}: {shown(text)} is not between 1kB/s and 1000GB/s")
    return rate_bps


@dataclass(frozen=True, slots=True)
class Limit:
    """What a timetable allows for a while."""

    rate_bps: float | None = None  # bytes per second; None is no limit
    stop: bool = False  # no transfers at all

    def __str__(self) -> str:
        """As a timetable has it."""
        if self.stop:
            return "stop"
        if self.rate_bps is None:
            return "off"
        unit, size = next((unit, size) for unit, size in _SHOWN_UNITS if self.rate_bps % size == 0 or size == 1)
        return f"{_plain(self.rate_bps / size)}{unit}B/s"


@dataclass(frozen=True, slots=True)
class Timetable:
    """Limits by the time of day: each holds until the next one's time comes, also over midnight.

    `now` is naive for the system's own time zone, or aware with a real zone (a fixed offset knows nothing of summer
    time). A time that the clock skips comes when it skips; one that it shows twice comes the first time only.
    """

    entries: tuple[tuple[wall_time, Limit], ...] = ()  # in the order of the day

    @classmethod
    def parse(cls, text: str, *, setting: str = "timetable") -> Self:
        """Read `08:00 2MB/s, 18:00 off, 23:00 stop`: `off` is no limit, `stop` is no transfers.

        Raises:
            InvalidConfig: Naming `setting` and the entry.
        """
        entries: dict[wall_time, Limit] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)\s+(\S.*)", entry, re.ASCII)
            if not match:
                raise InvalidConfig(f"{setting}: {shown(entry)} is not like 08:00 2MB/s, 18:00 off or 23:00 stop")
            at = wall_time(int(match[1]), int(match[2]))
            if at in entries:
                raise InvalidConfig(f"{setting}: {shown(entry)}: this time is there twice")
            stop = match[3].lower() == "stop"
            entries[at] = Limit(None if stop else parse_rate(match[3], setting=f"{setting}: {entry}"), stop)
        return cls(tuple(sorted(entries.items(), key=lambda item: item[0])))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ", ".join(f"{at:%H:%M} {limit}" for at, limit in self.entries)

    def at(self, now: datetime) -> Limit:
        """What holds at this local time; no limit where the timetable is empty."""
        if not self.entries:
            return Limit()
        begun = [change for change in self._changes(now, range(-2, 1)) if change[0] <= now.timestamp()]
        return begun[-1][1]

    def next_change(self, now: datetime) -> datetime | None:
        """When something else holds, in the zone of `now`; None if that never comes."""
        held = self.at(now)
        for moment_s, limit in self._changes(now, range(-1, 4)):
            if moment_s > now.timestamp() and limit != held:
                return _local(moment_s, now.tzinfo)
        return None

    def _changes(self, now: datetime, days: range) -> list[tuple[float, Limit]]:
        """Unix times and limits around `now`, in order."""
        dates = [now.date() + timedelta(days=day) for day in days]
        changes = [(_moment(day, at, now.tzinfo), limit) for day in dates for at, limit in self.entries]
        return sorted(changes, key=lambda change: change[0])  # stable: what the clock skips at once keeps its order


def _local(moment_s: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(moment_s, zone)  # naive where `zone` is None, as `now` was


def _moment(day: date, at: wall_time, zone: tzinfo | None) -> float:
    """The Unix time at which clocks first show this, or skip it."""
    before = datetime.combine(day, at, zone)
    moment_s = before.timestamp()
    if _local(moment_s, zone).replace(fold=0) == before:
        return moment_s
    # The clock skips this time (https://peps.python.org/pep-0495/#the-missing-time): `fold` gives a moment on either
    # side of the jump, and the clock is still short of `at` on one and past it on the other.
    low_s, high_s = before.replace(fold=1).timestamp(), moment_s
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        low_s, high_s = (middle_s, high_s) if _local(middle_s, zone) < before else (low_s, middle_s)
    return high_s
