"""How far a job is: never back, never beyond the total."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.tally import Tally

SIZES = {0: 100, 1: 100, 2: 30}
TOTAL = sum(SIZES.values())


def test_what_is_in_flight_counts_until_it_is_dropped_and_is_not_taken_back() -> None:
    tally = Tally(TOTAL)
    tally.moved(0, 60, "A")
    assert tally.bytes_done == 60
    tally.dropped(0)
    assert tally.bytes_done == 60, "what was shown stays"
    tally.moved(0, 70, "B")
    assert tally.bytes_done == 70
    tally.done(0, 100)
    tally.done(0, 100)
    assert (tally.bytes_done, tally.pieces_done) == (100, 1)
    assert (tally.sent_bytes, tally.stores) == (130, (("A", 60), ("B", 70)))


def test_work_that_begins_anew_is_counted_anew() -> None:
    tally = Tally(TOTAL)
    tally.done(0, 100)
    tally.undone()
    tally.done(1, 100)
    assert (tally.bytes_done, tally.pieces_done) == (100, 1)


STEPS = st.tuples(
    st.sampled_from(["moved", "dropped", "done", "undone"]), st.sampled_from(list(SIZES)), st.integers(1, 90)
)


@given(st.lists(STEPS))
def test_progress_never_goes_back_and_never_beyond_the_total(steps: list[tuple[str, int, int]]) -> None:
    shown = [0]
    tally = Tally(TOTAL, lambda tally: shown.append(tally.bytes_done))
    for step, piece, count in steps:
        match step:
            case "moved":
                tally.moved(piece, count)
            case "dropped":
                tally.dropped(piece)
            case "done":
                tally.done(piece, SIZES[piece])
            case _:
                tally.undone()
        shown.append(tally.bytes_done)
    assert shown == sorted(shown)
    assert shown[-1] <= TOTAL
    for piece, size in SIZES.items():
        tally.done(piece, size)
    assert tally.bytes_done == TOTAL


def test_what_is_on_its_way_and_what_was_wrong_is_told_until_it_came_right() -> None:
    tally = Tally(100)
    seen = []
    tally.moved(3, 5)
    tally.moved(1, 5)
    seen.append((tally.in_flight, tally.wrong))
    tally.dropped(3)
    tally.differs(3)
    seen.append((tally.in_flight, tally.wrong))
    tally.done(3, 10)
    tally.done(1, 10)
    seen.append((tally.in_flight, tally.wrong))
    assert seen == [((1, 3), ()), ((1,), (3,)), ((), ())]
