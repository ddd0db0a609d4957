"""The threads of one job: pause, resume, stop, cut, errors."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import AccessDenied, ConnectionLost, Interrupted
from dmedia_transfer.lines import SPARE
from tests.engine import in_background
from tests.waiting import eventually

PIECES = 20


class Work:
    """Pieces that take until a test lets them go on, or until they are cut."""

    def __init__(self, connections: int = 3, pieces: int = PIECES) -> None:
        self.crew = Crew(connections)
        self.todo = deque(range(pieces))
        self.done: list[int] = []
        self.begun: list[int] = []
        self.gate = threading.Event()
        self.error: Callable[[int], BaseException | None] = lambda piece: None
        self.cuts = 0
        self.missed_cuts = 0
        self.broken = 0
        self.crew.cuts(self._cut)

    def _cut(self) -> None:
        self.cuts += 1
        if self.cuts > self.missed_cuts:
            self.broken += 1

    def take(self) -> int | None:
        return self.todo.popleft() if self.todo else None

    def work(self, piece: int) -> None:
        broken = self.broken
        self.begun.append(piece)
        error = self.error(piece)
        if error is not None:
            raise error
        while not self.gate.wait(0.005):
            if self.broken != broken:
                raise ConnectionLost("cut")
        self.done.append(piece)

    def give_back(self, piece: int) -> None:
        self.todo.appendleft(piece)

    def run(self) -> None:
        self.crew.run(self.take, self.work, self.give_back)

    def fail_beside_others(self, error: BaseException) -> Callable[[int], BaseException | None]:
        """Piece 1 fails once two others are in flight."""

        def fail(piece: int) -> BaseException | None:
            if piece == 1:
                eventually(lambda: len(self.begun) >= 3)
            return error if piece == 1 else None

        return fail


def test_all_pieces_are_worked_off_once() -> None:
    work = Work()
    work.gate.set()
    work.run()
    assert sorted(work.done) == list(range(PIECES))


def test_no_more_pieces_are_in_flight_than_there_are_connections() -> None:
    work = Work(connections=4)
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 4)
    time.sleep(0.02)
    assert work.crew.in_flight == len(work.begun) == 4
    work.gate.set()
    assert next(outcome) is None


def test_a_pause_lets_what_is_in_flight_finish_and_takes_nothing_new() -> None:
    work = Work()
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    assert work.crew.pause(10) == 3
    assert work.crew.pause(10) is None
    work.gate.set()
    assert isinstance(next(outcome), Interrupted)
    assert sorted(work.done) == [0, 1, 2]
    assert work.cuts == 0
    assert not work.crew.resume(), "it has come into force"


def test_what_outlasts_the_grace_is_cut_and_given_back() -> None:
    work = Work()
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    work.crew.pause(0.05)
    assert isinstance(next(outcome), Interrupted)
    assert work.done == []
    assert sorted(work.todo) == list(range(PIECES))


def test_a_resume_before_the_pause_is_in_force_goes_straight_on() -> None:
    work = Work()
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    work.crew.pause(10)
    assert work.crew.resume()
    assert not work.crew.resume()
    work.gate.set()
    assert next(outcome) is None
    assert sorted(work.done) == list(range(PIECES))
    assert len(work.begun) == PIECES, "nothing was begun twice"


def test_pieces_that_a_pause_has_cut_are_taken_again_after_a_resume() -> None:
    work = Work(connections=2, pieces=2)
    slow = threading.Event()

    def stubborn(piece: int) -> BaseException | None:
        if piece == 1 and not slow.is_set():
            slow.wait(10)  # keeps the pause from coming into force
        return None

    work.error = stubborn
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 2)
    work.crew.pause(0)
    eventually(lambda: 0 in work.todo)
    assert work.crew.resume()
    work.gate.set()
    slow.set()
    assert next(outcome) is None
    assert sorted(work.done) == [0, 1]


def test_a_stop_cuts_at_once_and_is_not_taken_back() -> None:
    work = Work()
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    work.crew.stop()
    assert not work.crew.resume()
    assert isinstance(next(outcome), Interrupted)
    with pytest.raises(Interrupted):
        work.crew.once(lambda: 1)


def test_a_thread_that_connects_just_after_the_cut_is_cut_again() -> None:
    work = Work(connections=1)
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 1)
    work.missed_cuts = 2
    work.crew.stop()
    assert isinstance(next(outcome), Interrupted)
    assert work.cuts > 2


def test_an_error_ends_the_run_after_the_others_have_finished() -> None:
    work = Work()
    refused = AccessDenied("no")
    work.error = work.fail_beside_others(refused)
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: work.crew.in_flight == 2 and len(work.begun) == 3)  # piece 1 has failed
    work.gate.set()
    assert next(outcome) is refused
    assert sorted(work.done) == [0, 2]


def test_after_an_error_the_crew_can_be_used_again() -> None:
    work = Work()
    work.gate.set()
    work.error = lambda piece: AccessDenied("no") if piece == 1 else None
    with pytest.raises(AccessDenied):
        work.run()
    work.error = lambda piece: None
    work.run()
    assert sorted(work.done) == list(range(PIECES))


def test_a_stop_during_an_error_is_still_in_force_after_it() -> None:
    work = Work()
    work.error = work.fail_beside_others(AccessDenied("no"))
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    work.crew.stop()
    assert isinstance(next(outcome), AccessDenied)
    with pytest.raises(Interrupted):
        work.crew.check()


def test_connections_that_are_cut_for_a_new_network_are_nobodys_fault() -> None:
    work = Work()
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: len(work.begun) == 3)
    work.crew.cut()
    eventually(lambda: len(work.begun) == 6)
    work.gate.set()
    assert next(outcome) is None
    assert sorted(work.done) == list(range(PIECES))


def test_a_connection_that_is_lost_by_itself_is_an_error() -> None:
    work = Work()
    work.crew.cut()
    work.gate.set()
    work.error = lambda piece: ConnectionLost("reset") if piece == 7 else None
    with pytest.raises(ConnectionLost):
        work.run()


def test_more_connections_work_at_once_and_fewer_let_what_is_in_flight_finish() -> None:
    crew = Crew(1)
    todo, done = deque(range(PIECES)), list[int]()
    allowed = threading.Semaphore(0)

    def work(piece: int) -> None:
        assert allowed.acquire(timeout=10)
        done.append(piece)

    outcome = in_background(lambda: crew.run(lambda: todo.popleft() if todo else None, work, todo.appendleft))
    next(outcome)
    eventually(lambda: crew.in_flight == 1)
    crew.connect(4)
    eventually(lambda: crew.in_flight == 4)
    crew.connect(2)
    time.sleep(0.02)
    assert crew.in_flight == 4
    allowed.release(3)
    eventually(lambda: len(done) == 3 and crew.in_flight == 2)
    time.sleep(0.02)
    assert crew.in_flight == 2
    crew.connect(3)
    eventually(lambda: crew.in_flight == 3)
    allowed.release(PIECES)
    assert next(outcome) is None
    assert sorted(done) == list(range(PIECES))


def test_no_more_connections_than_are_of_use() -> None:
    work = Work(connections=8)
    work.crew.lines.most = 2
    outcome = in_background(work.run)
    next(outcome)
    eventually(lambda: work.crew.in_flight == 2)
    work.crew.connect(16)
    time.sleep(0.02)
    assert work.crew.in_flight == work.crew.lines.connections == 2
    work.gate.set()
    assert next(outcome) is None


def test_a_piece_that_has_landed_leaves_its_connection_to_the_next_one() -> None:
    crew = Crew(1)
    todo, done = deque(range(PIECES)), list[int]()
    allowed = threading.Semaphore(0)

    def work(piece: int) -> None:
        crew.landed()
        crew.landed()  # says nothing new
        assert allowed.acquire(timeout=10)
        done.append(piece)

    outcome = in_background(lambda: crew.run(lambda: todo.popleft() if todo else None, work, todo.appendleft))
    next(outcome)
    eventually(lambda: crew.in_flight == 1 + SPARE)
    time.sleep(0.02)
    assert crew.in_flight == 1 + SPARE
    assert crew.pause(0) == 1 + SPARE
    allowed.release(1 + SPARE)
    assert isinstance(next(outcome), Interrupted)
    assert sorted(done) == list(range(1 + SPARE)), "a pause lets go of nothing that was received"


def test_only_what_has_landed_makes_room_on_the_line() -> None:
    crew = Crew(2)
    todo, begun = deque(range(PIECES)), list[int]()
    gate = threading.Event()

    def work(piece: int) -> None:
        begun.append(piece)
        if piece == 0:
            crew.landed()
        assert gate.wait(10)

    outcome = in_background(lambda: crew.run(lambda: todo.popleft() if todo else None, work, todo.appendleft))
    next(outcome)
    eventually(lambda: len(begun) == 3)
    time.sleep(0.02)
    assert crew.in_flight == 3
    gate.set()
    assert next(outcome) is None


def test_a_single_call_is_made_again_after_a_cut() -> None:
    crew = Crew()
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) == 1:
            crew.cut()
            raise ConnectionLost("cut")
        return "answer"

    assert crew.once(call) == "answer"
    assert len(calls) == 2


def test_a_pause_between_calls_comes_into_force_at_the_next_one() -> None:
    crew = Crew()
    assert crew.pause(5) == 0
    with pytest.raises(Interrupted):
        crew.once(lambda: pytest.fail("not to be called"))
    assert not crew.resume()


def test_a_taker_that_blocks_is_counted_as_in_flight_and_can_be_interrupted() -> None:
    crew = Crew(2)
    entered = threading.Event()

    def take() -> int | None:
        entered.set()
        while not crew.interrupting:
            time.sleep(0.002)
        raise Interrupted("reading was cut")

    outcome = in_background(lambda: crew.run(take, lambda piece: None, lambda piece: None))
    next(outcome)
    assert entered.wait(5)
    assert crew.pause(0.05) == 1
    assert isinstance(next(outcome), Interrupted)


def test_an_error_of_the_taker_ends_the_run() -> None:
    def take() -> int | None:
        raise OSError("the stream broke")

    with pytest.raises(OSError, match="broke"):
        Crew(2).run(take, lambda piece: None, lambda piece: None)


def test_waiting_for_bandwidth_ends_when_what_is_in_flight_has_to_go() -> None:
    crew = Crew()
    assert crew.wait(0.01) is False
    threading.Timer(0.05, crew.stop).start()
    # Nothing is in flight here, so the stop itself is what ends the wait.
    assert crew.wait(10) is True


def test_no_threads_are_left() -> None:
    before = threading.active_count()
    for _ in range(5):
        work = Work()
        work.gate.set()
        work.run()
        work.crew.stop()
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before  # one of another test may have ended meanwhile
