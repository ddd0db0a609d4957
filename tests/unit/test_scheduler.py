"""What runs next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.scheduler import Running, Scheduler


def key(number: int) -> TransferKey:
    return TransferKey(Direction.DOWNLOAD, f"{number:048}", "")


def scheduler(*, most: int = 4, per_store: int = 4) -> Scheduler:
    return Scheduler(max_transfers=most, max_transfers_per_store=per_store)


def test_the_higher_priority_goes_first_and_among_equals_the_earlier_one() -> None:
    ready = scheduler()
    for number, priority in enumerate([0, 10, 0, 10]):
        ready.ready(key(number), store_id="s", priority=priority, order=number)
    assert [ready.next({}) for _ in range(5)] == [key(1), key(3), key(0), key(2), None]


def test_what_was_withdrawn_or_moved_is_not_picked_by_its_old_rank() -> None:
    ready = scheduler()
    for number in range(3):
        ready.ready(key(number), store_id="s", priority=0, order=number)
    ready.withdraw(key(0))
    ready.ready(key(1), store_id="t", priority=0, order=9)
    assert [ready.next({}) for _ in range(3)] == [key(2), key(1), None]


def test_a_store_that_is_full_lets_others_go_by() -> None:
    ready = scheduler(per_store=1)
    ready.ready(key(0), store_id="s", priority=0, order=0)
    ready.ready(key(1), store_id="t", priority=0, order=1)
    running = {key(9): Running("s", 0)}
    assert ready.next(running) == key(1)
    assert ready.next(running) is None
    assert ready.next({}) == key(0)


def test_only_now_preempts_and_only_what_is_lower() -> None:
    ready = scheduler(most=2)
    running = {key(8): Running("s", 10), key(9): Running("s", -10)}
    ready.ready(key(0), store_id="s", priority=99, order=0)
    assert ready.victim(running) is None
    ready.ready(key(1), store_id="s", priority=100, order=1)
    assert ready.victim(running) == key(9)
    assert ready.victim({**running, key(9): Running("s", -10, leaving=True)}) is None
    assert ready.victim({key(8): Running("s", 100), key(9): Running("s", 200)}) is None


def test_when_the_limit_is_lowered_the_least_urgent_gives_way_and_among_equals_the_last() -> None:
    ready = scheduler(most=1)
    running = {key(7): Running("s", 0), key(8): Running("s", 0), key(9): Running("s", 10)}
    assert ready.victim(running) == key(8)
    running[key(8)] = Running("s", 0, leaving=True)
    assert ready.victim(running) == key(7)
    running[key(7)] = Running("s", 0, leaving=True)
    assert ready.victim(running) is None


def test_the_first_few_are_known_without_being_taken() -> None:
    ready = scheduler()
    for number in range(10):
        ready.ready(key(number), store_id=str(number % 3), priority=number % 2, order=number)
    assert ready.first(3) == [key(1), key(3), key(5)]
    assert len(ready) == 10


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("stu"), st.integers(-1, 1), st.integers(0, 20), st.booleans()),
        max_size=40,
    )
)
def test_whatever_was_offered_and_withdrawn_the_best_is_picked(
    steps: list[tuple[int, str, int, int, bool]],
) -> None:
    ready = scheduler()
    model: dict[TransferKey, tuple[int, int]] = {}
    for number, store_id, priority, order, stays in steps:
        if stays:
            ready.ready(key(number), store_id=store_id, priority=priority, order=order)
            model[key(number)] = (-priority, order)
        else:
            ready.withdraw(key(number))
            model.pop(key(number), None)
    picked = []
    while (best := ready.next({})) is not None:
        picked.append(best)
    assert picked == sorted(model, key=lambda one: (model[one], one))
