"""Rate, ETA, and when a listener is due.

Pure arithmetic over an injected clock (seconds, monotonic); one thread. `RateMeter` is one per running transfer,
`Pace` one per edge that tells others of progress.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Clock = Callable[[], float]

SMOOTHING_S: Final = 5.0  # long enough that leaves which arrive in bursts do not make the number jump
_SETTLING_S: Final = 0.5  # a first burst is spread over at least this long, or it would show as gigabytes per second
_STANDSTILL_BPS: Final = 1.0  # below this nobody can say when it ends


class RateMeter:
    """Bytes per second, smoothed: what moved counts less the longer ago it was.

    It is the quotient of two sums that fade alike, bytes and time, so it is right from the first second on and falls
    by itself while nothing moves.
    """

    def __init__(self, clock: Clock, *, bytes_done: int = 0, smoothing_s: float = SMOOTHING_S) -> None:
        self._clock = clock
        self._smoothing_s = smoothing_s
        self._bytes_done = bytes_done
        self._started_s = self._updated_s = clock()
        self._faded_bytes = 0.0

    def update(self, bytes_done: int) -> None:
        """So many bytes are done in all; less than before counts as nothing moved."""
        now = self._clock()
        self._faded_bytes = self._faded(now) + max(0, bytes_done - self._bytes_done)
        self._updated_s = max(now, self._updated_s)
        self._bytes_done = max(bytes_done, self._bytes_done)

    @property
    def rate(self) -> float:
        """Bytes per second, now."""
        if not self._faded_bytes:
            return 0.0  # of a thousand small files that a worker has, most have not begun
        now = self._clock()
        faded_s = self._smoothing_s * -math.expm1(-max(0.0, now - self._started_s) / self._smoothing_s)
        return self._faded(now) / max(faded_s, _SETTLING_S)

    def eta_s(self, bytes_total: int) -> float | None:
        """Seconds until `bytes_total` are done; None while nothing moves or the total is not known."""
        if bytes_total <= 0:
            return None
        left = bytes_total - self._bytes_done
        if left <= 0:
            return 0.0
        rate = self.rate
        return left / rate if rate >= _STANDSTILL_BPS else None

    def _faded(self, now: float) -> float:
        return self._faded_bytes * math.exp(-max(0.0, now - self._updated_s) / self._smoothing_s)


_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Due(Generic[_Key]):
    """What is to be sent now."""

    summary: tuple[_Key, ...] = ()  # all that moved since the last summary, for one signal
    turn: _Key | None = None  # the one whose turn it is
    turn_in_full: bool = False  # its turn comes with a second signal, the slow one


class Pace(Generic[_Key]):
    """Keeps what is told of progress within a budget, whatever the number of things that move.

    There are two kinds of signals: a summary of all that moved, and turns, one thing each, in the order in which
    they moved. A turn is one signal, and now and then two: the slow one tells the same in another form. Within
    any second there are at most `summaries_per_s + turns_per_s` signals, last values aside: these are sent at once by
    whoever calls `ended`, and taken off the turns that follow.
    """

    def __init__(
        self, clock: Clock, *, summaries_per_s: int = 4, turns_per_s: int = 6, slow_interval_s: float = 1.0
    ) -> None:
        self._clock = clock
        self._summary_interval_s = 1 / summaries_per_s
        self._turns_per_s = turns_per_s
        self._slow_interval_s = slow_interval_s  # between the slow signals of one thing
        self._unsummed: dict[_Key, None] = {}  # moved since the last summary; a dict keeps the order
        self._waiting: dict[_Key, None] = {}  # moved since their last turn
        self._slow_sent_s: dict[_Key, float] = {}  # when the slow signal of a thing was sent
        self._summary_sent_s = -math.inf
        self._turns_sent_s: deque[float] = deque(maxlen=turns_per_s)  # no more can ever be within a second

    def moved(self, key: _Key) -> None:
        """This has something new to tell."""
        self._unsummed[key] = None
        self._waiting[key] = None

    def ended(self, key: _Key, *, signals: int) -> None:
        """This gets no more turns; its last values go out now with `signals` signals."""
        self._waiting.pop(key, None)
        self._slow_sent_s.pop(key, None)
        self._turns_sent_s.extend([self._clock()] * signals)

    def unsummed(self, key: _Key) -> bool:
        """Whether this moved since the last summary."""
        return key in self._unsummed

    def summarize(self) -> tuple[_Key, ...]:
        """All that moved since the last summary; one is sent now, due or not."""
        self._summary_sent_s = self._clock()
        keys = tuple(self._unsummed)
        self._unsummed.clear()
        return keys

    def due(self) -> Due[_Key]:
        """What is to be sent now; it counts as sent."""
        now = self._clock()
        summary = self.summarize() if self._unsummed and now >= self._next_summary_s() else ()
        when, slow = self._next_turn(now)
        if now < when:
            return Due(summary)
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._turns_sent_s.extend([now] * (2 if slow else 1))
        if slow:
            self._slow_sent_s[key] = now
        return Due(summary, key, slow)

    def wait_s(self) -> float | None:
        """Seconds until something is due; None while nothing moves, so that nobody wakes for it."""
        now = self._clock()
        when = min(self._next_summary_s() if self._unsummed else math.inf, self._next_turn(now)[0])
        return None if when == math.inf else max(0.0, when - now)

    def _next_summary_s(self) -> float:
        return self._summary_sent_s + self._summary_interval_s

    def _next_turn(self, now: float) -> tuple[float, bool]:
        """When the next turn is due (never: infinity), and whether it comes with the slow signal."""
        if not self._waiting:
            return math.inf, False
        slow_s = self._slow_sent_s.get(next(iter(self._waiting)), -math.inf) + self._slow_interval_s
        when = self._room_s(1)
        if max(now, when) < slow_s:
            return when, False
        return self._room_s(2), True

    def _room_s(self, signals: int) -> float:
        """From when on `signals` more can be sent: evenly spaced, and never more than the budget within a second."""
        sent = self._turns_sent_s
        if not sent:
            return -math.inf
        spaced = sent[-1] + sent.count(sent[-1]) / self._turns_per_s
        excess = len(sent) + signals - self._turns_per_s
        return max(spaced, sent[excess - 1] + 1.0) if excess > 0 else spaced
