"""A crew that finds out how many connections help: it grows, and a store that is busy gets fewer and not an error."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from dmedia_transfer import crew as crew_module
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import Interrupted, ServerBusy
from dmedia_transfer.growth import FIRST, LOOK_S, MIB
from tests.clock import FakeClock
from tests.engine import in_background
from tests.waiting import eventually


class Work:
    """Pieces that wait for a gate; each begins with what `refuses` says."""

    def __init__(self, crew: Crew, pieces: int) -> None:
        self.crew = crew
        self.todo = deque(range(pieces))
        self.done: set[int] = set()
        self.at_once = 0
        self.most = 0
        self.refused = 0
        self.refuses = 0  # so many pieces more
        self.error = ServerBusy("the store says SlowDown")
        self.gate = threading.Event()
        self.lock = threading.Lock()

    def take(self) -> int | None:
        return self.todo.popleft() if self.todo else None

    def work(self, piece: int) -> None:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            refused = self.refuses > 0
            self.refuses -= refused
            self.refused += refused
        try:
            if refused:
                raise type(self.error)(str(self.error), retry_after_s=self.error.retry_after_s)
            while not self.gate.wait(0.005):
                if self.crew.interrupting:
                    raise Interrupted("cut")
            self.done.add(piece)
        finally:
            with self.lock:
                self.at_once -= 1

    def run(self) -> None:
        self.crew.run(self.take, self.work, self.todo.appendleft)


LARGE = 1024 * MIB


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told that it is too much does not wait."""
    monkeypatch.setattr(crew_module, "ONE_WORD_S", 0.0)


def test_it_begins_with_few_and_takes_more_threads_as_it_grows() -> None:
    clock = FakeClock()
    work = Work(Crew(6, grows=True, clock=clock), 12)
    running = in_background(work.run)
    next(running)
    eventually(lambda: work.at_once == FIRST)
    for _ in range(3):
        clock.now += LOOK_S
        work.crew.moved(LARGE)
    assert work.crew.lines.connections == FIRST + 1
    eventually(lambda: work.at_once == FIRST + 1)
    work.gate.set()
    assert next(running) is None
    assert work.done == set(range(12))


def test_one_that_does_not_grow_has_what_it_was_given() -> None:
    crew = Crew(6)
    crew.moved(LARGE)
    assert (crew.lines.connections, crew.lines.each) == (6, 6)
    assert not crew.eases(ServerBusy("busy"))


@pytest.mark.usefixtures("at_once")
def test_a_busy_store_gets_fewer_connections_and_all_pieces() -> None:
    work = Work(Crew(4, grows=True), 10)
    work.refuses = 2
    work.gate.set()
    work.run()
    assert work.refused == 2
    assert work.done == set(range(10))
    assert work.crew.lines.connections == 1


@pytest.mark.usefixtures("at_once")
def test_a_store_that_stays_busy_is_an_error_for_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmedia_transfer.growth.ONE_WORD_S", 0.0)
    work = Work(Crew(4, grows=True), 10)
    work.refuses = 1000
    with pytest.raises(ServerBusy):
        work.run()
    assert len(work.todo) == 10, "nothing is lost"


def test_a_store_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    work = Work(Crew(4, grows=True), 10)
    work.refuses, work.error = 1, ServerBusy("busy", retry_after_s=30)
    work.gate.set()
    with pytest.raises(ServerBusy):
        work.run()


def test_where_others_can_be_asked_a_busy_store_is_not_waited_for() -> None:
    crew = Crew(4, grows=True)
    crew.spread(2)
    assert not crew.eases(ServerBusy("busy"))


@pytest.mark.usefixtures("at_once")
def test_a_pause_comes_into_force_while_a_store_is_busy() -> None:
    work = Work(Crew(4, grows=True), 10)
    work.refuses = 1
    running = in_background(work.run)
    next(running)
    eventually(lambda: work.refused == 1)
    work.crew.pause(0)
    assert isinstance(next(running), Interrupted)
    assert len(work.todo) == 10
