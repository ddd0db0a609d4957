"""Leaf: one leaf revision of a machine document, as the merge looks at it.

Units are the entries of a queue under names that are unique within it: the identity, or for a second entry of the same
identity that and a number. An entry that cannot be understood is known by its value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from dmedia_transfer import documents
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.merge.identities import has_id, likely_identity
from dmedia_transfer.merge.lineage import Lineage, ancestry
from dmedia_transfer.merge.threeway import Rank

Unit = str | tuple[str, int] | tuple[str, int, str]


def rank_of(revision: str) -> Rank:
    """Where a revision stands in CouchDB's order."""
    generation, _, digest = revision.partition("-")
    return (int(generation) if generation.isdecimal() else 0, digest)


class Leaf:
    """A leaf revision; what of it cannot be believed says nothing."""

    def __init__(self, raw: Mapping[str, Any], *, known: int, ancestors: frozenset[str], base: Base | None) -> None:
        self.revision = str(raw.get("_rev", ""))
        self.rank = rank_of(self.revision)
        self.raw = raw
        self.ancestors = ancestors
        self.known = known  # the number of the newest view that it descends from
        self.base = base  # the nearest revision that it descends from and whose body is known
        # Keys of which it says nothing. The size of the queue is not looked at: the database has taken it.
        self.silent = unbelievable_keys({**raw, "queue": []} if isinstance(raw.get("queue"), list) else raw)
        queue = raw.get("queue")
        self.queue: list[Any] | None = queue if isinstance(queue, list) else None
        self.units: dict[Unit, Any] = {}
        try:
            self.units = in_units(self.queue or ())
        except RecursionError:  # nested too deeply
            self.queue = None
        self.mentioned: set[str] = set()  # identities of entries that cannot be understood here

    @classmethod
    def of(cls, raw: Mapping[str, Any], lineage: Lineage, bases: Mapping[str, Mapping[str, Any]]) -> Leaf:
        """Look at a leaf as CouchDB gives it, with `_revisions`."""
        ancestors = ancestry(raw)
        known, _ = lineage.newest_view(ancestors)
        nearest = max((each for each in ancestors if each in bases), key=rank_of, default=None)
        return cls(raw, known=known, ancestors=ancestors, base=None if nearest is None else Base(bases[nearest]))

    def sort_out(self, settled: Mapping[Unit, Any]) -> None:
        """Put entries that cannot be understood under their value, but for the `settled` ones."""
        renamed: dict[Unit, Any] = {}
        for unit, entry in self.units.items():
            if unit in settled or _is_value(unit):
                renamed[unit] = entry
            elif documents.is_entry(entry):
                _put(renamed, name_of(unit), entry)  # before it there may have been one that is none
            else:
                self.mentioned.add(name_of(unit))
                _put(renamed, by_value(entry), entry)
        self.units = renamed

    def lacks_what_it_had(self, unit: Unit, lineage: Lineage) -> bool:
        """Whether an entry that is not here was removed on this branch."""
        if self.queue is None or unit in self.units:
            return False
        if _is_value(unit):
            return self.base is not None and unit in self.base.values
        name = name_of(unit)
        if name in self.mentioned:
            return False
        if has_id(name) and self.base is not None and unit in self.base.units:
            return True  # of one without `id`, that may have been an earlier request
        return unit == name and lineage.had(name, self.ancestors, self.known)


class Base:
    """A revision that was taken in, and from which a leaf went its own way."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        queue = raw.get("queue")
        self.units: dict[Unit, Any] = in_units(queue if isinstance(queue, list) else ())
        self.places = {unit: place for place, unit in enumerate(self.units)}

    @cached_property
    def values(self) -> frozenset[Unit]:
        """The entries by their values, whether they can be understood or not."""
        return frozenset(by_value(entry) for entry in self.units.values())


def unbelievable_keys(raw: Mapping[str, Any]) -> frozenset[str]:
    """The keys of a machine document that do not hold what they should."""
    rest = dict(raw)
    bad: set[str] = set()
    for _ in range(len(documents.MachineDocument.model_fields)):
        try:
            documents.read_machine(rest)
        except InvalidDocument as problem:
            key = problem.key.partition(".")[0]
            if key in bad or key.startswith("_"):
                break
            bad.add(key)
            if key == "type":
                rest["type"] = documents.MACHINE
            else:
                rest.pop(key, None)
        else:
            break
    return frozenset(bad)


def in_units(queue: Iterable[Any]) -> dict[Unit, Any]:
    """The entries of a queue by their units, in order."""
    units: dict[Unit, Any] = {}
    for entry in queue:
        name = likely_identity(entry)
        if name is not None and name not in units:
            units[name] = entry
        else:
            _put(units, by_value(entry) if name is None else name, entry)
    return units


def by_value(entry: Any) -> Unit:
    """The unit of an entry that cannot be understood."""
    return ("", 0, json.dumps(entry, sort_keys=True))


def name_of(unit: Unit) -> str:
    """The identity that an entry is known by; empty for one known by its value."""
    return unit if isinstance(unit, str) else unit[0]


def _is_value(unit: Unit) -> bool:
    return len(unit) == 3 and not isinstance(unit, str)


def _put(units: dict[Unit, Any], unit: Unit, entry: Any) -> None:
    if unit in units and not _is_value(unit):
        name, number = name_of(unit), 1
        while (name, number) in units:
            number += 1
        unit = (name, number)
    units.setdefault(unit, entry)
