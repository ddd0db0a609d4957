"""As many connections as help, found on simulated lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmedia_transfer.growth import BUSY_REST_S, FIRST, FIRST_REST_S, MIB, ONE_WORD_S, Growth

Line = Callable[[int], float]  # bytes per second with so many connections


class Run:
    """A job on a line, in a time of its own."""

    def __init__(self, growth: Growth, line: Line) -> None:
        self.growth = growth
        self.line = line
        self.now_s = 1000.0
        self.seen: list[int] = []

    def go(self, seconds: float, *, held: bool = False) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 0.02
            if held:
                self.growth.held()
            self.growth.moved(int(self.line(self.growth.connections) * 0.02), self.now_s)
            self.seen.append(self.growth.connections)


def by_the_connection(count: int) -> float:
    """A far server: each connection has its own speed."""
    return 4.0 * MIB * count


def full_with(enough: int) -> Line:
    """A line that so many connections fill."""
    return lambda count: 4.0 * MIB * min(count, enough)


def test_it_starts_with_few() -> None:
    assert Growth(32).connections == FIRST
    assert Growth(1).connections == 1


def test_it_grows_to_what_is_allowed_while_that_helps() -> None:
    run = Run(Growth(8), by_the_connection)
    run.go(30)
    assert run.growth.connections == 8
    assert run.seen == sorted(run.seen), "without a step back"


def test_a_fast_line_is_not_kept_waiting() -> None:
    run = Run(Growth(4), lambda count: 300.0 * MIB * count)
    run.go(1)
    assert run.growth.connections == 4


@pytest.mark.parametrize("enough", [1, 2, 3, 5])
def test_it_stays_with_what_fills_the_line(enough: int) -> None:
    run = Run(Growth(8), full_with(enough))
    run.go(300)
    least = max(enough, FIRST)
    late = run.seen[len(run.seen) // 2 :]
    assert max(late) <= least + 1, "one more is tried now and then"
    assert sum(count == least for count in late) > 0.9 * len(late)


def test_more_connections_that_make_it_slower_are_taken_back() -> None:
    run = Run(Growth(8), lambda count: 100.0 * MIB / count)
    run.go(FIRST_REST_S / 2)
    assert run.growth.connections == FIRST
    assert max(run.seen) == FIRST + 1


def test_a_line_that_gets_wider_is_noticed() -> None:
    run = Run(Growth(6), full_with(2))
    run.go(60)
    run.line = by_the_connection
    run.go(200)
    assert run.growth.connections == 6


def test_a_server_that_asks_for_less_gets_half_and_no_more_for_a_while() -> None:
    run = Run(Growth(8), by_the_connection)
    run.go(30)
    assert run.growth.refused(run.now_s)
    assert run.growth.connections == 4
    run.go(BUSY_REST_S - 1)
    assert run.growth.connections == 4
    run.go(60)
    assert run.growth.connections == 8


def test_refusals_of_what_was_in_flight_together_are_one() -> None:
    growth = Growth(8, first=8)
    assert [growth.refused(100 + number * ONE_WORD_S / 10) for number in range(8)] == [True] * 8
    assert growth.connections == 4


def test_with_one_connection_fewer_are_no_answer() -> None:
    growth = Growth(4, first=1)
    assert not growth.refused(100.0)
    assert growth.connections == 1


def test_while_our_own_limit_holds_us_up_nothing_is_learned() -> None:
    run = Run(Growth(8), by_the_connection)
    run.go(60, held=True)
    assert set(run.seen) == {FIRST}


def test_a_pause_is_no_slowness() -> None:
    run = Run(Growth(8), by_the_connection)
    run.go(1.5)
    trying = run.growth.connections
    assert trying > FIRST
    run.now_s += 3600
    run.go(20)
    assert run.growth.connections == 8


def test_what_the_user_allows_holds_at_once() -> None:
    run = Run(Growth(8), by_the_connection)
    run.go(30)
    run.growth.allow(3)
    assert run.growth.connections == 3
    run.go(60)
    assert run.growth.connections == 3
    run.growth.allow(5)
    assert run.growth.connections == 5, "who allows more while it runs wants to see it"
    run.go(60)
    assert run.growth.connections == 5


@given(
    most=st.integers(1, 32),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("moved"), st.integers(0, 64 * MIB), st.floats(0, 5)),
            st.tuples(st.just("refused"), st.just(0), st.floats(0, 5)),
            st.tuples(st.just("allow"), st.integers(1, 32), st.just(0.0)),
            st.tuples(st.just("held"), st.just(0), st.just(0.0)),
        ),
        max_size=200,
    ),
)
@settings(max_examples=100)
def test_whatever_happens_there_is_one_and_never_more_than_allowed(
    most: int, steps: list[tuple[str, int, float]]
) -> None:
    growth, now_s = Growth(most), 0.0
    for what, number, seconds in steps:
        now_s += seconds
        before = growth.connections
        match what:
            case "moved":
                growth.moved(number, now_s)
                assert abs(growth.connections - before) <= 1
            case "refused":
                assert growth.refused(now_s) or before == 1
            case "allow":
                growth.allow(most := number)
            case _:
                growth.held()
        assert 1 <= growth.connections <= most
