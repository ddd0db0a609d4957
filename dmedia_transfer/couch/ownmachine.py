"""This machine's own document: merged when it is in conflict, written back when it is lost, edited.

One thread, the library's, reads and writes through `edit`; `remember` may be called from the manager's, and is quick.

A conflict is resolved in this order: what the merge compares with is kept in the journal; the merged revision is
written; when the database has it, it is in force and the journal knows it; only then the losing revisions are deleted.
A crash at any point leaves leaves, and merging them once more comes to the same (`_bulk_docs` is not atomic, so that
writing and deleting cannot be one step).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from dmedia_transfer import documents, faults, merge
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.errors import Conflict
from dmedia_transfer.merge.identities import has_id, likely_identity
from dmedia_transfer.model import QueueEdit

log = logging.getLogger(__name__)

EDIT_ATTEMPTS: Final = 10  # of a document that others write at the same time
BODIES_KEPT: Final = 500  # revisions that were in force, to compare with those that went their own way from there
BODY_ENTRIES_KEPT: Final = 1_000_000  # references to entries in them; the entries themselves are mostly the same

Raw = dict[str, Any]


class Revisions(Protocol):
    """What of a `Database` this needs."""

    def get(self, document_id: str, *, conflicts: bool = False) -> Raw | None:
        """The winning revision; with `_conflicts`, if it has any."""

    def get_leaves(self, document_id: str) -> list[Raw]:
        """All leaf revisions that do not delete the document, with `_revisions`."""

    def get_revision(self, document_id: str, revision: str) -> Raw | None:
        """An older revision; None if the database does not have its body any more."""

    def put(self, raw: Mapping[str, Any]) -> str:
        """Write over `_rev`; the new revision."""

    def delete_leaves(self, document_id: str, revisions: Iterable[str]) -> None:
        """Delete these leaf revisions; those that are no leaves any more are left alone."""


class OwnMachine:
    """The document of this machine."""

    def __init__(self, database: Revisions, machine_id: str, hostname: str, memory: MachineMemory) -> None:
        """Nothing is read or written yet, but for the lineage, which is read from `memory`."""
        self._database = database
        self._machine_id = machine_id
        self._hostname = hostname
        self._memory = memory
        self._lock = threading.Lock()  # guards what follows
        self._lineage = memory.lineage.load()
        self._known: Raw | None = None  # the revision in force
        self._doubted = ""  # the revision that the feed has brought last; empty if it is in conflict
        self._told: list[Raw] = []  # revisions that the feed has brought and that came into force at once
        self._peer: Raw | None = None  # what `peer` shall say; None: whatever it says
        # The rest belongs to the library's thread.
        self._bodies: OrderedDict[str, Raw] = OrderedDict()
        self._kept: str | None = None  # the revision that the journal has

    @property
    def known(self) -> Raw | None:
        """The document in force."""
        with self._lock:
            return self._known

    def recall(self, base: Mapping[str, Any]) -> None:
        """Begin with a document that was in force in an earlier life."""
        with self._lock:
            if self._known is None and not merge.unbelievable_keys(base):
                self._known = dict(base)

    def say_of_peer(self, section: Mapping[str, Any]) -> None:
        """`peer` of the document shall say this, from the next edit on, whoever writes it. Any thread.

        Keys of `peer` that are not in `section` are left alone. Where all that it says is empty, nothing is begun.
        """
        with self._lock:
            self._peer = dict(section)

    def remember(self, raw: Mapping[str, Any]) -> bool:
        """The feed has brought a revision. Any thread; quick, and without I/O.

        Returns:
            Whether it is in force as it is. If not, it has to be looked into, by `edit`: it is in conflict, takes
            something away, is older than what is in force, or cannot be believed.
        """
        sound, identities = _is_sound(raw), merge.identities_in(raw)
        with self._lock:
            self._doubted = "" if raw.get("_conflicts") else str(raw.get("_rev", ""))
            if not sound:
                return False
            if self._known is not None and raw.get("_rev") == self._known.get("_rev"):
                return True
            if not self._is_as_we_say(raw):
                return False
            newest = self._told[-1] if self._told else self._known
            if newest is not None and _generation(raw) <= _generation(newest):
                return False
            if self._told and not merge.identities_in(self._told[-1]) <= identities:
                return False
            if not self._lineage.takes_nothing_away(identities):
                return False
            self._told.append(dict(raw))
            return True

    def settle(self) -> Raw | None:
        """Look into what `remember` did not take; returns what is in force, or None if that was known already.

        The feed often tells of a revision that we wrote ourselves before the answer to our writing is there.
        """
        with self._lock:
            known = self._known
            if known is not None and self._doubted == known.get("_rev") and self._is_as_we_say(known):
                return None
        return self.edit([])

    def take_note(self) -> None:
        """Take what `remember` was told into the lineage, with one write to the journal."""
        with self._lock:
            told, self._told = self._told, []
        if told:
            self._accept([raw for raw in told if self._is_newer(raw)])

    def keep(self) -> None:
        """Keep the document in force for a start without database."""
        known = self.known
        revision = str(known.get("_rev", "")) if known else ""
        if known is not None and revision != self._kept:
            self._memory.bases.keep(self._machine_id, revision, known)
            self._kept = revision

    def edit(self, edits: Sequence[QueueEdit]) -> Raw:
        """Merge the document if it is in conflict, apply edits, and write it if anything is different.

        Again and again, if others write it at the same time. Without edits it is brought in order.

        Returns:
            The document as the database has it now, with its `_rev`. It is in force.

        Raises:
            InvalidDocument: The server does not take it; it is too large, for example.
            Conflict: It changed too often.
        """
        for _ in range(EDIT_ATTEMPTS):
            self.take_note()
            current = self._database.get(self._machine_id, conflicts=True)
            merged = self._merged(current)
            after = self._as_we_say(merge.apply(merged.raw, edits))
            if merged.losers:
                self.keep()
            if current is None or merged.changed or after != merged.raw:
                try:
                    after = {**after, "_rev": self._database.put(after)}
                except Conflict:
                    log.debug("machine %s: changed while it was edited, once more", self._machine_id)
                    continue
            faults.point("machine.written")
            self._accept([merged.raw, after] if not merged.changed else [after], merged)
            if merged.losers:
                self.keep()
                faults.point("machine.merged")
                self._database.delete_leaves(self._machine_id, merged.losers)
            return after
        raise Conflict(f"machine {self._machine_id} changed {EDIT_ATTEMPTS} times while it was edited")

    # Merging.

    def _merged(self, current: Raw | None) -> merge.Merged:
        """What the document should be, before any edits."""
        known = self.known
        if current is None:
            log.info("machine %s: has no document in the database, writing one", self._machine_id)
            return merge.Merged(self._filled_in(_plain(known or {}, keep=("_id",))), changed=True)
        if self._is_fine(current, known):
            return merge.Merged(_plain(current), changed=False)
        leaves = self._database.get_leaves(self._machine_id)
        if not leaves:  # deleted in this moment
            return self._merged(None)
        merged = merge.merge_leaves(
            leaves,
            lineage=self._lineage,
            tombstones=_Gone(self._memory, self._lineage.in_force),
            bases=self._bases_of(leaves),
            last=known,
        )
        filled = self._filled_in(merged.raw)
        if merged.losers:
            log.info("machine %s: merging %s revisions in conflict", self._machine_id, len(leaves))
        elif merged.changed:
            log.warning("machine %s: revision %s is mended", self._machine_id, current.get("_rev"))
        if filled == merged.raw:
            return merged
        return replace(merged, raw=filled, changed=True)

    def _is_fine(self, current: Raw, known: Raw | None) -> bool:
        """Whether a revision can come into force as it is, without a look at what it descends from."""
        if known is not None and current.get("_rev") == known.get("_rev"):
            return not current.get("_conflicts")
        if not _is_sound(current) or (known is not None and _generation(current) <= _generation(known)):
            return False
        return self._lineage.takes_nothing_away(merge.identities_in(current))

    def _bases_of(self, leaves: Sequence[Raw]) -> dict[str, Raw]:
        """Revisions that were taken in here and that these leaves descend from, as far as their bodies are known."""
        bases: dict[str, Raw] = {}
        for raw in leaves:
            ancestry = merge.ancestry(raw)
            bases.update((revision, self._bodies[revision]) for revision in ancestry & self._bodies.keys())
            _, view = self._lineage.newest_view(ancestry)
            if view == raw["_rev"]:
                bases[view] = raw
            elif view and view not in bases:
                body = self._database.get_revision(self._machine_id, view)
                if body is not None:
                    bases[view] = body
        return bases

    def _filled_in(self, raw: Raw) -> Raw:
        """With what a machine's document needs."""
        if "type" in raw and raw.get("_id") == self._machine_id:
            return raw
        return documents.new_machine(self._machine_id, self._hostname, time=time.time()) | raw

    # What we say of ourselves.

    def _as_we_say(self, raw: Raw) -> Raw:
        """A document with what `peer` shall say."""
        with self._lock:
            section = self._peer
        there = raw.get("peer")
        if section is None or (there is None and not any(section.values())):
            return raw
        return {**raw, "peer": {**(there if isinstance(there, dict) else {}), **section}}

    def _is_as_we_say(self, raw: Mapping[str, Any]) -> bool:
        """Whether `peer` says what it shall; the lock is held."""
        if self._peer is None:
            return True
        there = raw.get("peer")
        if there is None:
            return not any(self._peer.values())
        return isinstance(there, dict) and all(there.get(key) == value for key, value in self._peer.items())

    # Remembering.

    def _is_newer(self, raw: Raw) -> bool:
        known = self.known
        return known is None or _generation(raw) > _generation(known)

    def _accept(self, views: Sequence[Raw], merged: merge.Merged | None = None) -> None:
        """These revisions have come into force, one after the other, the last out of `merged`."""
        news: list[merge.News] = []
        with self._lock:
            if merged is not None:
                for leaf in merged.leaves:
                    revision = str(leaf["_rev"])
                    self._bodies[revision] = leaf
                    news.append(self._lineage.branch(revision, merge.identities_in(leaf), merge.ancestry(leaf)))
            for raw in views:
                revision = str(raw.get("_rev", ""))
                if self._known is not None and revision == self._known.get("_rev") and self._lineage.number(revision):
                    continue
                shared = _sharing(raw, self._known)
                news.append(self._lineage.view(revision, merge.identities_in(shared)))
                self._known = shared
                self._bodies[revision] = shared
        self._forget_bodies()
        departed = {identity for each in news for identity in each.departed}
        departed.update(merged.removed if merged is not None else ())
        gone = sorted(identity for identity in departed if has_id(identity))
        if gone:
            self._memory.tombstones.removed(gone)
        if news:
            self._memory.lineage.keep(news)

    def _forget_bodies(self) -> None:
        entries = sum(map(_entries, self._bodies.values()))
        while len(self._bodies) > 1 and (len(self._bodies) > BODIES_KEPT or entries > BODY_ENTRIES_KEPT):
            _, body = self._bodies.popitem(last=False)
            entries -= _entries(body)


def _entries(raw: Raw) -> int:
    queue = raw.get("queue")
    return len(queue) if isinstance(queue, list) else 0


class _Gone:
    """The tombstones, but for what is in force: that leaves by an edit, when what it has led to is written."""

    def __init__(self, memory: MachineMemory, in_force: Iterable[str]) -> None:
        self._memory = memory
        self._in_force = frozenset(in_force)

    def __contains__(self, identity: object) -> bool:
        return identity not in self._in_force and self._memory.tombstones.is_gone(str(identity))


def _is_sound(raw: Mapping[str, Any]) -> bool:
    """Whether a revision can be believed, and nothing is in conflict with it."""
    return not (raw.get("_conflicts") or raw.get("_deleted") or merge.unbelievable_keys(raw))


def _generation(raw: Mapping[str, Any]) -> int:
    head = str(raw.get("_rev", "")).partition("-")[0]
    return int(head) if head.isdecimal() else 0


def _plain(raw: Mapping[str, Any], *, keep: Sequence[str] = ("_id", "_rev", "_attachments")) -> Raw:
    """A document without what CouchDB adds on request."""
    return {key: value for key, value in raw.items() if not key.startswith("_") or key in keep}


def _sharing(raw: Raw, known: Raw | None) -> Raw:
    """An equal document that shares its entries with `known`, so that many revisions cost little memory."""
    if known is None or not isinstance(raw.get("queue"), list) or not isinstance(known.get("queue"), list):
        return raw
    there = {likely_identity(entry): entry for entry in known["queue"]}
    queue = []
    for entry in raw["queue"]:
        same = there.get(likely_identity(entry))
        queue.append(same if same is not None and same == entry and type(same) is type(entry) else entry)
    return {**raw, "queue": queue}
