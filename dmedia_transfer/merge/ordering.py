"""Order: one sequence out of several, keeping what they agree on."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

_Key = TypeVar("_Key", bound=Hashable)


def in_one_order(
    orders: Sequence[Sequence[_Key]], bases: Sequence[Mapping[_Key, int] | None], keep: Mapping[_Key, object]
) -> list[_Key]:
    """The keys of `keep` in one order.

    The first sequence that has moved something since its base leads; if none has, the first does. What only others
    have follows what it follows there, behind what the leading one has put at the same place.

    Args:
        orders: The sequences, the most important one first; each key at most once in each.
        bases: For each, where its keys were in the revision from which it went its own way, if that is known.
        keep: The keys that are wanted; each is in one of the sequences.
    """
    kept = [[key for key in order if key in keep] for order in orders]
    moved = [place for place, (order, base) in enumerate(zip(kept, bases, strict=True)) if _has_moved(order, base)]
    lead = moved[0] if moved else 0
    result = kept[lead]
    for order in (*kept[:lead], *kept[lead + 1 :]):
        result = _woven(result, order)
    return result


def _has_moved(order: Sequence[_Key], base: Mapping[_Key, int] | None) -> bool:
    if base is None:
        return False
    places = [base[key] for key in order if key in base]
    return any(one > other for one, other in itertools.pairwise(places))


def _woven(into: Sequence[_Key], order: Sequence[_Key]) -> list[_Key]:
    """`into`, with what only `order` has put behind what comes before it there."""
    there, known = set(into), set(order)
    if known <= there:
        return list(into)
    following: dict[_Key | None, list[_Key]] = {}
    behind: _Key | None = None
    for key in order:
        if key in there:
            behind = key
        else:
            following.setdefault(behind, []).append(key)
    result: list[_Key] = []
    due = following.get(None, [])
    for key in into:
        if key in known:
            result += due
            due = following.get(key, [])
        result.append(key)
    return [*result, *due]
