"""What the user wants: the machine document's queue, with our own edits that CouchDB has not shown us back yet.

An edit stays in force until the feed has delivered a revision at least as young as the one that it was written in, so
that an older revision which arrives late takes nothing back. Doing an edit twice changes nothing, so a longer stay
does no harm.

Edits are applied here to entries and in `merge` to the raw document; a test holds the two against each other. They are
apart because one more request must not cost a pass over a queue of ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dmedia_transfer.documents import read_machine, read_queue
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Entry,
    MoveEntries,
    PauseQueue,
    PendingEdit,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
    TransferKey,
)


def generation(raw: Mapping[str, Any]) -> int:
    """How many edits a revision is away from the document's first; 0 for a document without a revision."""
    number = str(raw.get("_rev", "")).partition("-")[0]
    return int(number) if number.isdigit() else 0


class Wanted:
    """The queue in force.

    `machine` and `taken`, which may change all of it, return the transfers that nothing asks for any more, or None if
    they have changed nothing; `edited` returns the transfers that it is about, in order.
    """

    def __init__(self) -> None:
        self._edits: dict[int, QueueEdit] = {}  # in force, by their place in the outbox
        self._written: dict[int, int] = {}  # of those, the generation in which CouchDB has them
        self._problems: tuple[InvalidDocument, ...] = ()  # what in the last good revision cannot be understood
        self._known: dict[str, tuple[Any, Entry]] = {}  # in the last good revision, by `id`: raw and read
        self._entries: dict[str, Entry] = {}  # in force, by identity, in the order of the queue
        self._asking: dict[TransferKey, tuple[Entry, ...]] = {}  # the entries that ask for each transfer
        self._invalid: InvalidDocument | None = None  # why the newest revision is not in force
        self._revision: str | None = None  # the one that was read last, if that was good
        self.paused = False  # whether the whole queue is held

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    @property
    def problems(self) -> list[str]:
        """What in the queue cannot be understood."""
        return [str(problem) for problem in (*([self._invalid] if self._invalid else []), *self._problems)]

    def entries(self, key: TransferKey) -> tuple[Entry, ...]:
        """The entries that ask for this transfer; those that have not changed are the same objects as before."""
        return self._asking.get(key, ())

    def in_order(self) -> list[TransferKey]:
        """All transfers that are asked for, in the order of the queue."""
        return list(self._asking)

    def machine(self, raw: Mapping[str, Any]) -> list[TransferKey] | None:
        """The feed has a revision; one that is not valid leaves the last good one in force."""
        seen = generation(raw)
        for seq in [seq for seq, written in self._written.items() if written <= seen]:
            del self._edits[seq], self._written[seq]
        return self._read(raw)

    def edited(self, pending: Iterable[PendingEdit]) -> list[TransferKey]:
        """These edits are in the outbox, and in force from now on."""
        concerned: list[TransferKey] = []
        for one in pending:
            if isinstance(one.edit, QueueEdit):
                self._edits[one.seq] = one.edit
                concerned += self._apply(one.edit)
        return concerned

    def taken(self, seqs: Iterable[int], raw: Mapping[str, Any]) -> list[TransferKey] | None:
        """CouchDB has these edits, in this revision; the feed has not told of it yet, and may tell of older ones."""
        written = generation(raw)
        self._written.update((seq, written) for seq in seqs if seq in self._edits)
        return self._read(raw)

    def _read(self, raw: Mapping[str, Any]) -> list[TransferKey] | None:
        if raw.get("_rev") and raw.get("_rev") == self._revision:
            return None  # what we wrote, as the feed tells of it: edits that came since are in force already
        try:
            machine = read_machine(raw)
            queue = read_queue(machine, known=self._known)
        except InvalidDocument as problem:
            self._invalid, self._revision = problem, None
            return []
        self._invalid, self._revision = None, raw.get("_rev")
        self._problems = queue.problems
        self._known = _by_id(machine.queue, queue.entries, self._known)
        known, before, held = self._entries, self._asking, self.paused
        self.paused = queue.paused
        self._entries = {}
        self._asking = {}
        for entry in queue.entries:
            same = known.get(entry.identity)
            self._add(same if same is not None and same == entry else entry)
        for edit in self._edits.values():
            self._apply(edit)
        if self.paused is held and list(self._entries.items()) == list(known.items()):
            return None  # it is what our edits have made of it
        return [key for key in before if key not in self._asking]

    def _apply(self, edit: QueueEdit) -> list[TransferKey]:
        match edit:
            case AddEntry(entry):
                return self._add(entry)
            case RemoveEntries(identities):
                return [self._remove(identity) for identity in identities if identity in self._entries]
            case ChangeEntries(identities, paused, priority, metered):
                return [
                    self._change(identity, paused=paused, priority=priority, metered=metered)
                    for identity in identities
                    if identity in self._entries
                ]
            case MoveEntries(identities, before, time):
                return self._move(identities, before, time)
            case RenewEntry(identity, new_id):
                return self._renew(identity, new_id)
            case PauseQueue(paused):
                self.paused = paused
                return []

    def _add(self, entry: Entry) -> list[TransferKey]:
        identity = entry.identity
        if identity in self._entries:
            return []
        self._entries[identity] = entry
        key = entry.key
        self._asking[key] = (*self._asking.get(key, ()), entry)
        return [key]

    def _remove(self, identity: str) -> TransferKey:
        gone = self._entries.pop(identity)
        key, asking = gone.key, self._asking[gone.key]
        if len(asking) == 1:
            del self._asking[key]
            return key
        self._asking[key] = tuple(entry for entry in asking if entry is not gone)
        if asking[0] is gone:  # its place is that of the next one now: a pass over the queue, but they are rarely two
            self._asking = {entry.key: self._asking[entry.key] for entry in self._entries.values()}
        return key

    def _change(self, identity: str, *, paused: bool | None, priority: int | None, metered: bool | None) -> TransferKey:
        before = self._entries[identity]
        after = replace(
            before,
            paused=before.paused if paused is None else paused,
            priority=before.priority if priority is None else priority,
            metered=before.metered if metered is None else metered,
        )
        self._entries[identity] = after
        return self._exchange(before, after)

    def _move(self, identities: Iterable[str], before: str, time: float) -> list[TransferKey]:
        moving = {
            identity: replace(entry, moved=time)
            for identity in identities
            if (entry := self._entries.get(identity)) is not None and entry.moved < time
        }
        if not moving:
            return []
        if before and before not in self._entries:
            self._entries.update(moving)  # in their places
        else:
            # A pass over the queue; only a person moves.
            names = list(self._entries)
            anchor = names.index(before) if before else len(names)
            head = [name for name in names[:anchor] if name not in moving]
            tail = [name for name in names[anchor:] if name not in moving]
            kept = self._entries
            self._entries = {name: moving.get(name) or kept[name] for name in (*head, *moving, *tail)}
        asking: dict[TransferKey, list[Entry]] = {}
        for entry in self._entries.values():
            asking.setdefault(entry.key, []).append(entry)
        self._asking = {key: tuple(entries) for key, entries in asking.items()}
        return [entry.key for entry in moving.values()]

    def _renew(self, identity: str, new_id: str) -> list[TransferKey]:
        if identity not in self._entries or new_id in self._entries:
            return []
        before = self._entries[identity]
        after = replace(before, id=new_id)
        # Keeping its place costs a pass over the queue; only a person retries.
        self._entries = {
            new_id if name == identity else name: after if entry is before else entry
            for name, entry in self._entries.items()
        }
        return [self._exchange(before, after)]

    def _exchange(self, before: Entry, after: Entry) -> TransferKey:
        key = before.key
        self._asking[key] = tuple(after if entry is before else entry for entry in self._asking[key])
        return key


def _by_id(
    raws: Iterable[Any], entries: Iterable[Entry], known: Mapping[str, tuple[Any, Entry]]
) -> dict[str, tuple[Any, Entry]]:
    """Entries that have an `id`, raw and read; of what cannot be understood there is nothing.

    Those that have not changed stay the same objects: each revision comes with texts of its own, and who else keeps
    the document shares them with us only as long as nobody exchanges them.
    """
    read = {entry.id: entry for entry in entries if entry.id}
    found: dict[str, tuple[Any, Entry]] = {}
    for raw in raws:
        entry_id = raw.get("id") if isinstance(raw, dict) else None
        entry = read.get(entry_id) if isinstance(entry_id, str) else None
        if entry is not None:
            before = known.get(entry.id)
            found[entry.id] = before if before is not None and before[1] is entry else (raw, entry)
    return found
