from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.progress import Pace, RateMeter
from tests.clock import FakeClock

BUDGET = 10  # signals within any second


def meter_after(rate: float, seconds: float, *, step_s: float = 0.1) -> tuple[RateMeter, FakeClock]:
    """A meter that has seen a steady rate for a while."""
    clock = FakeClock()
    meter = RateMeter(clock)
    for step in range(1, round(seconds / step_s) + 1):
        clock.now = step * step_s
        meter.update(round(rate * clock.now))
    return meter, clock


@pytest.mark.parametrize("seconds", [1, 5, 60])
def test_a_steady_rate_is_told_from_the_first_second_on(seconds: float) -> None:
    meter, _ = meter_after(1_000_000, seconds)
    assert meter.rate == pytest.approx(1_000_000, rel=0.06)


def test_a_first_burst_is_not_gigabytes_per_second() -> None:
    clock = FakeClock()
    meter = RateMeter(clock)
    clock.now = 0.001
    meter.update(8 << 20)
    assert meter.rate <= 2 * (8 << 20)


def test_what_was_there_before_is_no_rate() -> None:
    clock = FakeClock()
    meter = RateMeter(clock, bytes_done=10**9)
    clock.now = 1.0
    assert meter.rate == 0
    meter.update(10**9 + 1000)
    assert meter.rate == pytest.approx(1000, rel=0.15)


def test_the_rate_falls_while_nothing_moves_and_then_nobody_can_say_when_it_ends() -> None:
    meter, clock = meter_after(1_000_000, 10)
    rates = []
    for _ in range(4):
        clock.now += 2.0
        rates.append(meter.rate)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 300_000
    clock.now += 120
    assert meter.eta_s(10**9) is None


def test_going_back_counts_as_nothing_moved() -> None:
    meter, _ = meter_after(1000, 5)
    before = meter.rate
    meter.update(0)
    assert meter.rate == before
    assert meter.eta_s(5000) == 0.0


def test_time_left_follows_from_rate_and_total() -> None:
    meter, _ = meter_after(1000, 10)
    assert meter.eta_s(20_000) == pytest.approx(10, rel=0.05)
    assert meter.eta_s(0) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**12)), max_size=50))
def test_rate_and_time_left_are_never_negative_nor_infinite(steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    meter = RateMeter(clock)
    for seconds, done in steps:
        clock.now += seconds
        meter.update(done)
        assert 0 <= meter.rate < math.inf
        left = meter.eta_s(10**12)
        assert left is None or 0 <= left < math.inf


class Told:
    """What a listener was sent: one line per signal."""

    def __init__(self, pace: Pace[int], clock: FakeClock) -> None:
        self._pace = pace
        self._clock = clock
        self.summaries: list[tuple[float, tuple[int, ...]]] = []
        self.turns: list[tuple[float, int]] = []
        self.slow: list[tuple[float, int]] = []

    def poll(self) -> None:
        """Send what is due."""
        due = self._pace.due()
        if due.summary:
            self.summaries.append((self._clock.now, due.summary))
        if due.turn is not None:
            self.turns.append((self._clock.now, due.turn))
            if due.turn_in_full:
                self.slow.append((self._clock.now, due.turn))

    def run_until(self, time: float) -> int:
        """Wake up whenever the pace asks for it; returns how often that was."""
        wakes = 0
        while (wait_s := self._pace.wait_s()) is not None and self._clock.now + wait_s <= time:
            self._clock.now += wait_s
            wakes += 1
            assert wakes < 100_000, "the pace asks to be woken without end"
            self.poll()
        self._clock.now = time
        return wakes

    @property
    def signal_times(self) -> list[float]:
        """When each signal was sent."""
        return sorted([*(t for t, _ in self.summaries), *(t for t, _ in self.turns), *(t for t, _ in self.slow)])


def most_within_a_second(times: list[float]) -> int:
    return max((sum(start <= time < start + 1 - 1e-6 for time in times) for start in times), default=0)


moves = st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 30)), max_size=150)


@given(moves)
def test_within_any_second_there_are_at_most_ten_signals(steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    for seconds, key in steps:
        told.run_until(clock.now + seconds)
        pace.moved(key)
    told.run_until(clock.now + 60)
    assert most_within_a_second(told.signal_times) <= BUDGET
    assert most_within_a_second([time for time, _ in told.summaries]) <= 4


@given(moves)
def test_what_moved_is_always_told_in_the_end_and_then_nobody_is_woken(steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    last_moved = {}
    for seconds, key in steps:
        told.run_until(clock.now + seconds)
        pace.moved(key)
        last_moved[key] = clock.now
    told.run_until(clock.now + 60)
    for key, moved in last_moved.items():
        assert any(time >= moved and key in keys for time, keys in told.summaries)
        assert any(time >= moved and each == key for time, each in told.turns)
    assert pace.wait_s() is None


@given(moves, st.integers(0, 30))
def test_last_values_take_the_place_of_turns(steps: list[tuple[float, int]], ends: int) -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    last: list[float] = []
    for number, (seconds, key) in enumerate(steps):
        told.run_until(clock.now + seconds)
        pace.moved(key)
        if number < ends:
            pace.ended(key, signals=1)
            last.append(clock.now)
    told.run_until(clock.now + 60)
    for start in told.signal_times:
        window = [time for time in told.signal_times + last if start <= time < start + 1 - 1e-6]
        at_once = sum(start <= time < start + 1 - 1e-6 for time in last)
        assert len(window) <= max(BUDGET, 4 + 6 + at_once)


def test_all_that_move_get_their_turn() -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    for _ in range(300):
        for key in range(20):
            pace.moved(key)
        told.run_until(clock.now + 0.1)
    counts = [sum(each == key for _, each in told.turns) for key in range(20)]
    assert max(counts) - min(counts) <= 1


def test_one_that_moves_alone_is_told_of_about_five_times_a_second() -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    for _ in range(1000):
        pace.moved(1)
        told.run_until(clock.now + 0.01)
    assert 40 <= len(told.turns) <= 60
    assert 8 <= len(told.slow) <= 11
    assert 38 <= len(told.summaries) <= 41


def test_what_ended_gets_no_more_turns_but_is_in_the_next_summary() -> None:
    clock = FakeClock()
    pace: Pace[int] = Pace(clock)
    told = Told(pace, clock)
    pace.moved(1)
    pace.ended(1, signals=1)
    assert pace.unsummed(1)
    told.run_until(10)
    assert [keys for _, keys in told.summaries] == [(1,)]
    assert told.turns == []
