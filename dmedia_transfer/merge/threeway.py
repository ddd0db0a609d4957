"""Three-way merge of single values: who has changed what since the revision that both know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Rank = tuple[int, str]  # generation and hash: CouchDB's order of revisions

MISSING: Final = type("Missing", (), {"__repr__": lambda _: "MISSING"})()  # a key that is not there
UNKNOWN: Final = type("Unknown", (), {"__repr__": lambda _: "UNKNOWN"})()  # nobody knows what was there before


@dataclass(frozen=True, slots=True)
class Side:
    """One revision's value."""

    value: Any  # or MISSING
    base: Any  # what it was in the revision from which this side went its own way; MISSING, or UNKNOWN
    rank: Rank


def settle(sides: Sequence[Side], prefer: Callable[[Any, Any], Any] | None = None) -> Any:
    """The value of several revisions together.

    A change since the base wins over none. Of two changes, or where no base is known, `prefer` decides; without
    it that of the greater revision wins, and what is there over what is MISSING and perhaps never was.

    Args:
        sides: At least one; those that know most come first.
        prefer: The better one of two values; neither is MISSING.
    """
    value, rank = sides[0].value, sides[0].rank
    for side in sides[1:]:
        if side.value == value:
            rank = max(rank, side.rank)
            continue
        if side.base is not UNKNOWN:
            if side.value == side.base:
                continue  # not changed, only older
            if value == side.base:
                value, rank = side.value, side.rank
                continue
        elif MISSING in (value, side.value):
            value = side.value if value is MISSING else value
            continue
        if prefer is not None and MISSING not in (value, side.value):
            value = prefer(value, side.value)
        elif side.rank > rank:
            value, rank = side.value, side.rank
    return value
