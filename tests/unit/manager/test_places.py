"""Places in the queue: everything in order, and as few as possible moved."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.manager.places import changed_places

PLACES = st.lists(st.floats(-100, 100, allow_nan=False).map(lambda number: round(number, 1)), max_size=7)


def settled(places: list[float]) -> list[float]:
    changed = changed_places(places)
    return [changed.get(index, place) for index, place in enumerate(places)]


@given(PLACES)
def test_all_are_in_order_afterwards(places: list[float]) -> None:
    assert all(one < other for one, other in pairwise(settled(places)))


@given(PLACES)
def test_no_fewer_could_have_been_moved(places: list[float]) -> None:
    longest = max(
        size
        for size in range(len(places) + 1)
        for kept in combinations(places, size)
        if all(one < other for one, other in pairwise(kept))
    )
    assert len(changed_places(places)) == len(places) - longest


def test_one_of_ten_thousand_is_moved_by_changing_one_number() -> None:
    places = [float(number) for number in range(10_000)]
    assert changed_places(places) == {}
    assert changed_places([9999.0, *places[:-1]]) == {0: -1.0}
    assert changed_places([*places[1:], 0.0]) == {9999: 10_000.0}
    assert changed_places([*places[:5], 7000.0, *places[5:7000], *places[7001:]]) == {5: 4.5}


def test_where_there_is_no_room_in_between_any_more_all_are_numbered_anew() -> None:
    assert changed_places([1.0, 9.0, 1.000001]) == {1: 2.0, 2: 3.0}
