"""How many pieces of a job are worked on at once."""

from __future__ import annotations

import time

import pytest

from dmedia_transfer.growth import FIRST
from dmedia_transfer.lines import Lines


def lines(connections: int, *, grows: bool = False) -> Lines:
    return Lines(connections, grows=grows, clock=time.monotonic)


@pytest.mark.parametrize(("connections", "pieces"), [(1, 4), (4, 7), (6, 8), (8, 8), (16, 16)])
def test_there_are_a_few_pieces_more_than_connections_where_memory_allows(connections: int, pieces: int) -> None:
    those = lines(connections)
    assert (those.connections, those.pieces, those.room) == (connections, pieces, pieces)


def test_there_are_no_more_than_the_job_has() -> None:
    those = lines(4)
    those.most = 2
    assert (those.connections, those.pieces) == (2, 2)


def test_there_is_room_for_as_many_as_may_come() -> None:
    those = lines(6, grows=True)
    assert (those.each, those.together, those.pieces, those.room) == (FIRST, FIRST, FIRST + 3, 8)
    those.spread(2)
    assert (those.each, those.together, those.pieces, those.room) == (FIRST, 2 * FIRST, 8, 12)
    those.connect(1)
    assert (those.each, those.together, those.pieces, those.room) == (1, 2, 5, 5)
