from __future__ import annotations

from collections.abc import Callable

from dmedia_transfer.backends.pace import FIRST_PIECE_BYTES, MAX_PIECE_BYTES, MIN_PIECE_BYTES, WAIT_S, Pace
from tests.clock import FakeClock


def limited(clock: FakeClock, rate_bps: float) -> Callable[[int], None]:
    """A meter that lets so many bytes per second through."""

    def meter(count: int) -> None:
        clock.now += count / rate_bps

    return meter


def paced(rate_bps: float, pieces: int = 20) -> int:
    clock = FakeClock()
    pace = Pace(clock=clock)
    for _ in range(pieces):
        pace.moved(pace.piece_bytes, limited(clock, rate_bps))
    return pace.piece_bytes


def test_without_a_limit_pieces_grow_to_the_largest_within_a_few() -> None:
    pace = Pace()
    moved = 0
    while pace.piece_bytes < MAX_PIECE_BYTES:
        moved += pace.piece_bytes
        pace.moved(pace.piece_bytes, lambda count: None)
    assert moved < MAX_PIECE_BYTES
    pace.moved(pace.piece_bytes, lambda count: None)
    assert pace.piece_bytes == MAX_PIECE_BYTES


def test_under_a_limit_a_piece_takes_about_as_long_as_it_should() -> None:
    for rate_bps in (400_000.0, 2_000_000.0, 8_000_000.0):
        assert WAIT_S / 2 <= paced(rate_bps) / rate_bps <= WAIT_S * 1.01


def test_a_very_low_limit_does_not_make_pieces_vanish() -> None:
    assert paced(1000.0) == MIN_PIECE_BYTES


def test_pieces_grow_again_when_the_limit_is_gone() -> None:
    clock = FakeClock()
    pace = Pace(clock=clock)
    pace.moved(FIRST_PIECE_BYTES, limited(clock, 100_000.0))
    assert pace.piece_bytes == MIN_PIECE_BYTES
    for _ in range(6):
        pace.moved(pace.piece_bytes, lambda count: None)
    assert pace.piece_bytes == MAX_PIECE_BYTES
