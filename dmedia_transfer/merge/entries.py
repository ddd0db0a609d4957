"""Entries: one entry of a queue out of what several revisions have made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dmedia_transfer.merge.identities import as_mapping
from dmedia_transfer.merge.threeway import MISSING, UNKNOWN, Side, settle

_WHAT: Final = ("action", "file_id", "store_id", "only")  # belong together: the action of one is no good for the other
_DEFAULTS: Final[Mapping[str, Any]] = {"paused": False, "priority": 0, "metered": False, "moved": 0.0}
_PREFER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "paused": lambda one, other: one or other,
    "priority": max,
    "moved": max,
    "metered": lambda one, other: one and other,  # what costs money is meant by both
}


def merged_entry(sides: Sequence[Side]) -> Any:
    """The entry that several revisions have, each of them understood; those that know most come first."""
    first = sides[0].value
    if all(side.value == first for side in sides):
        return first
    if len(sides) == 2:  # the common case, and quick: only one of them has changed it
        if sides[1].value == sides[1].base:
            return first
        if first == sides[1].base:
            return _worded_as(first, sides[1].value)
    raws = [as_mapping(side.value) for side in sides]
    bases = [as_mapping(side.base) if isinstance(side.base, str | dict) else None for side in sides]
    ranks = [side.rank for side in sides]
    lead = raws[0]
    merged = dict(lead)
    disputed = {key for raw in raws[1:] for key in (*raw, *lead) if raw.get(key, MISSING) != lead.get(key, MISSING)}
    for key in sorted(disputed.difference(_WHAT)):
        default = _DEFAULTS.get(key, MISSING)
        values = [raw.get(key, default) for raw in raws]
        olds = [UNKNOWN if base is None else base.get(key, default) for base in bases]
        value = settle(list(map(Side, values, olds, ranks)), _PREFER.get(key))
        if value is MISSING:
            merged.pop(key, None)
        elif value != default or key in lead:
            merged[key] = value
    if not disputed.isdisjoint(_WHAT):
        whats = [_what(raw) for raw in raws]
        olds = [UNKNOWN if base is None else _what(base) for base in bases]
        for key, value in zip(_WHAT, settle(list(map(Side, whats, olds, ranks))), strict=True):
            if value is MISSING:
                merged.pop(key, None)
            else:
                merged[key] = value
    return first if merged == lead else merged


def _worded_as(lead: Any, value: Any) -> Any:
    """The entry with defaults spelled out where `lead` does so, as a merge of more than two has them.

    Else the same merge, once more and with what it had written, would come to another wording, and be written again.
    """
    if not isinstance(lead, dict) or not isinstance(value, dict):
        return value
    worded = {key: each for key, each in value.items() if key in lead or each != _DEFAULTS.get(key, MISSING)}
    worded.update({key: lead[key] for key, each in _DEFAULTS.items() if key not in value and lead.get(key) == each})
    return lead if worded == lead else worded


def _what(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(raw.get(key, MISSING) for key in _WHAT)
