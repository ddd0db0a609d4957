"""Who fetches which leaf: sources of all kinds, in a time that the test makes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.crew import Later
from dmedia_transfer.download import joining
from dmedia_transfer.download.board import Board
from dmedia_transfer.download.source import Flight, Source
from dmedia_transfer.errors import ConnectionLost, CorruptLeaf, LeafMissing, NoSource, ObjectMissing, TransferError
from dmedia_transfer.model import Direction, SourceState, TransferKey
from tests.engine import FlakyStore

MIB = 1024 * 1024
LEAF = 8 * MIB
KEY = TransferKey(Direction.DOWNLOAD, "F" * 48, "")
MOST_S = 4000.0


@dataclass
class Peer:
    """A source as the test makes it: how fast, and what is wrong with it."""

    name: str
    rate: float = 10 * MIB  # bytes per second, of all its connections together
    cost: int = 10
    lies: frozenset[int] = frozenset()  # leaves that it has wrong
    arrives: float | None = None  # bytes per second at which it receives the file itself; None: it has all
    tells: bool = True  # it says which leaves it has
    fails: dict[int, TransferError] = field(default_factory=dict)  # at the n-th fetch
    asked: list[tuple[float, int]] = field(default_factory=list)
    received: int = 0  # bytes that it gave
    wrong: int = 0  # leaves that it gave and that did not match

    @property
    def source(self) -> Source:
        return Source(self.name, FlakyStore(self.name), self.cost)

    def has(self, now: float) -> int:
        """How many leaves it has, from the first on."""
        return 10**9 if self.arrives is None else int(self.arrives * now / LEAF)


class Race:
    """Threads that do what the board says, one tick of the clock after another."""

    def __init__(
        self, leaves: int, peers: list[Peer], *, each: int = 4, threads: int = 12, there: int = 0, tick_s: float = 0.2
    ) -> None:
        self.now = 0.0
        self.tick_s = tick_s
        self.peers = {peer.name: peer for peer in peers}
        self.sizes = [LEAF] * (leaves - 1) + [LEAF // 3]
        self.there = there  # leaves that the partial file has, on no record
        self.limit: float | None = None  # our own, bytes per second
        self.board = Board(
            KEY, self.sizes, [one.source for one in peers], each=lambda: each, together=lambda: 12, clock=self.clock
        )
        self.idle = threads
        self.busy: list[Flight] = []
        self.writing: list[Flight] = []
        self.written: list[int] = []
        self.looked: list[int] = []

    def clock(self) -> float:
        return self.now

    def run(self) -> float:
        """To the end; seconds."""
        while not self.tick():
            assert self.now < MOST_S, "it does not end"
        return self.now

    def tick(self) -> bool:
        """One step; whether all is done."""
        for flight in self.writing:
            self.written.append(flight.leaf)
            self.board.written(flight)
            self.idle += 1
        self.writing = []
        while self.idle:
            taken = self.board.take()
            if taken is None:
                return True
            if isinstance(taken, Later):
                if self.board.finished:
                    self.cut()
                break
            self.idle -= 1
            self.begin(taken)
        self.move()
        self.now += self.tick_s
        return False

    def cut(self) -> None:
        losers = {source.store_id for source in self.board.losers()}
        for flight in [one for one in self.busy if one.source.store_id in losers]:
            assert flight.superseded
            self.let_go(flight)

    def begin(self, flight: Flight) -> None:
        if flight.standing is None:
            assert flight.leaf not in self.looked, "it is looked for twice"
            self.looked.append(flight.leaf)
            if flight.leaf < self.there:
                assert self.board.claim(flight)
                self.writing.append(flight)
                return
            again = self.board.missing(flight)
            if again is None:
                self.idle += 1
                return
            flight = again
        peer = self.peers[flight.source.store_id]
        assert not any(one.leaf == flight.leaf and one.source.store_id == peer.name for one in self.busy)
        peer.asked.append((self.now, flight.leaf))
        error = peer.fails.get(len(peer.asked))
        if error is None and flight.leaf >= peer.has(self.now):
            there = frozenset(range(peer.has(self.now))) if peer.tells else frozenset[int]()
            error = LeafMissing(KEY.file_id, flight.leaf, peer.name, there)
        if error is not None:
            self.board.failed(flight, error)
            self.idle += 1
            return
        self.busy.append(flight)

    def move(self) -> None:
        want: dict[Flight, float] = {}
        for name, flights in itertools.groupby(
            sorted(self.busy, key=lambda one: one.source.store_id), key=lambda one: one.source.store_id
        ):
            mine = list(flights)
            want |= dict.fromkeys(mine, self.peers[name].rate * self.tick_s / len(mine))
        total = sum(want.values())
        share = min(1.0, self.limit * self.tick_s / total) if self.limit and total else 1.0
        for flight, count in want.items():
            flight.waited_s += self.tick_s * (1 - share)
            self.receive(flight, count * share)

    def receive(self, flight: Flight, count: float) -> None:
        moved = min(int(count), flight.size - flight.received)
        if not moved:
            return
        flight.received += moved
        flight.moved_s = self.now
        peer = self.peers[flight.source.store_id]
        peer.received += moved
        if flight.superseded:
            self.let_go(flight)
        elif flight.received == flight.size:
            self.busy.remove(flight)
            if flight.leaf in peer.lies:
                self.idle += 1
                peer.wrong += 1
                self.board.corrupt(flight)
            elif self.board.claim(flight):
                self.writing.append(flight)
            else:
                self.idle += 1

    def let_go(self, flight: Flight) -> None:
        self.busy.remove(flight)
        self.board.gave_back(flight)
        self.idle += 1

    def state(self, name: str) -> SourceState:
        return next(one.state for one in self.board.states() if one.store_id == name)


def test_two_sources_that_are_limited_reach_the_sum_of_their_limits() -> None:
    a, b = Peer("A", rate=10 * MIB), Peer("B", rate=30 * MIB)
    seconds = Race(100, [a, b], tick_s=0.02).run()
    assert seconds <= sum([LEAF] * 100) / (40 * MIB) / 0.9
    assert a.received + b.received <= 103 * LEAF


def test_a_source_that_is_slow_does_not_hold_up_the_end() -> None:
    slow, fast = Peer("A", rate=0.05 * MIB), Peer("B", rate=40 * MIB)
    race = Race(50, [slow, fast])
    assert race.run() <= 50 * LEAF / (40 * MIB) + 3
    assert race.state("A") is SourceState.WAITING, "to be slow is no failure"
    assert sorted(race.written) == list(range(50))


def test_a_source_that_stalls_loses_its_leaves_to_another() -> None:
    stuck, good = Peer("A", rate=0), Peer("B", rate=20 * MIB)
    race = Race(20, [stuck, good])
    assert race.run() <= 20 * LEAF / (20 * MIB) + 5


def test_a_dearer_source_is_left_alone_while_the_cheaper_one_is_fast_enough() -> None:
    peer, bucket = Peer("A", rate=20 * MIB), Peer("B", rate=100 * MIB, cost=100)
    Race(100, [peer, bucket]).run()
    assert not bucket.asked


def test_a_dearer_source_helps_a_slow_one_after_a_while() -> None:
    peer, bucket = Peer("A", rate=2 * MIB), Peer("B", rate=50 * MIB, cost=100)
    seconds = Race(100, [peer, bucket]).run()
    assert seconds < 30
    assert min(when for when, _ in bucket.asked) >= joining.GRACE_S
    assert peer.received > 0


def test_a_dearer_source_does_not_help_against_our_own_limit() -> None:
    peer, bucket = Peer("A", rate=20 * MIB), Peer("B", rate=100 * MIB, cost=100)
    race = Race(20, [peer, bucket])
    race.limit = 2 * MIB
    race.run()
    assert not bucket.asked


def test_a_dearer_source_that_makes_it_no_faster_is_left_alone_again() -> None:
    peer, bucket = Peer("A", rate=2 * MIB), Peer("B", rate=0.1 * MIB, cost=100)
    race = Race(40, [peer, bucket])
    race.run()
    asked = [when for when, _ in bucket.asked]
    assert asked
    assert not [when for when in asked if joining.GRACE_S + joining.TRIAL_S + 1 < when < joining.AWAY_S]


def test_a_dearer_source_is_asked_at_once_where_no_cheaper_one_works() -> None:
    peer, bucket = Peer("A", fails=dict.fromkeys(range(1, 99), ObjectMissing("gone"))), Peer("B", cost=100)
    race = Race(10, [peer, bucket])
    race.run()
    assert bucket.asked[0][0] == 0.0
    assert race.state("A") is SourceState.DEMOTED


def test_a_leaf_that_the_cheaper_source_has_wrong_comes_from_the_dearer_one_and_no_other() -> None:
    peer, bucket = Peer("A", rate=20 * MIB, lies=frozenset({3})), Peer("B", cost=100)
    Race(50, [peer, bucket]).run()
    assert [leaf for _, leaf in bucket.asked] == [3]


def test_a_source_that_failed_for_a_moment_is_tried_again_while_others_go_on() -> None:
    peer, other = Peer("A", fails={1: ConnectionLost("reset")}), Peer("B", rate=8 * MIB)
    race = Race(100, [peer, other])
    race.run()
    assert peer.received > 0
    assert race.state("A") is SourceState.WAITING


@pytest.mark.parametrize("tells", [True, False])
def test_a_relay_is_polled_politely_and_gives_what_it_gets(tells: bool) -> None:
    relay = Peer("A", rate=50 * MIB, arrives=4 * MIB, tells=tells)
    race = Race(20, [relay])
    seconds = race.run()
    arrival_s = 20 * LEAF / (4 * MIB)
    assert seconds <= arrival_s * 1.5 + 5
    assert len(relay.asked) <= 20 + seconds * 5


def test_a_relay_that_gets_no_further_is_given_up_some_time() -> None:
    race = Race(20, [Peer("A", arrives=0.0)])
    with pytest.raises(LeafMissing):
        race.run()
    assert 50 < race.now < 100


def test_without_a_source_there_is_a_reason_to_wait_but_what_is_there_is_found() -> None:
    race = Race(5, [], there=3)
    with pytest.raises(NoSource):
        race.run()
    assert sorted(race.looked) == list(range(5))


def test_sources_come_and_go_and_come_back_with_what_is_known_of_them() -> None:
    liar, honest = Peer("A", rate=4 * MIB, lies=frozenset(range(100))), Peer("B", rate=4 * MIB)
    race = Race(60, [liar, honest])
    while race.state("A") is not SourceState.DEMOTED:
        race.tick()
    race.board.use([honest.source])
    asked = len(liar.asked)
    race.tick()
    third = Peer("C", rate=4 * MIB)
    race.peers["C"] = third
    race.board.use([liar.source, honest.source, third.source])
    race.run()
    assert len(liar.asked) == asked, "it stays banned"
    assert third.received > 10 * LEAF
    assert sorted(race.written) == list(range(60))


def test_a_source_that_leaves_lets_go_of_its_leaves() -> None:
    a, b = Peer("A", rate=0.01 * MIB), Peer("B", rate=20 * MIB)
    race = Race(20, [a])
    race.tick()
    race.peers["B"] = b
    race.board.use([b.source])
    race.run()
    assert sorted(race.written) == list(range(20))
    assert race.state("A") is SourceState.DEMOTED


def test_a_source_that_has_moved_is_asked_where_it_is_now() -> None:
    peer = Peer("A", rate=0)
    race = Race(5, [peer])
    race.tick()
    assert len(race.busy) == 4
    race.board.use([peer.source])  # the same store, reached in another way
    race.cut()
    peer.rate = 10 * MIB
    race.run()
    assert sorted(race.written) == list(range(5))
    assert len(peer.asked) == 4 + 5


PEERS = st.builds(
    Peer,
    name=st.just("?"),
    rate=st.sampled_from([0.5, 2.0, 7.0, 30.0]).map(lambda rate: rate * MIB),
    cost=st.sampled_from([0, 10, 100]),
    lies=st.frozensets(st.integers(0, 8), max_size=2),
    arrives=st.sampled_from([None, None, 1.0 * MIB, 9.0 * MIB]),
    tells=st.booleans(),
    fails=st.dictionaries(
        st.integers(1, 12), st.sampled_from([ConnectionLost("reset"), ObjectMissing("gone")]), max_size=2
    ),
)


@given(
    leaves=st.integers(1, 9),
    peers=st.lists(PEERS, min_size=1, max_size=4),
    each=st.integers(1, 4),
    threads=st.integers(1, 12),
    there=st.integers(0, 3),
    honest=st.booleans(),
)
def test_whatever_the_sources_do_each_leaf_is_written_once_or_it_says_why_not(
    leaves: int, peers: list[Peer], each: int, threads: int, there: int, honest: bool
) -> None:
    for number, peer in enumerate(peers):
        peer.name = "ABCD"[number]
        peer.asked, peer.received, peer.wrong = [], 0, 0
    if honest:  # one that has all and does no wrong: then it always ends well
        peers[-1].lies, peers[-1].fails, peers[-1].arrives = frozenset(), {}, None
    race = Race(leaves, peers, each=each, threads=threads, there=there)
    error = run_and_look(race, threads)
    if error is None:
        assert sorted(race.written) == list(range(leaves))
        assert not race.busy
    else:
        assert not honest, error
        assert any(peer.lies or peer.fails for peer in peers), error
        assert isinstance(error, ConnectionLost | ObjectMissing | CorruptLeaf | LeafMissing)
    assert len(set(race.written)) == len(race.written)
    assert {one.store_id: one.received_bytes for one in race.board.states()} == {
        peer.name: peer.received for peer in peers
    }
    assert all(peer.wrong <= 3 * 2 + each for peer in peers)


def run_and_look(race: Race, threads: int) -> TransferError | None:
    """Run to the end, and see that no thread gets lost; the error that ended it."""
    try:
        while not race.tick():
            assert race.now < MOST_S, "it does not end"
            assert len(race.busy) + len(race.writing) + race.idle == threads
    except TransferError as error:
        return error
    return None
