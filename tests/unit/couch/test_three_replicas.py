"""One queue on three devices: any order of edits, replications, crashes and restarts comes to one queue.

The television owns the queue: it alone finishes entries and merges, with the library's own code over the journal's own
tables. Phone and laptop edit the document as any app does: they read the winner, change it and write it back.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dmedia_transfer import documents, faults, merge
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.journal import Journal
from dmedia_transfer.merge.identities import likely_identity
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Direction,
    Entry,
    QueueEdit,
    RemoveEntries,
    TransferKey,
)
from dmedia_transfer.states import Status
from tests.factories import MACHINE_ID
from tests.replicas import Raw, Replica

FILE = "A" * 48
BARE_FILE = "B" * 48
BARE = f"download:{BARE_FILE}:"
REMOTES = ("phone", "laptop")
NAMES = ("tv", *REMOTES)
PLACES = st.integers(0, 9)


class _Crash(Exception):
    """The television loses power."""


class _Crashing(Replica):
    """The television's database, and a wire to it that is cut where a test says so."""

    def __init__(self, document_id: str) -> None:
        super().__init__(document_id)
        self.steps_left: int | None = None
        self.read: list[Raw] = []
        self.meanwhile: list[Any] = []  # what others do between a read and a write

    def step(self, _: str = "") -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise _Crash

    def get(self, document_id: str, *, conflicts: bool = False) -> Raw | None:
        raw = super().get(document_id, conflicts=conflicts)
        self.read += [raw] if raw else []
        while self.meanwhile:
            self.meanwhile.pop()()
        return raw

    def get_leaves(self, document_id: str) -> list[Raw]:
        leaves = super().get_leaves(document_id)
        self.read += leaves
        return leaves

    def put(self, raw: Mapping[str, Any]) -> str:
        self.step()
        revision = super().put(raw)
        self.step()
        return revision

    def delete_leaves(self, document_id: str, revisions: Iterable[str]) -> None:
        for revision in revisions:
            self.step()
            super().delete_leaves(document_id, [revision])


class ThreeReplicas(RuleBasedStateMachine):
    """What may happen, and what must not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="three-replicas-"))
        self.point, faults.point = faults.point, self._point
        self.tv = _Crashing(MACHINE_ID)
        self.replicas: dict[str, Replica] = {"tv": self.tv, **{name: Replica(MACHINE_ID) for name in REMOTES}}
        self.backup = self.tv.snapshot()
        self.made = 0
        self.history: dict[str, list[str]] = {}  # of every revision ever seen: what it descends from
        self.contents: dict[str, set[str]] = {}  # ... and the identities in it
        self.seen: set[str] = set()  # revisions that the owner has read, and gone on
        self.added: set[str] = set()
        self.touched: set[str] = set()  # removed by somebody, or finished
        self.rightly_gone: set[str] = set()  # removed from a revision that the owner had seen with it, or finished
        self.removed_in: dict[str, set[str]] = {}  # ... by others, in these revisions
        self.pauses: Counter[str] = Counter()
        self.resumes: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()
        self.outbox: list[QueueEdit] = []  # durable
        self.files: set[str] = set()
        self.journal: Journal | None = None
        self.start()

    def _point(self, name: str) -> None:
        self.tv.step(name)

    # The owner.

    def start(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self.tv.steps_left = None
        self.journal = Journal(self.folder / "journal.sqlite")
        memory = MachineMemory(self.journal.lineage, self.journal.ledger, self.journal.bases)
        self.own = OwnMachine(self.tv, MACHINE_ID, "tv", memory)
        kept = self.journal.bases.load(MACHINE_ID)
        if kept:
            self.own.recall(kept[1])
        self.in_force: Raw = kept[1] if kept else {"queue": []}

    def edit(self, steps: int | None = None) -> None:
        self.tv.steps_left, self.tv.read = steps, []
        edits = list(self.outbox)
        try:
            self.in_force = self.own.edit(edits)
        except _Crash:
            self._look()
            self.start()
            return
        finally:
            self.tv.steps_left = None
        self.outbox = self.outbox[len(edits) :]
        self._manage()
        self._look()
        self.seen |= {raw["_rev"] for raw in [*self.tv.read, self.in_force]}

    def _manage(self) -> None:
        """As the manager does: what has a tombstone and is in force once more leaves the queue again."""
        assert self.journal is not None
        names = merge.identities_in(self.in_force) - {BARE}
        back = tuple(sorted(name for name in names if self.journal.ledger.is_gone(name)))
        self.outbox += [RemoveEntries(back)] if back else []

    def _look(self) -> None:
        """Note what revisions there are."""
        for replica in self.replicas.values():
            for revision, known in replica.tree.items():
                if known.body is not None and revision not in self.history:
                    self.history[revision] = replica.ancestry(revision)
                    self.contents[revision] = merge.identities_in(known.body)

    @initialize()
    def first_start(self) -> None:
        self.edit()
        for name in REMOTES:
            self.replicas[name].pull(self.tv)

    @rule(steps=st.none() | st.integers(0, 12))
    def the_owner_reconciles(self, steps: int | None) -> None:
        self.edit(steps)

    @rule()
    def the_feed_tells_the_owner(self) -> None:
        raw = self.tv.get(MACHINE_ID, conflicts=True)
        if raw is not None and self.own.remember(raw):
            self.in_force = raw
            self._manage()
        else:
            self.edit()

    @rule()
    def the_owner_restarts(self) -> None:
        self.own.take_note()
        self.own.keep()
        self.start()

    @rule(steps=st.none() | st.integers(0, 12), name=st.sampled_from(REMOTES))
    def others_write_while_the_owner_does(self, steps: int | None, name: str) -> None:
        self.tv.meanwhile.append(lambda: self.tv.pull(self.replicas[name]))
        self.edit(steps)
        self.tv.meanwhile.clear()

    @rule(place=PLACES, write=st.booleans())
    def an_entry_is_finished(self, place: int, write: bool) -> None:
        assert self.journal is not None
        queue = merge.queue_in_force(
            {**documents.new_machine(MACHINE_ID, "tv", time=1.0), **self.in_force}, self.outbox
        )
        todo = [
            entry
            for entry in queue.entries
            if not entry.paused and not (entry.id and self.journal.ledger.is_gone(entry.id))
        ]
        if not todo:
            return
        entry = todo[place % len(todo)]
        if entry.id:
            assert self._is_seen(entry.identity)
            self.executed[entry.identity] += 1
            self.rightly_gone.add(entry.identity)
        self.touched.add(entry.identity)
        self.outbox.append(RemoveEntries((entry.identity,)))
        key = TransferKey(Direction.DOWNLOAD, entry.file_id, "")
        self.journal.ledger.ended(key, [entry.identity], Status.DONE, 1)
        if write:
            self.edit()

    def _is_seen(self, identity: str) -> bool:
        return identity in self.added

    @rule()
    def somebody_adds_on_the_television(self) -> None:
        entry = self._new_entry()
        self.added.add(entry.id)
        self.outbox.append(AddEntry(entry))

    @rule(place=PLACES, what=st.sampled_from(["pause", "resume", "raise", "remove"]))
    def somebody_edits_on_the_television(self, place: int, what: str) -> None:
        names = [name for name in (likely_identity(raw) for raw in self.in_force["queue"]) if name]
        if not names:
            return
        name = names[place % len(names)]
        if what == "remove":
            self.outbox.append(RemoveEntries((name,)))
            self.touched.add(name)
            self.rightly_gone |= {name} - {BARE}
        elif what == "raise":
            self.outbox.append(ChangeEntries((name,), priority=10))
        else:
            self.outbox.append(ChangeEntries((name,), paused=what == "pause"))
            (self.pauses if what == "pause" else self.resumes)[name] += 1
        self.edit()

    # The others.

    def _new_entry(self) -> Entry:
        self.made += 1
        return Entry(FILE, id=f"e{self.made}", time=1.0)

    def _change(self, name: str, change: Any) -> None:
        replica = self.replicas[name]
        raw = replica.get(MACHINE_ID)
        if raw is None:
            return  # such a device has nothing to edit
        before = merge.identities_in(raw)
        change(raw["queue"])
        revision = replica.put(raw)
        self._look()
        self.added |= merge.identities_in(raw) - before
        for gone in before - merge.identities_in(raw):
            self.touched.add(gone)
            if gone != BARE and any(
                gone in self.contents[each] for each in self.history[revision] if each in self.seen
            ):
                self.removed_in.setdefault(revision, set()).add(gone)
                self.rightly_gone |= {gone}

    @rule(name=st.sampled_from(REMOTES), place=PLACES)
    def somebody_adds(self, name: str, place: int) -> None:
        entry = documents.write_entry(self._new_entry())
        self._change(name, lambda queue: queue.insert(place % (len(queue) + 1), entry))

    @rule(name=st.sampled_from(REMOTES))
    def somebody_adds_a_bare_file(self, name: str) -> None:
        self._change(name, lambda queue: BARE in map(likely_identity, queue) or queue.append(BARE_FILE))

    @rule(name=st.sampled_from(REMOTES), place=PLACES)
    def somebody_removes(self, name: str, place: int) -> None:
        self._change(name, lambda queue: queue and queue.pop(place % len(queue)))

    @rule(name=st.sampled_from(REMOTES), place=PLACES, paused=st.booleans())
    def somebody_pauses_or_resumes(self, name: str, place: int, paused: bool) -> None:
        def change(queue: list[Any]) -> None:
            ours = [entry for entry in queue if isinstance(entry, dict)]
            if ours and ours[place % len(ours)].get("paused", False) != paused:
                ours[place % len(ours)]["paused"] = paused
                (self.pauses if paused else self.resumes)[str(likely_identity(ours[place % len(ours)]))] += 1

        self._change(name, change)

    @rule(name=st.sampled_from(REMOTES), place=PLACES, priority=st.sampled_from([-10, 0, 10, 100]))
    def somebody_prioritizes(self, name: str, place: int, priority: int) -> None:
        def change(queue: list[Any]) -> None:
            ours = [entry for entry in queue if isinstance(entry, dict)]
            if ours:
                ours[place % len(ours)]["priority"] = priority

        self._change(name, change)

    @rule(name=st.sampled_from(REMOTES), place=PLACES)
    def somebody_reorders(self, name: str, place: int) -> None:
        self._change(name, lambda queue: queue and queue.append(queue.pop(place % len(queue))))

    @rule(name=st.sampled_from(REMOTES))
    def somebody_deletes_the_document(self, name: str) -> None:
        replica = self.replicas[name]
        raw = replica.get(MACHINE_ID)
        if raw is not None:
            # What the owner has not seen yet goes with it, for good.
            self.touched |= merge.identities_in(raw) - {name for each in self.seen for name in self.contents[each]}
            if raw["_rev"] not in self.seen:
                self.resumes.update(merge.identities_in(raw))
            for each in set(replica.ancestry(raw["_rev"])) - self.seen:
                self.rightly_gone -= self.removed_in.get(each, set())
            replica.delete_leaves(MACHINE_ID, replica.leaves()[:1])

    @rule(pair=st.permutations(NAMES))
    def one_pulls_from_another(self, pair: list[str]) -> None:
        self.replicas[pair[0]].pull(self.replicas[pair[1]])

    @rule(name=st.sampled_from(NAMES))
    def a_database_is_compacted(self, name: str) -> None:
        self.replicas[name].compact()

    @rule()
    def the_television_is_backed_up(self) -> None:
        self.backup = self.tv.snapshot()

    @precondition(lambda self: self.own.known is not None)
    @rule()
    def the_televisions_database_is_restored(self) -> None:
        self.edit()
        self.own.keep()
        self.tv.restore(self.backup)

    # What must hold.

    @invariant()
    def nothing_is_executed_twice(self) -> None:
        assert all(count == 1 for count in self.executed.values())

    def teardown(self) -> None:
        try:
            self._check_the_end()
        finally:
            faults.point = self.point
            assert self.journal is not None
            self.journal.close()
            shutil.rmtree(self.folder)

    def _check_the_end(self) -> None:
        self.settle()
        queue = self.in_force["queue"]
        names = [likely_identity(raw) for raw in queue]
        assert len(set(names)) == len(names), "an entry is there twice"
        assert self.added - self.touched <= set(names), "an entry was lost"
        assert not self.rightly_gone & set(names), "an entry has come back"
        for raw in queue:
            name = str(likely_identity(raw))
            if name not in {BARE, *self.touched} and self.pauses[name] and not self.resumes[name]:
                assert raw["paused"], "a pause was lost"
        if BARE not in names:  # it was done or removed, and may be asked for again at any time
            self._change("phone", lambda queue: queue.append(BARE_FILE))
            self.settle()
            assert BARE in merge.identities_in(self.in_force), "a new request was taken for an old one"

    def settle(self) -> None:
        """Replicate, and have the owner look, until nothing changes."""
        for _ in range(10):
            before = [replica.snapshot() for replica in self.replicas.values()]
            for name in REMOTES:
                self.tv.pull(self.replicas[name])
            self.edit()
            for name in REMOTES:
                self.replicas[name].pull(self.tv)
            if not self.outbox and before == [replica.snapshot() for replica in self.replicas.values()]:
                break
        else:
            raise AssertionError("it does not settle")
        for replica in self.replicas.values():
            assert replica.get(MACHINE_ID, conflicts=True) == self.in_force


TestThreeReplicas = ThreeReplicas.TestCase
TestThreeReplicas.settings = settings(stateful_step_count=40)
