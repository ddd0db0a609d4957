"""Source: a store that should have the file, and how one run of a download gets on with it.

A source that fails is demoted, with the reason: for a while if trying again can help, else for the run. A source whose
leaf does not match its digest is not asked for that leaf again while there is another one; after the second such leaf
it is banned. A source that lacks a leaf, because it is still receiving the file itself, is asked for others and, at
growing intervals, for that one; this is no failure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from dmedia_transfer.errors import CorruptLeaf, LeafMissing, TransferError
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import Meter, ObjectInfo, PartialFile
from dmedia_transfer.progress import RateMeter

FETCHES_PER_LEAF: Final = 3  # of a corrupt leaf, from one source that is the only one
CORRUPT_LEAVES: Final = 2  # of one source, after which it is asked for nothing more
FIRST_POLL_S: Final = 0.2  # after which a source that lacked a leaf is asked again
LAST_POLL_S: Final = 2.0
FIRST_REST_S: Final = 15.0  # after which a source that failed is tried again, if others go on meanwhile
LAST_REST_S: Final = 300.0
SMOOTHING_S: Final = 2.0  # of the rate by which sources are judged


class Reads(Protocol):
    """What a download needs of a backend."""

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What the store has under the file's name, or None."""

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` with the object's bytes from offset `start`."""

    def cut(self) -> None:
        """Cut all connections."""


@dataclass(frozen=True, slots=True)
class Source:
    """A store that should have the file."""

    store_id: str
    store: Reads
    cost: int = 100  # the cheaper ones are asked first
    copy: Callable[[FileSpec, int, PartialFile], bool] | None = None  # of a FileStore of this machine, which may copy

    @property
    def local(self) -> bool:
        """Whether it is a FileStore of this machine: nothing crosses the wire."""
        return self.copy is not None


class Flight:
    """A leaf that a thread is busy with. Its counts are written by that thread alone, and read by any."""

    __slots__ = (
        "_source",
        "begun_s",
        "landed",
        "leaf",
        "moved_s",
        "over",
        "probe",
        "received",
        "size",
        "standing",
        "superseded",
        "waited_s",
    )

    def __init__(self, leaf: int, size: int, standing: Standing | None, now_s: float, *, probe: bool = False) -> None:
        self.leaf = leaf
        self.size = size  # bytes
        self.standing = standing  # None: it is looked whether the partial file has the leaf already
        self._source = standing.source if standing is not None else None  # the store may move meanwhile
        self.begun_s = now_s  # monotonic seconds
        self.moved_s = now_s  # when bytes came last
        self.received = 0  # bytes
        self.waited_s = 0.0  # seconds that our own bandwidth limit held it up
        self.probe = probe  # the source lacked leaves a moment ago, and may lack this one
        self.landed = False  # received in full: its connection is free
        self.superseded = False  # another source was first: this one is to let go
        self.over = False

    @property
    def source(self) -> Source:
        """Where it is fetched from."""
        assert self._source is not None  # noqa: S101 - not asked of one that is only looked for
        return self._source

    def left_s(self, now_s: float) -> float | None:
        """Seconds until it is received, if it goes on as so far; None if that cannot be said yet."""
        age_s = now_s - self.begun_s
        if not self.received:
            return math.inf if age_s > 1.0 else None
        return max((self.size - self.received) * age_s / self.received, now_s - self.moved_s - 1.0)


class Standing:
    """How the run gets on with one source. Guarded by the board's lock."""

    def __init__(self, source: Source, place: int, clock: Callable[[], float]) -> None:
        self.source = source
        self.place = place  # in the order of preference
        self.flights: set[Flight] = set()
        self.first_s: float | None = None  # when it was asked first
        self.demotion: TransferError | None = None  # why it is not asked now
        self.convicted: dict[int, CorruptLeaf] = {}  # leaves that it has wrong
        self.lacking: LeafMissing | None = None  # the last word about a leaf that it has not got yet
        self.banned = False
        self._clock = clock
        self._back_s = math.inf  # when the demotion ends
        self._rest_s = FIRST_REST_S
        self._corrupt: Counter[int] = Counter()  # fetches that did not match, by leaf
        self._there: frozenset[int] = frozenset()  # of one that lacks leaves: what it said it has
        self._missed: dict[int, None] = {}  # leaves that it lacked, the one asked for longest ago first
        self._poll_s = 0.0  # between questions for leaves that it may lack; 0: it does not seem to lack any
        self._poll_at_s = 0.0
        self._received = 0  # bytes, by flights that are over
        self._waited_s = 0.0  # by flights that are over
        self._leaf_s: float | None = None  # what a leaf takes on one connection, in seconds for a byte
        self._rate: RateMeter | None = None
        self._held: RateMeter | None = None

    @property
    def up(self) -> bool:
        """Whether it may be asked for anything."""
        if self.banned:
            return False
        if self.demotion is not None and self._clock() >= self._back_s:
            self.demotion = None
        return self.demotion is None

    @property
    def may_come_back(self) -> bool:
        """Whether it is demoted for a while only."""
        return not self.banned and self._back_s < math.inf

    @property
    def connections(self) -> int:
        """How many are in use for it."""
        return sum(not flight.landed for flight in self.flights)

    # What it is asked for

    def pick(self, leaves: Iterable[int], others: Callable[[int], bool]) -> tuple[int, bool] | None:
        """Which of these leaves to ask it for next, and whether it may lack it.

        Args:
            leaves: In the order in which they are wanted.
            others: Whether another source may have this leaf right.
        """
        now_s = self._clock()
        probing = self._poll_s > 0
        may_probe = not probing or (now_s >= self._poll_at_s and not any(flight.probe for flight in self.flights))
        unknown = None
        for leaf in leaves:
            if not self.may_ask(leaf, others):
                continue
            if not probing or leaf in self._there:
                return leaf, False
            if not may_probe and not self._there:
                return None
            if unknown is None and leaf not in self._missed:
                unknown = leaf
        if not may_probe:
            return None
        if unknown is None or len(self._missed) >= 4:  # now and then the old ones again
            unknown = next((leaf for leaf in self._missed if leaf in leaves and self.may_ask(leaf, others)), unknown)
        return None if unknown is None else (unknown, True)

    def may_ask(self, leaf: int, others: Callable[[int], bool]) -> bool:
        """Whether it may have this leaf right, now or later: one that it had wrong only if nobody else has it."""
        if leaf in self.convicted:
            return False
        return leaf not in self._corrupt or not others(leaf)

    def had_wrong(self, leaf: int) -> bool:
        """Whether what it gave for this leaf did not match."""
        return leaf in self._corrupt

    def has_surely(self, leaf: int) -> bool:
        """Whether nothing says that it lacks this leaf."""
        return not self._poll_s or leaf in self._there

    @property
    def poll_in_s(self) -> float | None:
        """Seconds until it is asked again for what it lacked; None if it lacks nothing."""
        return max(0.0, self._poll_at_s - self._clock()) if self._poll_s else None

    # What became of it

    def begins(self, flight: Flight) -> None:
        """It is asked for a leaf."""
        if self._rate is None:
            self.first_s = self._clock()
            self._rate = RateMeter(self._clock, smoothing_s=SMOOTHING_S)
            self._held = RateMeter(self._clock, smoothing_s=SMOOTHING_S)
        self.flights.add(flight)

    def ends(self, flight: Flight) -> None:
        """A flight is over, whatever came of it."""
        self.flights.discard(flight)
        self._received += flight.received
        self._waited_s += flight.waited_s

    def gave(self, flight: Flight) -> None:
        """It had this leaf right."""
        per_byte = ((flight.moved_s if flight.landed else self._clock()) - flight.begun_s) / flight.size
        self._leaf_s = per_byte if self._leaf_s is None else (self._leaf_s + per_byte) / 2
        self._poll_s = self._poll_at_s = 0.0
        self._missed.pop(flight.leaf, None)
        self._rest_s = FIRST_REST_S

    def lacks(self, leaf: int, error: LeafMissing) -> bool:
        """It has not got this leaf yet; whether it has got others since it said so last."""
        there = error.there - {leaf}
        advanced = bool(there - self._there)
        self._there = there
        self.lacking = error
        self._missed.pop(leaf, None)
        self._missed[leaf] = None
        self._poll_s = FIRST_POLL_S if advanced or not self._poll_s else min(LAST_POLL_S, self._poll_s * 2)
        self._poll_at_s = self._clock() + self._poll_s
        return advanced

    def moves(self, source: Source, place: int) -> None:
        """The store is reached in this way from now on; if it is another way, what failed before is forgotten."""
        if source.store is not self.source.store:
            for flight in self.flights:
                flight.superseded = True
            self._back_s = self._clock()
        self.source, self.place = source, place

    def failed(self, error: TransferError) -> None:
        """Nothing is fetched from it for a while, or any more."""
        if self.demotion is None:
            self.demotion = error
            self._back_s = self._clock() + self._rest_s if error.transient else math.inf
            self._rest_s = min(LAST_REST_S, self._rest_s * 2)

    def was_wrong(self, leaf: int, error: CorruptLeaf, *, others: bool) -> bool:
        """A leaf did not match its digest; whether it may be fetched from here again."""
        self._corrupt[leaf] += 1
        if not others and self._corrupt[leaf] < FETCHES_PER_LEAF:
            return True
        self.convicted[leaf] = error
        if len(self.convicted) >= CORRUPT_LEAVES and not self.banned:
            self.banned = True
            self.demotion = error
        return False

    # How fast it is

    @property
    def received(self) -> int:
        """Bytes in this run."""
        return self._received + sum(flight.received for flight in self.flights)

    @property
    def rate(self) -> float:
        """Bytes per second, lately."""
        if self._rate is None:
            return 0.0
        self._rate.update(self.received)
        return self._rate.rate

    @property
    def held(self) -> float:
        """How many of its connections waited for our own bandwidth limit lately, on average."""
        if self._held is None:
            return 0.0
        self._held.update(int(1e6 * (self._waited_s + sum(flight.waited_s for flight in self.flights))))
        return self._held.rate / 1e6

    def leaf_s(self, size: int) -> float | None:
        """Seconds that so many bytes take on one connection; None if that cannot be said yet."""
        if self._leaf_s is not None:
            return self._leaf_s * size
        now_s = self._clock()
        known = [(now_s - one.begun_s) / one.received for one in self.flights if one.received]
        return min(known) * size if known else None
