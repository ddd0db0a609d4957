"""Edits of a machine's queue: applied to the raw document, idempotent, losing nothing that others wrote.

A machine document is written by several devices. Here an edit changes the entries that it names and nothing
else: keys that are not known, entries that cannot be understood, and the order stay as they are. Applying the
same batch again changes nothing, so that a batch whose answer got lost is simply sent again.

Pure functions over documents: no I/O, and any thread may call them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.merge import identities as names
from dmedia_transfer.merge.identities import as_mapping, likely_identity
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Entry,
    MoveEntries,
    PauseQueue,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
)

_GONE: Final = object()  # where an entry was taken out, until the queue is closed up


def apply(raw: Mapping[str, Any], edits: Sequence[QueueEdit]) -> dict[str, Any]:
    """A machine document after `edits`, which are done in order; `raw` itself is not changed.

    An entry is known by its `Entry.identity`. Ids are not written into entries made elsewhere, except by
    `RenewEntry`. An edit of an entry that is not there changes nothing. A `queue` that is no list counts as empty,
    and is left alone unless something is added.

    Doing the same batch again gives an equal document, provided that an identity which was taken out is not added
    again (a new request has a new id).
    """
    queue = raw.get("queue")
    work = _Work(queue if isinstance(queue, list) else [])
    changes: dict[str, Any] = {}
    for edit in edits:
        match edit:
            case AddEntry(entry):
                work.add(entry)
            case RemoveEntries(identities):
                for identity in identities:
                    work.remove(identity)
            case ChangeEntries(identities, paused, priority, metered):
                for identity in identities:
                    work.change(identity, paused=paused, priority=priority, metered=metered)
            case MoveEntries(identities, before, time):
                work.move(identities, before, time)
            case RenewEntry(identity, new_id):
                work.renew(identity, new_id)
            case PauseQueue(paused):
                if paused or "queue_paused" in raw or changes:  # else False says no more than the missing key
                    changes["queue_paused"] = paused
    if work.touched:
        changes["queue"] = work.closed_up()
    return {**raw, **changes}


def queue_in_force(raw: Mapping[str, Any], edits: Sequence[QueueEdit]) -> documents.Queue:
    """What is wanted: a machine document's queue and the edits that the database has not taken yet.

    Raises:
        InvalidDocument: The document cannot be believed; entries of it that cannot are among `Queue.problems`.
    """
    return documents.read_queue(documents.read_machine(apply(raw, edits)))


def queue_edits(edits: Iterable[object]) -> list[QueueEdit]:
    """Those of `edits` that are about the queue, in order."""
    return [edit for edit in edits if isinstance(edit, QueueEdit)]


def additions(edits: Sequence[QueueEdit]) -> frozenset[QueueEdit]:
    """The edits that wait when nothing may be added: what adds, and what is about an entry that would be added."""
    held: set[QueueEdit] = set()
    names: set[str] = set()
    for edit in edits:
        match edit:
            case AddEntry(entry):
                named, new = {entry.identity}, {entry.identity}
            case RemoveEntries(identities) | ChangeEntries(identities):
                named, new = names.intersection(identities), set()
            case MoveEntries(identities, before):
                named, new = names.intersection((*identities, before)), set()
            case RenewEntry(identity, new_id):
                named, new = names & {identity}, {new_id} if identity in names else set()
            case _:
                continue
        if named:
            held.add(edit)
            names |= new
    return frozenset(held)


class _Work:
    """A queue under edit: the entries at their places, and where each identity is."""

    def __init__(self, queue: Sequence[Any]) -> None:
        self.entries: list[Any] = list(queue)
        self.touched = False
        self._places: dict[str, list[int]] = {}
        self._find_places()

    def _find_places(self) -> None:
        self._places.clear()
        for place, raw in enumerate(self.entries):
            identity = None if raw is _GONE else likely_identity(raw)
            if identity is not None:
                self._places.setdefault(identity, []).append(place)

    def closed_up(self) -> list[Any]:
        """The queue without the gaps."""
        return [raw for raw in self.entries if raw is not _GONE]

    def add(self, entry: Entry) -> None:
        if not self._find(entry.identity):
            self._append(documents.write_entry(entry), entry.identity)

    def remove(self, identity: str) -> None:
        for place in self._find(identity):
            self._put(place, _GONE)
        self._places.pop(identity, None)

    def change(self, identity: str, *, paused: bool | None, priority: int | None, metered: bool | None = None) -> None:
        wanted = {"paused": paused, "priority": priority, "metered": metered}
        for place in self._find(identity):
            raw = as_mapping(self.entries[place])
            news = {
                key: value
                for key, value in wanted.items()
                if value is not None and raw.get(key, type(value)()) != value
            }
            if news:
                self._put(place, {**raw, **news})

    def move(self, identities: Sequence[str], before: str, time: float) -> None:
        moving = [
            place
            for identity in dict.fromkeys(identities)
            for place in self._find(identity)
            if _moved(self.entries[place]) < time
        ]
        if not moving:
            return
        for place in moving:
            self._put(place, {**as_mapping(self.entries[place]), "moved": time})
        anchor = next(iter(self._find(before)), None) if before else len(self.entries)
        if anchor is None:
            return  # it has left the queue: they stay where they are, and count as moved all the same
        chosen, block = set(moving), [self.entries[place] for place in moving]
        head = [raw for place, raw in enumerate(self.entries[:anchor]) if place not in chosen]
        tail = [raw for place, raw in enumerate(self.entries[anchor:], start=anchor) if place not in chosen]
        self.entries = [*head, *block, *tail]
        self._find_places()

    def renew(self, identity: str, new_id: str) -> None:
        if identity == new_id:
            return
        if self._find(new_id):
            self.remove(identity)  # renewed before: what stands under the old identity is an `AddEntry` done twice
            return
        for place in self._find(identity):
            self._put(place, {**as_mapping(self.entries[place]), "id": new_id})
            self._places.setdefault(new_id, []).append(place)
        self._places.pop(identity, None)

    def _find(self, identity: str) -> list[int]:
        """The places of an identity; entries that cannot be understood have none."""
        return [place for place in self._places.get(identity, ()) if names.identity(self.entries[place]) == identity]

    def _put(self, place: int, raw: object) -> None:
        self.entries[place] = raw
        self.touched = True

    def _append(self, raw: object, identity: str) -> None:
        self._places.setdefault(identity, []).append(len(self.entries))
        self.entries.append(raw)
        self.touched = True


def _moved(raw: Any) -> float:
    """When an entry that can be understood was moved last."""
    return float(as_mapping(raw).get("moved", 0.0))
