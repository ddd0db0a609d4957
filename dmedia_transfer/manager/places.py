"""Places: numbers that put things in order; when one of ten thousand is moved, one number changes and not all. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_CLOSEST: Final = 1e-6  # two numbers that are closer leave no room in between


def changed_places(places: Sequence[float]) -> dict[int, float]:
    """New numbers for as few as possible, so that each is greater than the one before it.

    Args:
        places: The numbers that there are, in the order that is wanted.

    Returns:
        The new numbers, by the index of what they are for.
    """
    if all(one < other for one, other in pairwise(places)):
        return {}
    staying = _longest_rising(places)
    changed: dict[int, float] = {}
    before: float | None = None
    start = 0
    for stays in (*staying, None):
        end = len(places) if stays is None else stays
        after = None if stays is None else places[stays]
        count = end - start
        for number in range(count):
            place = _between(before, after, number + 1, count)
            changed[start + number] = place
        if stays is not None:
            before, start = places[stays], stays + 1
    after_all = [changed.get(index, place) for index, place in enumerate(places)]
    if all(other - one > _CLOSEST for one, other in pairwise(after_all)):
        return changed
    return {index: float(index + 1) for index, place in enumerate(places) if place != index + 1}


def _between(before: float | None, after: float | None, number: int, count: int) -> float:
    """The `number`th of `count` places between two."""
    if before is None and after is None:
        return float(number)
    if before is None:
        return float(after or 0.0) - (count - number + 1)
    if after is None:
        return before + number
    return before + (after - before) * number / (count + 1)


def _longest_rising(places: Sequence[float]) -> list[int]:
    """The indexes of the most numbers that stand in order already (https://en.wikipedia.org/wiki/Patience_sorting)."""
    tops: list[float] = []
    top_indexes: list[int] = []
    previous: list[int | None] = []
    for index, place in enumerate(places):
        pile = bisect_left(tops, place)
        previous.append(top_indexes[pile - 1] if pile else None)
        tops[pile : pile + 1] = [place]
        top_indexes[pile : pile + 1] = [index]
    found: list[int] = []
    at: int | None = top_indexes[-1] if top_indexes else None
    while at is not None:
        found.append(at)
        at = previous[at]
    return found[::-1]
