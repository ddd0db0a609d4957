"""This machine's document in a real server: in conflict, lost, restored, damaged, and edited meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents, faults
from dmedia_transfer.couch import pause
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.library import CouchLibrary
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.couch.stored import as_read
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import AddEntry, ChangeEntries, Direction, Entry, RecordStored, RemoveEntries, TransferKey
from dmedia_transfer.states import Status
from tests import factories
from tests.couch import CouchDb
from tests.couchfeed import Inbox
from tests.waiting import eventually

MACHINE, STORE, OTHER = factories.MACHINE_ID, factories.STORE_ID, factories.OTHER_STORE_ID
FILE = "A" * 48

Raw = dict[str, Any]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal."""
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture
def own(couch: Database, journal: Journal) -> OwnMachine:
    """The machine's document, which has the entries a and b."""
    own = started(couch, journal)
    own.edit([AddEntry(Entry(FILE, id="a")), AddEntry(Entry(FILE, id="b"))])
    return own


def started(couch: Database, journal: Journal) -> OwnMachine:
    """As the daemon has it after a start."""
    own = OwnMachine(couch, MACHINE, "tv", MachineMemory(journal.lineage, journal.ledger, journal.bases))
    kept = journal.bases.load(MACHINE)
    if kept:
        own.recall(kept[1])
    return own


def branch(
    couch_db: CouchDb, onto: str | Raw, change: Callable[[Raw], object], *, edits: int = 1, name: str = "f"
) -> Raw:
    """Replication brings a branch that grew on another device, of so many edits, out of `onto`; it has `_revisions`."""
    raw = couch_db.get(MACHINE, rev=onto, revs="true") if isinstance(onto, str) else {**onto, "queue": [*onto["queue"]]}
    revisions = raw.pop("_revisions")
    change(raw)
    start = revisions["start"] + edits
    ids = [f"{name * 30}{start - place:02}" for place in range(edits)]  # CouchDB takes only hexadecimal ones
    raw |= {"_rev": f"{start}-{ids[0]}", "_revisions": {"start": start, "ids": [*ids, *revisions["ids"]]}}
    couch_db.bulk([raw], new_edits=False)
    return raw


def ids(raw: Raw) -> list[str]:
    return [entry["id"] for entry in raw["queue"]]


def drop(raw: Raw, id: str) -> object:
    """Take an entry out of a queue."""
    raw["queue"] = [entry for entry in raw["queue"] if entry["id"] != id]
    return raw


def add(raw: Raw, id: str) -> object:
    """Put an entry into a queue."""
    raw["queue"].append({"id": id, "file_id": FILE})
    return raw


def conflicts(couch_db: CouchDb) -> list[str]:
    found: list[str] = couch_db.get(MACHINE, conflicts="true").get("_conflicts", [])
    return found


@pytest.mark.parametrize("edits", [1, 3])  # the other branch loses or wins
def test_a_conflict_is_merged_and_the_losing_revisions_are_deleted(
    couch_db: CouchDb, own: OwnMachine, edits: int
) -> None:
    onto = str((own.known or {})["_rev"])
    own.edit([AddEntry(Entry(FILE, id="ours")), ChangeEntries(("b",), priority=10)])
    branch(couch_db, onto, lambda raw: [drop(raw, "a"), add(raw, "theirs"), raw.update(note="n")], edits=edits)
    assert conflicts(couch_db)
    after = own.edit([])
    assert sorted(ids(after)) == ["b", "ours", "theirs"]
    assert after["queue"][ids(after).index("b")]["priority"] == 10
    assert after["note"] == "n"
    assert couch_db.get(MACHINE, conflicts="true") == after
    assert own.edit([]) == after


def test_an_entry_that_one_finished_does_not_come_back_with_another_branch(
    couch_db: CouchDb, own: OwnMachine, journal: Journal
) -> None:
    onto = str((own.known or {})["_rev"])
    journal.ledger.ended(TransferKey(Direction.DOWNLOAD, FILE, ""), ["a"], Status.DONE, 1)
    own.edit([RemoveEntries(("a",))])
    branch(couch_db, onto, lambda raw: raw["queue"][0].update(priority=100), edits=4)
    assert ids(own.edit([])) == ["b"]
    assert conflicts(couch_db) == []


def test_a_conflict_of_three_that_others_deepen_meanwhile(couch_db: CouchDb, own: OwnMachine) -> None:
    onto = str((own.known or {})["_rev"])
    for name in "def":
        branch(couch_db, onto, partial(add, id=name), edits=2, name=name)
    after = own.edit([AddEntry(Entry(FILE, id="ours"))])
    assert set(ids(after)) == {"a", "b", "d", "e", "f", "ours"}
    assert couch_db.get(MACHINE, conflicts="true") == after


def test_a_removal_is_known_also_on_a_branch_that_lost_before_a_restart(
    couch: Database, couch_db: CouchDb, own: OwnMachine, journal: Journal
) -> None:
    onto = str((own.known or {})["_rev"])
    own.edit([AddEntry(Entry(FILE, id="ours"))])
    own.edit([AddEntry(Entry(FILE, id="more"))])
    theirs = branch(couch_db, onto, partial(add, id="theirs"))
    assert set(ids(own.edit([]))) == {"a", "b", "ours", "more", "theirs"}
    own.keep()
    branch(couch_db, theirs, partial(drop, id="theirs"), edits=5)  # whoever did this has not seen the merge yet
    assert set(ids(started(couch, journal).edit([]))) == {"a", "b", "ours", "more"}


@pytest.mark.parametrize("point", ["machine.written", "journal.lineage", "machine.merged"])
def test_a_crash_within_a_merge_repeats_it_harmlessly(
    couch: Database,
    couch_db: CouchDb,
    own: OwnMachine,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    onto = str((own.known or {})["_rev"])
    own.edit([ChangeEntries(("a",), paused=True)])
    middle = str((own.known or {})["_rev"])
    own.edit([AddEntry(Entry(FILE, id="ours"))])
    branch(couch_db, middle, lambda raw: [raw["queue"][0].update(paused=False), drop(raw, "b")], edits=3)
    branch(couch_db, onto, lambda raw: add(raw, "theirs"), edits=1, name="e")

    def crash(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", crash)
        with pytest.raises(KeyboardInterrupt):
            own.edit([])
    written = couch_db.get(MACHINE)
    assert len(conflicts(couch_db)) == 2  # the merged one is there, and nothing is deleted
    after = started(couch, journal).edit([])
    assert after == written == couch_db.get(MACHINE, conflicts="true")
    assert sorted(ids(after)) == ["a", "ours", "theirs"]
    assert after["queue"][ids(after).index("a")]["paused"] is False


def test_a_document_that_was_deleted_is_written_back(couch: Database, couch_db: CouchDb, own: OwnMachine) -> None:
    before = own.edit([])
    couch.delete(before)
    after = own.edit([AddEntry(Entry(FILE, id="c"))])
    assert ids(after) == ["a", "b", "c"]
    assert couch_db.get(MACHINE) == after


def test_a_restored_database_takes_nothing_away(
    couch: Database, couch_db: CouchDb, own: OwnMachine, journal: Journal
) -> None:
    backup = couch_db.get(MACHINE, revs="true")
    own.edit([AddEntry(Entry(FILE, id="c")), ChangeEntries(("b",), paused=True)])
    journal.ledger.ended(TransferKey(Direction.DOWNLOAD, FILE, ""), ["a"], Status.DONE, 1)
    last = own.edit([RemoveEntries(("a",))])
    couch_db("DELETE")
    couch_db("PUT")
    couch_db.bulk([backup], new_edits=False)
    after = own.edit([])
    assert after["queue"] == last["queue"]
    assert couch_db.get(MACHINE) == after


def test_a_new_database_gets_the_queue_after_a_restart(
    couch: Database, couch_db: CouchDb, own: OwnMachine, journal: Journal
) -> None:
    own.keep()
    couch_db("DELETE")
    couch_db("PUT")
    assert ids(started(couch, journal).edit([])) == ["a", "b"]


@pytest.mark.parametrize(
    "damage", [{"queue": "oops"}, {"queue": None}, {"hostname": 7}, {"type": "dmedia/store"}, {"queue_paused": "yes"}]
)
def test_a_damaged_document_is_mended(couch_db: CouchDb, own: OwnMachine, damage: Raw) -> None:
    before = own.edit([])
    couch_db.put(MACHINE, {**before, **damage, "note": "n"})
    after = own.edit([])
    assert after["note"] == "n"
    assert after["queue"] == before["queue"]
    assert documents.read_machine(couch_db.get(MACHINE)).hostname == "tv"


def test_a_person_may_still_remove_an_entry(couch_db: CouchDb, own: OwnMachine, journal: Journal) -> None:
    raw = couch_db.get(MACHINE)
    drop(raw, "a")
    revision = couch_db.put(MACHINE, raw)
    assert ids(own.edit([])) == ["b"]
    assert couch_db.get(MACHINE)["_rev"] == revision  # it is in force as it is, and not written again
    assert journal.ledger.tombstones() == {"a": "removed"}


# The library: what the feed brings.


@pytest.fixture
def inbox() -> Inbox:
    """The manager's thread."""
    return Inbox()


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> list[Raw]:
    """What the library says is in force, in order."""
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.2)
    return []


@pytest.fixture
def library(couch: Database, inbox: Inbox, journal: Journal, in_force: list[Raw]) -> Iterator[CouchLibrary]:
    """A library that has loaded a queue with the entry a."""
    couch.put({**documents.new_machine(MACHINE, "tv", time=1.0), "queue": [{"id": "a", "file_id": FILE}]})
    library = CouchLibrary(
        database=Database(couch.address, couch.name),
        outbox=journal.outbox,
        machine_id=MACHINE,
        hostname="tv",
        call_soon=inbox.call_soon,
        on_files=inbox.on_files,
        on_taken=inbox.on_taken,
        on_loaded=inbox.on_loaded,
        on_state=inbox.states.append,
        on_machine=in_force.append,
        memory=MachineMemory(journal.lineage, journal.ledger, journal.bases),
    )
    library.load()
    library.start()
    inbox.wait(lambda: inbox.loaded)
    yield library
    library.stop()
    eventually(lambda: not library._thread.is_alive())


def test_what_only_adds_is_in_force_at_once(
    couch_db: CouchDb, library: CouchLibrary, journal: Journal, in_force: list[Raw]
) -> None:
    raw = couch_db.get(MACHINE)
    add(raw, "b")
    couch_db.put(MACHINE, raw)
    assert library.remember(couch_db.get(MACHINE, conflicts="true"))
    eventually(lambda: journal.lineage.load().in_force == {"a", "b"})
    assert in_force == []


def test_what_takes_away_is_looked_into(
    couch_db: CouchDb, library: CouchLibrary, inbox: Inbox, journal: Journal, in_force: list[Raw]
) -> None:
    couch_db.put(MACHINE, {**couch_db.get(MACHINE), "queue": []})
    assert not library.remember(couch_db.get(MACHINE))
    inbox.wait(lambda: in_force)
    assert in_force == [couch_db.get(MACHINE)]
    assert in_force[0]["queue"] == []
    assert journal.ledger.tombstones() == {"a": "removed"}


def test_a_conflict_that_the_feed_shows_is_merged(
    couch_db: CouchDb, library: CouchLibrary, inbox: Inbox, in_force: list[Raw]
) -> None:
    onto = couch_db.get(MACHINE)
    couch_db.put(MACHINE, {**onto, "queue": [*onto["queue"], {"id": "b", "file_id": FILE}]})
    branch(couch_db, onto["_rev"], lambda raw: add(raw, "c"), name="0")
    assert not library.remember(couch_db.get(MACHINE, conflicts="true"))
    inbox.wait(lambda: in_force)
    assert sorted(ids(in_force[-1])) == ["a", "b", "c"]
    eventually(lambda: not conflicts(couch_db))


def test_an_older_revision_that_comes_late_changes_nothing(
    couch_db: CouchDb, library: CouchLibrary, inbox: Inbox, journal: Journal, in_force: list[Raw]
) -> None:
    late = couch_db.get(MACHINE)
    journal.outbox.add([RemoveEntries(("a",))])
    library.flush()
    inbox.wait(lambda: inbox.taken)
    assert not library.remember(late)
    inbox.wait(lambda: in_force)
    assert in_force == [couch_db.get(MACHINE)]
    assert in_force[0]["queue"] == []


def test_what_we_wrote_ourselves_is_not_read_again_because_the_feed_was_quicker(
    couch_db: CouchDb, own: OwnMachine
) -> None:
    ours = {**couch_db.get(MACHINE), "queue": []}
    revision = couch_db.put(MACHINE, ours)
    assert not own.remember({**ours, "_rev": revision})  # the answer is not there yet
    assert own.edit([])["_rev"] == revision  # now it is
    assert own.settle() is None
    assert not own.remember({**ours, "_rev": revision, "_conflicts": ["3-x"]})
    assert own.settle() is not None


def test_a_document_that_is_damaged_all_the_time_is_mended_each_time(
    couch_db: CouchDb, library: CouchLibrary, inbox: Inbox, in_force: list[Raw]
) -> None:
    for count in range(1, 4):
        couch_db.put(MACHINE, {**couch_db.get(MACHINE), "queue": count})
        assert not library.remember(couch_db.get(MACHINE))
        inbox.wait(lambda count=count: len(in_force) == count)  # type: ignore[misc]
        assert ids(in_force[-1]) == ["a"]


def test_edits_and_a_conflict_go_into_one_write(
    couch_db: CouchDb, library: CouchLibrary, inbox: Inbox, journal: Journal
) -> None:
    onto = couch_db.get(MACHINE)
    for name in "ef":
        branch(couch_db, onto["_rev"], partial(add, id=name), name=name)
    journal.outbox.add([AddEntry(Entry(FILE, id="ours")), RemoveEntries(("a",))])
    library.flush()
    inbox.wait(lambda: inbox.taken)
    ((_, machine),) = inbox.taken
    assert machine is not None
    assert sorted(ids(dict(machine))) == ["e", "f", "ours"]
    eventually(lambda: not conflicts(couch_db))
    assert couch_db.get(MACHINE) == machine
    assert machine["_rev"].startswith("3-")


def test_the_queue_is_kept_for_a_start_without_database(
    couch_db: CouchDb, library: CouchLibrary, journal: Journal
) -> None:
    raw = couch_db.get(MACHINE)
    add(raw, "b")
    couch_db.put(MACHINE, raw)
    assert library.remember(couch_db.get(MACHINE))
    library.stop()
    kept = journal.bases.load(MACHINE)
    assert kept is not None
    assert ids(kept[1]) == ["a", "b"]


# What is stored where.


def put_file(couch_db: CouchDb, *stored: Raw) -> str:
    """The document of a file, in as many revisions in conflict as there are `stored`."""
    spec = factories.file_spec(factories.content(100))
    raw = documents.new_file(spec.file_id, spec.size, spec.leaf_digests, time=1.0, stored={})
    couch_db.bulk(
        [
            {**raw, "stored": each, "_rev": f"1-{letter * 32}", "_revisions": {"start": 1, "ids": [letter * 32]}}
            for letter, each in zip("abc", stored, strict=False)
        ],
        new_edits=False,
    )
    return spec.file_id


def test_a_store_that_is_known_by_a_losing_revision_only_is_read(couch: Database, couch_db: CouchDb) -> None:
    ours, theirs = {STORE: {"copies": 1, "time": 1.0}}, {OTHER: {"copies": 2, "time": 2.0}}
    file_id = put_file(couch_db, ours, theirs)
    raw = couch.get_with_leaves([file_id])[file_id]
    assert isinstance(raw, dict)
    assert raw["stored"] == {**ours, **theirs}
    assert as_read(raw) is None, "what is in conflict is looked at again before it is written"
    assert documents.inline_leaves(raw)


def test_recording_ends_a_conflict_and_loses_no_store(couch: Database, couch_db: CouchDb) -> None:
    file_id = put_file(
        couch_db,
        {STORE: {"copies": 1, "time": 5.0}},
        {STORE: {"copies": 0, "time": 3.0}, OTHER: {"copies": 2, "time": 2.0}},
        {},
    )
    third = "U" * 24
    assert couch.record_stored([RecordStored(file_id, third, 1, 7.0)]) == {}
    raw = couch_db.get(file_id, conflicts="true")
    assert raw["stored"] == {
        STORE: {"copies": 1, "time": 5.0},
        OTHER: {"copies": 2, "time": 2.0},
        third: {"copies": 1, "time": 7.0},
    }
    assert "_conflicts" not in raw
    assert documents.LEAVES_ATTACHMENT in raw["_attachments"]


def test_a_revision_with_other_leaves_attached_is_not_deleted(couch: Database, couch_db: CouchDb) -> None:
    file_id = put_file(couch_db, {STORE: {"copies": 1, "time": 5.0}})
    bare = {"_id": file_id, "type": documents.FILE, "bytes": 100, "stored": {}}
    couch_db.bulk([{**bare, "_rev": f"1-{'f' * 32}", "_revisions": {"start": 1, "ids": ["f" * 32]}}], new_edits=False)
    assert couch.record_stored([RecordStored(file_id, OTHER, 1, 7.0)]) == {}
    raw = couch_db.get(file_id, conflicts="true")
    assert raw["stored"].keys() == {STORE, OTHER}
    assert raw["_conflicts"] == [f"1-{'a' * 32}"]


def test_a_big_queue_that_only_grew_is_in_force_at_once(couch: Database, journal: Journal) -> None:
    own = started(couch, journal)
    queue = [{"id": f"{number:024d}", "file_id": FILE, "requested_by": "phone"} for number in range(10_000)]
    own.edit([])
    raw = {**(own.known or {}), "_rev": "2-a", "queue": queue}
    assert own.remember(raw)
    own.take_note()
    more = {**raw, "_rev": "3-a", "queue": [*queue, FILE]}
    assert own.remember(more)
