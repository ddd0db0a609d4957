"""Conflicts: one machine document out of all its leaf revisions.

Two devices have edited a queue while apart, and CouchDB has kept both revisions. What comes out here is the same
whatever the order in which the leaves are given, on whatever machine, and merging it once more changes nothing.

- An entry is removed by a revision that lacks it and descends from one that had it. Where that cannot be told, the
  entry stays. What was removed on one branch is gone, whatever was changed on another.
- What has a tombstone does not come back. An entry without `id` that has left comes back only with a revision that
  descends from the one that it left with: there, somebody has asked for it again.
- Of a field, a change wins over none. Of two changes: `paused` true, the higher priority, else the greater revision.
- Other keys of the document likewise; `forgotten` true always wins, and lists of certificates are united.
- What cannot be understood is carried through; a key that does not hold what it should says and removes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.merge.entries import merged_entry
from dmedia_transfer.merge.identities import has_id, likely_identity
from dmedia_transfer.merge.leaf import Base, Leaf, Unit, name_of
from dmedia_transfer.merge.lineage import Lineage
from dmedia_transfer.merge.ordering import in_one_order
from dmedia_transfer.merge.threeway import MISSING, UNKNOWN, Side, settle

_NESTED: Final = ("peer", "stores")  # objects that are merged key by key
_CERTIFICATES: Final = "certificates"

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """What comes out of a merge."""

    raw: Raw  # the document, to be written over `raw["_rev"]`, unless that has the same body
    changed: bool  # whether it differs from that revision
    losers: tuple[str, ...] = ()  # revisions to be deleted, once the merged one is written
    removed: tuple[str, ...] = ()  # identities that were in some revision and that another one has removed
    leaves: tuple[Raw, ...] = ()  # what was merged, the winner first


def merge_leaves(
    leaves: Iterable[Mapping[str, Any]],
    *,
    lineage: Lineage,
    tombstones: Container[str] = (),
    bases: Mapping[str, Mapping[str, Any]] | None = None,
    last: Mapping[str, Any] | None = None,
) -> Merged:
    """Merge leaf revisions of this machine's document.

    Args:
        leaves: The leaf revisions that do not delete the document, with `_rev` and `_revisions`; at least one.
        lineage: What is remembered of the queue.
        tombstones: The `id`s of entries that have ended or were removed.
        bases: Bodies of revisions that were in force, or were merged, by their names; the more, the better fields are
            merged.
        last: The revision that is in force. If no leaf descends from it the database has lost it, in a restore for
            example, and it is merged with the others.
    """
    known = {**(bases or {})}
    if last is not None and "_rev" in last:
        known[str(last["_rev"])] = last
    found = {str(raw.get("_rev")): raw for raw in leaves}
    real = sorted((Leaf.of(raw, lineage, known) for raw in found.values()), key=lambda leaf: leaf.rank, reverse=True)
    winner = real[0]
    lost = _lost(last, real, lineage)
    sides = _with_news([*real, *([lost] if lost else [])], lineage)
    removed: set[str] = set()
    speaking = [leaf for leaf in sides if leaf.queue is not None]
    if not speaking and last is not None:
        # None of them has a queue: the one in force stays.
        speaking = [Leaf(last, known=winner.known, ancestors=winner.ancestors, base=None)]
    merged = _other_keys(sides, last)
    if any(leaf.queue is not None for leaf in speaking):
        merged["queue"] = _merged_queue(speaking, lineage, tombstones, removed)
    body = {key: merged[key] for key in (*winner.raw, *sorted(merged)) if merged.get(key, MISSING) is not MISSING}
    before = {key: value for key, value in winner.raw.items() if not key.startswith("_")}
    kept = {key: value for key, value in winner.raw.items() if key in ("_id", "_rev", "_attachments")}
    return Merged(
        raw={**kept, **body},
        changed=body != before,
        losers=tuple(sorted(leaf.revision for leaf in real[1:])),
        removed=tuple(sorted(removed)),
        leaves=tuple(dict(leaf.raw) for leaf in real),
    )


def _lost(last: Mapping[str, Any] | None, leaves: Sequence[Leaf], lineage: Lineage) -> Leaf | None:
    """The revision in force, if the database has nothing that descends from it."""
    revision = str(last.get("_rev", "")) if last else ""
    if last is None or not revision:
        return None
    number = lineage.number(revision) or 0
    if any(revision in leaf.ancestors or (number and leaf.known >= number) for leaf in leaves):
        return None
    return Leaf(last, known=number, ancestors=frozenset({revision}), base=Base(last))


def _with_news(leaves: Sequence[Leaf], lineage: Lineage) -> list[Leaf]:
    """Those that say something new, those that know most first. A leaf that was merged before does not."""
    newest = max(leaf.known for leaf in leaves)
    fresh = [leaf for leaf in leaves if not 0 < (lineage.taken_in_at(leaf.revision) or 0) <= newest]
    return sorted(fresh, key=lambda leaf: (leaf.known, leaf.rank), reverse=True)


# The queue.


def _merged_queue(leaves: Sequence[Leaf], lineage: Lineage, tombstones: Container[str], removed: set[str]) -> list[Any]:
    settled = _equal_everywhere(leaves)
    if len(leaves) > 1:
        for leaf in leaves:
            leaf.sort_out(settled)
    kept: dict[Unit, Any] = {}
    for unit in {unit: None for leaf in leaves for unit in leaf.units}:
        name = name_of(unit)
        if name and _is_gone(unit, name, leaves, lineage, tombstones) and _is_understood(unit, settled):
            continue
        if unit in settled:
            kept[unit] = settled[unit]
            continue
        again = bool(name) and lineage.gone_at(name) is not None  # it was asked for anew, so nobody has removed it
        if not again and any(leaf.lacks_what_it_had(unit, lineage) for leaf in leaves):
            if name:
                removed.add(name)
            continue
        having = [leaf for leaf in leaves if unit in leaf.units]
        kept[unit] = merged_entry([_side(leaf, unit) for leaf in having])
    if removed:  # what somebody has made of a removed entry goes with it, though it cannot be understood
        kept = {unit: each for unit, each in kept.items() if likely_identity(each) not in removed}
    order = in_one_order(
        [list(leaf.units) for leaf in leaves], [leaf.base.places if leaf.base else None for leaf in leaves], kept
    )
    return [kept[unit] for unit in order]


def _equal_everywhere(leaves: Sequence[Leaf]) -> dict[Unit, Any]:
    first, *others = leaves
    rest = [leaf.units for leaf in others]
    return {
        unit: entry
        for unit, entry in first.units.items()
        if all(unit in units and units[unit] == entry for units in rest)
    }


def _is_gone(unit: Unit, name: str, leaves: Sequence[Leaf], lineage: Lineage, tombstones: Container[str]) -> bool:
    """Whether an entry has left before, and has only come back with an old revision."""
    if has_id(name):
        return name in tombstones
    gone_at = lineage.gone_at(name)
    return gone_at is not None and not any(unit in leaf.units and leaf.known >= gone_at for leaf in leaves)


def _is_understood(unit: Unit, settled: Mapping[Unit, Any]) -> bool:
    """Whether it is an entry; those that differ were sorted out already."""
    return unit not in settled or documents.is_entry(settled[unit])


def _side(leaf: Leaf, unit: Unit) -> Side:
    base = UNKNOWN if leaf.base is None else leaf.base.units.get(unit, UNKNOWN)
    return Side(leaf.units[unit], base, leaf.rank)


# The other keys.


def _other_keys(leaves: Sequence[Leaf], last: Mapping[str, Any] | None) -> Raw:
    """All keys but the queue; MISSING for those that are not to be there."""
    names = {key for leaf in leaves for key in leaf.raw} | (set(last) if last else set())
    merged: Raw = {}
    for key in sorted(names):
        if key == "queue" or key.startswith("_"):
            continue
        sides = [
            Side(
                leaf.raw.get(key, MISSING),
                UNKNOWN if leaf.base is None else leaf.base.raw.get(key, MISSING),
                leaf.rank,
            )
            for leaf in leaves
            if key not in leaf.silent
        ]
        if not sides:
            merged[key] = MISSING if last is None else last.get(key, MISSING)
        elif key == "forgotten":
            merged[key] = any(side.value is True for side in sides) or settle(sides)
        elif key == "queue_paused":
            merged[key] = settle(_with_default(sides, False), lambda one, other: one or other)
            if merged[key] is False and all(side.value is MISSING for side in sides):
                merged[key] = MISSING
        elif key in _NESTED:
            merged[key] = _merged_object(sides)
        else:
            merged[key] = settle(sides)
    return merged


def _with_default(sides: Sequence[Side], default: object) -> list[Side]:
    return [
        Side(
            default if side.value is MISSING else side.value,
            default if side.base is MISSING else side.base,
            side.rank,
        )
        for side in sides
    ]


def _merged_object(sides: Sequence[Side]) -> Any:
    """An object, merged key by key; as a whole if it is something else in one of the revisions."""
    there = [side for side in sides if side.value is not MISSING]
    if not there or not all(isinstance(side.value, Mapping) for side in there):
        return settle(sides)
    merged: Raw = {}
    for key in dict.fromkeys(key for side in there for key in side.value):
        inner = [
            Side(
                side.value.get(key, MISSING),
                side.base.get(key, MISSING) if isinstance(side.base, Mapping) else UNKNOWN,
                side.rank,
            )
            for side in there
        ]
        value = _united(inner) if key == _CERTIFICATES else settle(inner)
        if value is not MISSING:
            merged[key] = value
    return merged


def _united(sides: Sequence[Side]) -> Any:
    """Lists as one, without repetition: a certificate must not be lost to a conflict."""
    lists = [side.value for side in sides if isinstance(side.value, list)]
    if not lists:
        return settle(sides)
    found = {json.dumps(one, sort_keys=True): one for each in lists for one in each}
    first = {json.dumps(one, sort_keys=True): one for one in lists[0]}
    return [*first.values(), *(found[key] for key in sorted(found.keys() - first.keys()))]
