"""Board: who fetches which leaf. Work stealing: each source takes the next missing leaf as soon as it can.

Threads ask `take` for a `Flight`, and say what became of it. It does no I/O and knows no thread; its clock is injected.
Promised:

- A leaf is looked for in the partial file once before it is asked for anywhere.
- Each source has as many flights as it may have connections, and takes the lowest leaf that is missing and that it may
  have; `joining` says which sources may.
- When nothing is left to take, a source that is free takes a leaf that another one would need much longer for: the last
  leaves of a slow source do not hold up the file. The first that has the leaf verified wins it by `claim`, and only who
  won may write it; the other one is told to let go, which is no failure.
- It gives up, with the error that trying again helps most against, when a leaf can be had from nowhere.
"""

from __future__ import annotations

import bisect
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from dmedia_transfer.crew import Later
from dmedia_transfer.download import hope
from dmedia_transfer.download.joining import Joining
from dmedia_transfer.download.source import Flight, Source, Standing
from dmedia_transfer.errors import CorruptLeaf, LeafMissing, SizeDisputed, TransferError
from dmedia_transfer.model import SourceState, SourceUse, TransferKey

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2  # so often who has nothing to do looks again
DOUBLE_FACTOR: Final = 2.0  # so many times longer a leaf has to take than a second fetch of it
DOUBLE_MIN_S: Final = 0.5
DOUBLE_UNKNOWN_S: Final = 2.0  # the same, for a source of which the speed is not known yet
PATIENCE_S: Final = 60.0  # without any leaf, while sources say only that they have none yet


class Board:
    """The leaves of one run, and its sources. Any thread may call."""

    def __init__(
        self,
        key: TransferKey,
        sizes: Sequence[int],
        sources: Sequence[Source],
        *,
        each: Callable[[], int],
        together: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A board on which nothing is done yet.

        Args:
            key: The transfer.
            sizes: Of each leaf, in bytes.
            sources: In the order of preference.
            each: How many flights one source may have.
            together: How many flights there may be.
            clock: Monotonic seconds.
        """
        self._key = key
        self._sizes = sizes
        self._each = each
        self._together = together
        self._clock = clock
        self._lock = threading.Lock()
        self._standings: dict[str, Standing] = {}
        self._gone: dict[str, Standing] = {}  # sources that have left; they may come back, with what is known of them
        self._joining = Joining(key, clock)
        self._unseen = list(range(len(sizes)))  # not looked for in the partial file yet; all lists are in order
        self._todo: list[int] = []  # known to be missing, and nobody is at it
        self._flights: dict[int, list[Flight]] = {}  # by leaf
        self._claimed: set[int] = set()  # verified, and being written
        self._done: set[int] = set()
        self._advanced_s = clock()
        self._use(sources)

    # What is to be done

    @property
    def finished(self) -> bool:
        """Whether all leaves are written."""
        with self._lock:
            return len(self._done) == len(self._sizes)

    def begin(self, done: Collection[int]) -> None:
        """These leaves are on record."""
        with self._lock:
            self._done.update(done)
            self._unseen = [leaf for leaf in self._unseen if leaf not in self._done]

    def use(self, sources: Sequence[Source]) -> None:
        """These are the sources from now on; what is in flight from one that is not among them is let go."""
        with self._lock:
            self._use(sources)

    def take(self) -> Flight | Later | None:
        """What to do next; None when all is written and nobody is at anything any more.

        Raises:
            TransferError: Something is missing that no source can give.
        """
        with self._lock:
            if len(self._done) == len(self._sizes):
                return Later(LOOK_S) if self._flights else None
            flight = self._register(self._fetch(self._todo) or self._look() or self._double())
            if flight is not None:
                return flight
            if not self._flights:
                self._lose_hope()
            return Later(LOOK_S)

    def losers(self) -> list[Source]:
        """The sources of which nothing in flight is wanted any more: they left or moved, or all is written."""
        with self._lock:
            finished = len(self._done) == len(self._sizes)
            now = {id(one.source.store) for one in self._standings.values()}
            at = [
                flight.source
                for flights in self._flights.values()
                for flight in flights
                if flight.standing and not flight.landed
            ]
            return [one for one in at if finished or id(one.store) not in now]

    # What became of it

    def landed(self, flight: Flight) -> None:
        """The leaf is received, and needs its connection no more."""
        with self._lock:
            flight.landed = True

    def claim(self, flight: Flight) -> bool:
        """The leaf is verified. Whether it was the first, and so is to be written; else the flight is over."""
        with self._lock:
            self._advanced_s = self._clock()
            if flight.standing is not None:
                flight.standing.gave(flight)
            if flight.leaf in self._claimed or flight.leaf in self._done:
                self._end(flight)
                return False
            self._claimed.add(flight.leaf)
            for other in self._flights[flight.leaf]:
                other.superseded = other is not flight
            return True

    def hold(self, flight: Flight) -> bool:
        """Keep all others from this leaf while it is copied into the partial file unverified; False if one is at it."""
        with self._lock:
            if flight.leaf in self._claimed or len(self._flights[flight.leaf]) > 1:
                return False
            self._claimed.add(flight.leaf)
            return True

    def release(self, flight: Flight, *, good: bool) -> None:
        """The copy was verified, and is as good as written; or there is none, and others may be at the leaf, too."""
        with self._lock:
            if not good:
                self._claimed.discard(flight.leaf)
            elif flight.standing is not None:
                flight.standing.gave(flight)
                self._advanced_s = self._clock()

    def written(self, flight: Flight) -> None:
        """The leaf is written."""
        with self._lock:
            self._done.add(flight.leaf)
            self._end(flight)

    def missing(self, flight: Flight) -> Flight | None:
        """It was looked for, and the partial file does not have the leaf: a flight that fetches it, if it can be."""
        with self._lock:
            self._end(flight)
            return self._register(self._fetch([flight.leaf]))

    def gave_back(self, flight: Flight) -> None:
        """The flight is over without a result: the leaf is to be taken again, if nobody else has it."""
        with self._lock:
            self._end(flight)

    def failed(self, flight: Flight, error: TransferError) -> None:
        """The source did not give the leaf.

        Raises:
            TransferError: No other can.
        """
        standing = flight.standing
        assert standing is not None  # noqa: S101 - only sources fail
        with self._lock:
            self._end(flight)
            if isinstance(error, LeafMissing):
                if standing.lacks(flight.leaf, error):
                    self._advanced_s = self._clock()
                log.debug("%s: %s", self._key, error)
                return
            if standing.demotion is None:
                again = "it is tried again later" if error.transient else "it is not asked any more"
                log.warning("%s: leaf %s: store %s: %s; %s", self._key, flight.leaf, _id(standing), error, again)
            standing.failed(error)
            self._check(flight.leaf)

    def corrupt(self, flight: Flight) -> None:
        """What the source gave does not match the leaf's digest.

        Raises:
            CorruptLeaf: No other has it.
        """
        standing = flight.standing
        assert standing is not None  # noqa: S101 - only sources lie
        leaf = flight.leaf
        error = CorruptLeaf(self._key.file_id, leaf, _id(standing))
        with self._lock:
            self._end(flight)
            again = standing.was_wrong(leaf, error, others=self._others(standing, leaf))
            log.warning("%s: %s%s", self._key, error, "; it is fetched again" if again else "")
            if standing.banned and standing.demotion is error:
                log.warning("%s: store %s is not asked any more: it had two leaves wrong", self._key, _id(standing))
            self._check(leaf)

    # What is known

    def states(self) -> tuple[SourceUse, ...]:
        """How it goes with each source."""
        with self._lock:
            there = [*self._standings.values(), *(gone for gone in self._gone.values() if gone.received)]
            return tuple(self._state(standing) for standing in there)

    def blamed_for(self, error: BaseException) -> str:
        """The store that an error came from; empty if none did, or if it is not to blame."""
        with self._lock:
            stores = [store_id for store_id, one in self._standings.items() if one.demotion is error]
        return stores[0] if stores and not isinstance(error, SizeDisputed) else ""

    # Inside; with the lock held

    def _use(self, sources: Sequence[Source]) -> None:
        before = self._standings
        self._standings = {}
        for place, source in enumerate(sources):
            standing = before.pop(source.store_id, None) or self._gone.pop(source.store_id, None)
            if standing is None:
                standing = Standing(source, place, self._clock)
            standing.moves(source, place)
            self._standings[source.store_id] = standing
        for store_id, standing in before.items():
            self._gone[store_id] = standing
            for flight in standing.flights:
                flight.superseded = True
        self._advanced_s = self._clock()

    def _register(self, flight: Flight | None) -> Flight | None:
        if flight is not None:
            self._flights.setdefault(flight.leaf, []).append(flight)
            if flight.standing is not None:
                flight.standing.begins(flight)
        return flight

    def _fetch(self, leaves: Sequence[int]) -> Flight | None:
        """One of these leaves, for the source that has the fewest flights."""
        if not leaves:
            return None
        allowed = self._allowed()
        for standing in self._free(allowed):
            if (flight := self._pick(standing, leaves)) is not None:
                return flight
        # What all who may be asked have wrong is for those who may not, yet.
        orphans = set.intersection(*(set(one.convicted) for one in allowed)) if allowed else set()
        wanted = [leaf for leaf in leaves if leaf in orphans] if orphans else []
        if wanted:
            for standing in self._free([one for one in self._up() if one not in allowed]):
                if (flight := self._pick(standing, wanted)) is not None:
                    return flight
        return None

    def _pick(self, standing: Standing, leaves: Sequence[int]) -> Flight | None:
        found = standing.pick(leaves, partial(self._others, standing))
        if found is None:
            return None
        leaf, probe = found
        del self._todo[bisect.bisect_left(self._todo, leaf)]
        return Flight(leaf, self._sizes[leaf], standing, self._clock(), probe=probe)

    def _look(self) -> Flight | None:
        if not self._unseen:
            return None
        leaf = self._unseen.pop(0)
        return Flight(leaf, self._sizes[leaf], None, self._clock())

    def _double(self) -> Flight | None:
        """The leaf that is furthest from being there, for a source that would be much faster with it."""
        now_s = self._clock()
        for standing in self._free(self._allowed()):
            best: tuple[float, int] | None = None
            for leaf, flights in self._flights.items():
                flight = flights[0]
                if len(flights) > 1 or flight.standing in (None, standing) or leaf in self._claimed:
                    continue
                left_s, own_s = flight.left_s(now_s), standing.leaf_s(flight.size)
                enough_s = DOUBLE_UNKNOWN_S if own_s is None else max(DOUBLE_MIN_S, own_s * DOUBLE_FACTOR)
                if (
                    left_s is not None
                    and left_s > enough_s
                    and (best is None or left_s > best[0])
                    and standing.has_surely(leaf)
                    and standing.may_ask(leaf, partial(self._others, standing))
                ):
                    best = (left_s, leaf)
            if best is not None:
                log.debug("%s: leaf %s is fetched from store %s, too", self._key, best[1], _id(standing))
                return Flight(best[1], self._sizes[best[1]], standing, now_s)
        return None

    def _up(self) -> list[Standing]:
        return [one for one in self._standings.values() if one.up]

    def _allowed(self) -> list[Standing]:
        return self._joining.allowed(self._up())

    def _free(self, standings: Sequence[Standing]) -> list[Standing]:
        """Those that may be asked for one leaf more, the cheapest and least busy one first."""
        most = max(1, min(self._each(), self._together() // max(1, len(standings))))
        free = [one for one in standings if one.connections < most]
        return sorted(free, key=lambda one: (one.source.cost, one.connections, one.place))

    def _end(self, flight: Flight) -> None:
        if flight.over:
            return
        flight.over = True
        if flight.standing is not None:
            flight.standing.ends(flight)
        flights = self._flights[flight.leaf]
        flights.remove(flight)
        if not flights:
            del self._flights[flight.leaf]
            self._claimed.discard(flight.leaf)
            if flight.leaf not in self._done:
                bisect.insort(self._todo, flight.leaf)

    def _others(self, standing: Standing, leaf: int) -> bool:
        """Whether another source may have a leaf right."""
        return any(one is not standing and one.up and not one.had_wrong(leaf) for one in self._standings.values())

    def _check(self, leaf: int) -> None:
        """Give up if a leaf that is missing can be had from nowhere."""
        if leaf not in self._done and leaf not in self._flights and not hope.is_there(leaf, self._standings.values()):
            raise hope.verdict(self._key, leaf, self._standings.values())

    def _lose_hope(self) -> None:
        """Nothing is in flight, and nothing can be taken: give up, unless a source may get what it lacks."""
        standings = self._standings.values()
        waiting = hope.waiting(self._todo, standings)
        if waiting and self._clock() - self._advanced_s < PATIENCE_S:
            return
        lacking = (one.lacking for one in waiting if one.lacking is not None)
        raise next(lacking, None) or hope.verdict(self._key, self._todo[0], standings)

    def _state(self, standing: Standing) -> SourceUse:
        gone = _id(standing) not in self._standings
        if standing.up and not gone:
            lacks = standing.poll_in_s is not None and standing.lacking is not None and not standing.flights
            reason = str(standing.lacking) if lacks else ""
            state = SourceState.ACTIVE if standing.flights else SourceState.WAITING
        else:
            state = SourceState.DEMOTED
            reason = str(standing.demotion) if standing.demotion is not None else "it is no source any more"
        return SourceUse(_id(standing), standing.received, round(standing.rate, 1), state, reason)


def _id(standing: Standing) -> str:
    return standing.source.store_id
