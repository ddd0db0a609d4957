"""What the journal remembers, table by table."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import ports
from dmedia_transfer.journal import Journal, codec, ledger, lineagerecords
from dmedia_transfer.journal.leafrecords import set_bit, unpack_bits
from dmedia_transfer.model import (
    AddEntry,
    AddFile,
    ChangeEntries,
    Direction,
    Edit,
    Entry,
    Failure,
    MoveEntries,
    PauseQueue,
    RecordStored,
    RemoveEntries,
    RenewEntry,
    TransferKey,
)
from dmedia_transfer.ports import Part, UploadRecord
from dmedia_transfer.states import Reason, Status
from tests import factories

FILE_ID = "A" * 48
DOWN = TransferKey(Direction.DOWNLOAD, FILE_ID, "")
UP = TransferKey(Direction.UPLOAD, FILE_ID, factories.STORE_ID)
OTHER_UP = TransferKey(Direction.UPLOAD, FILE_ID, factories.OTHER_STORE_ID)
STORE = factories.STORE_ID

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False)
identities = st.lists(texts, max_size=4).map(tuple)
entries = st.builds(
    Entry,
    file_id=texts,
    direction=st.sampled_from(Direction),
    store_id=texts,
    id=texts,
    priority=st.integers(-(10**6), 10**6),
    paused=st.booleans(),
    only=st.booleans(),
    time=numbers,
    requested_by=texts,
)
edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(AddEntry, entry=entries),
    st.builds(RemoveEntries, identities=identities),
    st.builds(
        ChangeEntries, identities=identities, paused=st.none() | st.booleans(), priority=st.none() | st.integers()
    ),
    st.builds(MoveEntries, identities=identities, before=texts, time=numbers),
    st.builds(RenewEntry, identity=texts, new_id=texts),
    st.builds(PauseQueue, paused=st.booleans()),
    st.builds(
        RecordStored,
        file_id=texts,
        store_id=texts,
        copies=st.integers(0, 10**6),
        time=numbers,
        corrupt=st.none() | st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
    ),
    st.builds(
        AddFile,
        file_id=texts,
        store_id=texts,
        size=st.integers(1, 2**50),
        leaf_digests=texts,
        time=numbers,
        name=texts,
        ext=texts,
        mime=texts,
        origin=texts,
    ),
)
failures = st.builds(
    Failure,
    kind=texts,
    message=texts,
    transient=st.booleans(),
    reason=st.none() | st.sampled_from(Reason),
    retry_after_s=st.none() | numbers,
    store_id=texts,
    leaf=st.none() | st.integers(0, 10**6),
)


def upload(key: TransferKey = UP, *, upload_id: str = "", name: str = "bucket/key", at: float = 1.0) -> UploadRecord:
    """The record of an upload."""
    return UploadRecord(key, name, upload_id, part_leaves=1, time=at)


def test_its_parts_are_what_the_core_expects(journal: Journal) -> None:
    leaves: ports.LeafRecords = journal.leaves
    uploads: ports.UploadRecords = journal.uploads
    outbox: ports.Outbox = journal.outbox
    remembered: ports.Ledger = journal.ledger
    assert (leaves, uploads, outbox, remembered) is not None


# Leaves


@given(st.sets(st.integers(0, 5000)))
def test_leaves_survive_as_bits(leaves: set[int]) -> None:
    bits = bytearray()
    for leaf in leaves:
        set_bit(bits, leaf)
    assert unpack_bits(bytes(bits)) == leaves
    assert len(bits) == (max(leaves) // 8 + 1 if leaves else 0)


def test_recorded_leaves_are_loaded(journal: Journal) -> None:
    for leaf in (9, 0, 9, 700):
        journal.leaves.record(DOWN, STORE, "identity", leaf)
    assert journal.leaves.load(DOWN, STORE, "identity") == {0, 9, 700}
    assert journal.leaves.load(DOWN, factories.OTHER_STORE_ID, "identity") == set()


def test_leaves_under_another_identity_say_nothing_and_go_with_the_next_record(journal: Journal) -> None:
    journal.leaves.record(DOWN, STORE, "before", 1)
    assert journal.leaves.load(DOWN, STORE, "after") == set()
    assert journal.leaves.load(DOWN, STORE, "before") == {1}
    journal.leaves.record(DOWN, STORE, "after", 2)
    assert journal.leaves.load(DOWN, STORE, "after") == {2}
    assert journal.leaves.load(DOWN, STORE, "before") == set()


def test_several_leaves_are_recorded_at_once(journal: Journal) -> None:
    journal.leaves.record(DOWN, STORE, "identity", 1)
    journal.leaves.record_all(DOWN, STORE, "identity", range(3, 6))
    assert journal.leaves.load(DOWN, STORE, "identity") == {1, 3, 4, 5}


def test_forgotten_leaves_are_gone(journal: Journal) -> None:
    journal.leaves.record(DOWN, STORE, "identity", 1)
    journal.leaves.record(DOWN, factories.OTHER_STORE_ID, "identity", 2)
    journal.leaves.forget(DOWN, STORE)
    assert journal.leaves.load(DOWN, STORE, "identity") == set()
    assert journal.leaves.load(DOWN, factories.OTHER_STORE_ID, "identity") == {2}


def test_threads_that_record_at_once_lose_no_leaf(journal: Journal) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda leaf: journal.leaves.record(DOWN, STORE, "identity", leaf), range(400)))
    assert journal.leaves.load(DOWN, STORE, "identity") == set(range(400))


def test_recording_a_leaf_is_cheap(journal: Journal) -> None:
    journal.leaves.record(DOWN, STORE, "identity", 12_000)  # of a file of 100 GB
    started = time.thread_time()
    for leaf in range(200):
        journal.leaves.record(DOWN, STORE, "identity", leaf)
    assert (time.thread_time() - started) / 200 < 0.002  # of processor time; 8 MiB take several to hash


# Uploads


def test_an_upload_is_an_intent_then_begun_then_made_of_parts(journal: Journal) -> None:
    assert journal.uploads.load(UP) is None
    journal.uploads.intend(upload(at=5.0))
    assert journal.uploads.load(UP) == upload(at=5.0)
    journal.uploads.begun(UP, "upload")
    assert journal.uploads.load(UP) == upload(upload_id="upload", at=5.0)
    two, one = Part(2, 7, "etag", b"x" * 32), Part(1, 8)
    journal.uploads.confirmed(UP, two)
    journal.uploads.confirmed(UP, one)
    assert journal.uploads.parts(UP) == [one, two]
    journal.uploads.confirmed(UP, Part(2, 7, "another"))
    assert journal.uploads.parts(UP) == [one, Part(2, 7, "another")]
    journal.uploads.forget(UP)
    assert (journal.uploads.load(UP), journal.uploads.parts(UP), set(journal.uploads.latest())) == (None, [], set())


def test_uploads_to_two_stores_are_two(journal: Journal) -> None:
    for key in (UP, OTHER_UP):
        journal.uploads.intend(upload(key))
        journal.uploads.begun(key, f"upload to {key.store_id}")
        journal.uploads.confirmed(key, Part(1, 5))
    journal.uploads.forget(UP)
    assert journal.uploads.load(OTHER_UP) == upload(OTHER_UP, upload_id=f"upload to {OTHER_UP.store_id}")
    assert journal.uploads.parts(OTHER_UP) == [Part(1, 5)]
    assert set(journal.ledger.uploads()) == {OTHER_UP}


def test_a_new_intent_leaves_the_upload_before_it_to_be_aborted(journal: Journal) -> None:
    journal.uploads.intend(upload(name="old-bucket/key"))
    journal.uploads.begun(UP, "old")
    journal.uploads.confirmed(UP, Part(1, 5))
    journal.uploads.intend(upload(name="new-bucket/key", at=2.0))
    assert journal.uploads.load(UP) == upload(name="new-bucket/key", at=2.0)
    assert journal.uploads.parts(UP) == []
    assert journal.uploads.to_abort() == [upload(name="old-bucket/key", upload_id="old")]
    journal.uploads.forget(UP)
    assert set(journal.uploads.latest()) == {UP}
    journal.uploads.aborted(upload(name="old-bucket/key", upload_id="old"))
    assert set(journal.uploads.latest()) == set()


def test_an_upload_that_is_not_wanted_stays_until_its_abort_is_confirmed(journal: Journal) -> None:
    journal.uploads.intend(upload())
    journal.uploads.begun(UP, "upload")
    journal.uploads.unwanted(UP)
    assert journal.uploads.load(UP) is None
    assert journal.uploads.under_way() == []
    [record] = journal.uploads.to_abort()
    journal.uploads.intend(upload(at=3.0))
    journal.uploads.begun(UP, "next")
    journal.uploads.aborted(record)
    assert journal.uploads.to_abort() == []
    assert journal.uploads.under_way() == [upload(upload_id="next", at=3.0)]


def test_a_part_of_an_upload_that_is_unknown_is_not_kept(journal: Journal) -> None:
    journal.uploads.confirmed(UP, Part(1, 5))
    assert journal.uploads.parts(UP) == []


# Edits


@given(edits)
def test_an_edit_survives_without_loss(edit: Edit) -> None:
    again = codec.read_edit(codec.write_edit(edit))
    assert again == edit
    assert type(again) is type(edit)


@given(failures)
def test_a_failure_survives_without_loss(failure: Failure) -> None:
    text = codec.write_failure(failure)
    assert text is not None
    assert codec.read_failure(text) == failure


def test_what_was_found_out_of_stores_is_read_without_the_rest_of_the_outbox(journal: Journal) -> None:
    records = [RecordStored(FILE_ID, STORE, 1, 5.0), RecordStored(FILE_ID, STORE, 0, 6.0, corrupt=(0, 2))]
    journal.outbox.add([PauseQueue(paused=True), records[0], AddEntry(Entry(FILE_ID, time=1.5)), records[1]])
    assert [one.edit for one in journal.outbox.pending([RecordStored])] == records
    assert len(journal.outbox.pending([RecordStored, PauseQueue])) == 3


def test_edits_wait_in_order_until_they_are_taken(journal: Journal) -> None:
    first = journal.outbox.add([PauseQueue(paused=True), RemoveEntries(("a", "b"))])
    second = journal.outbox.add([AddEntry(Entry(FILE_ID, time=1.5))])
    assert journal.outbox.pending() == [*first, *second]
    journal.outbox.taken([first[0].seq, second[0].seq])
    assert journal.outbox.pending() == [first[1]]
    journal.outbox.taken([])
    journal.outbox.taken([first[1].seq, 999])
    assert journal.outbox.pending() == []


def test_the_number_of_an_edit_is_not_given_again(journal: Journal) -> None:
    [first] = journal.outbox.add([PauseQueue(paused=True)])
    journal.outbox.taken([first.seq])
    [second] = journal.outbox.add([PauseQueue(paused=False)])
    assert second.seq > first.seq


# The ledger


def test_a_failure_stays_until_the_transfer_has_ended(journal: Journal) -> None:
    failure = Failure("CorruptLeaf", "leaf 3 does not match", store_id=STORE, leaf=3)
    journal.ledger.failed(DOWN, ["a", "b"], failure, 10, attempts=4)
    assert journal.ledger.failures() == {"a": failure, "b": failure}
    assert journal.ledger.attempts() == {"a": 4, "b": 4}
    journal.ledger.ended(DOWN, ["a"], Status.CANCELLED, 10)
    assert journal.ledger.failures() == {"b": failure}


def test_failures_of_entries_that_are_not_in_the_queue_are_forgotten(journal: Journal) -> None:
    journal.ledger.failed(DOWN, ["a", "b"], Failure("Kind", "message"), 10)
    journal.ledger.keep_failures({"b", "c"})
    assert list(journal.ledger.failures()) == ["b"]


def test_what_has_ended_is_gone_and_in_the_history(journal: Journal) -> None:
    failure = Failure("Kind", "message")
    journal.ledger.ended(DOWN, ["a", "b"], Status.DONE, 10)
    journal.ledger.ended(UP, ["c"], Status.CANCELLED, 20, failure=failure)
    journal.ledger.removed(["a", "d"])
    assert journal.ledger.tombstones() == {"a": "done", "b": "done", "c": "cancelled", "d": "removed"}
    assert [journal.ledger.is_gone(each) for each in "abcde"] == [True, True, True, True, False]
    assert journal.ledger.gone_among([*"ab,e", *map(str, range(10_000))]) == {"a", "b"}
    assert journal.ledger.gone_among([]) == set()
    last, first = journal.ledger.history()
    assert (last.key, last.status, last.failure, last.bytes) == (UP, Status.CANCELLED, failure, 20)
    assert (first.key, first.status, first.failure, first.bytes) == (DOWN, Status.DONE, None, 10)
    assert last.time == pytest.approx(time.time(), abs=60)
    assert journal.ledger.history(1) == [last]
    assert journal.ledger.done() == [(DOWN, first.time)]


def test_many_ends_are_one_write(journal: Journal) -> None:
    journal.ledger.failed(DOWN, ["b"], Failure("Kind", "message"), 10)
    journal.leaves.record(DOWN, STORE, "boot-1", 0)
    statements: list[str] = []
    journal.ledger._database._connection.set_trace_callback(statements.append)
    journal.ledger.all_ended([(DOWN, ["a", "b"], Status.DONE, 10), (UP, ["c"], Status.CANCELLED, 20)])
    journal.ledger.all_ended([])
    assert [each for each in statements if each in ("BEGIN IMMEDIATE", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert journal.ledger.tombstones() == {"a": "done", "b": "done", "c": "cancelled"}
    assert [(line.key, line.status, line.bytes) for line in journal.ledger.history()] == [
        (UP, Status.CANCELLED, 20),
        (DOWN, Status.DONE, 10),
        (DOWN, Status.FAILED, 10),
    ]
    assert journal.ledger.failures() == {}
    assert journal.leaves.load(DOWN, STORE, "boot-1") == set()


def test_the_leaves_of_a_download_that_is_done_are_forgotten(journal: Journal) -> None:
    journal.leaves.record(DOWN, STORE, "boot-1", 0)
    journal.ledger.ended(DOWN, ["one"], Status.CANCELLED, 5)
    assert journal.leaves.load(DOWN, STORE, "boot-1") == {0}, "its worker may not have let go of it yet"
    journal.ledger.ended(DOWN, ["one"], Status.DONE, 5)
    assert journal.leaves.load(DOWN, STORE, "boot-1") == set()


def test_the_ids_of_uploads_to_a_name_are_known_whoever_began_them(journal: Journal) -> None:
    journal.uploads.intend(upload(upload_id="first"))
    journal.uploads.intend(upload(upload_id="second"))
    journal.uploads.intend(upload(UP._replace(store_id="O" * 24)))
    journal.uploads.intend(upload(UP._replace(store_id="P" * 24), upload_id="elsewhere", name="bucket/other"))
    assert journal.uploads.ids_at("bucket/key") == {"first", "second"}


def test_the_history_has_an_end(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HISTORY_LINES", 3)
    for size in range(10):
        journal.ledger.ended(DOWN, [], Status.DONE, size)
    assert [line.bytes for line in journal.ledger.history()] == [9, 8, 7]


def test_tombstones_go_after_a_year_and_are_not_looked_for_with_each_end(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.ledger.removed(["old"])
    later = time.time() + ledger.TOMBSTONES_S + 10
    monkeypatch.setattr(time, "time", lambda: later)
    journal.ledger.ended(DOWN, ["new"], Status.DONE, 1)
    assert journal.ledger.tombstones() == {"new": "done"}
    statements: list[str] = []
    journal.ledger._database._connection.set_trace_callback(statements.append)
    journal.ledger.ended(DOWN, ["newer"], Status.DONE, 1)
    assert not any("DELETE FROM tombstones" in statement for statement in statements)


# CouchDB


def test_a_checkpoint_is_that_of_its_feed(journal: Journal) -> None:
    assert journal.checkpoints.load("one") is None
    journal.checkpoints.keep("one", "5-abc")
    journal.checkpoints.keep("two", "1")
    journal.checkpoints.keep("one", "6-abc")
    assert journal.checkpoints.load("one") == "6-abc"
    journal.checkpoints.forget("one")
    assert (journal.checkpoints.load("one"), journal.checkpoints.load("two")) == (None, "1")


def test_a_lineage_is_kept_as_it_was_learned(journal: Journal) -> None:
    lineage = journal.lineage.load()
    bare = f"download:{FILE_ID}:"
    news = [
        lineage.view("1-x", ["a", bare]),
        lineage.branch("2-q", ["a", "b"], frozenset({"2-q", "1-x"})),
        lineage.view("3-y", ["a", "b"]),
    ]
    journal.lineage.keep(news)
    again = journal.lineage.load()
    for each in (lineage, again):
        assert each.in_force == {"a", "b"}
        assert each.newest_view(["1-x", "2-q", "3-y"]) == (2, "3-y")
        assert each.had("b", frozenset({"2-q"}), 0)
        assert not each.had("b", frozenset({"1-x"}), 1)
        assert each.had("a", frozenset(), 1)
        assert each.gone_at(bare) == 2
        assert each.taken_in_at("2-q") == 2
    journal.lineage.keep([again.view("4-z", [bare])])
    after = journal.lineage.load()
    assert (after.in_force, after.gone_at(bare)) == ({bare}, None)
    assert not after.had("b", frozenset({"2-q", "3-y"}), 2)


def test_old_views_are_forgotten_unless_an_entry_appeared_in_them(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineagerecords, "VIEWS_KEPT", 5)
    lineage = journal.lineage.load()
    for generation in range(1, 21):
        journal.lineage.keep([lineage.view(f"{generation}-x", ["old"] if generation > 1 else [])])
    again = journal.lineage.load()
    kept = [generation for generation in range(1, 21) if again.number(f"{generation}-x")]
    assert kept == [2, 16, 17, 18, 19, 20]
    assert again.had("old", frozenset(), 16)


def test_the_last_good_document_is_kept_whole(journal: Journal) -> None:
    body = {"_id": "M", "queue": [1, "ü", {"x": None}], "unknown": [1.5]}
    assert journal.bases.load("M") is None
    journal.bases.keep("M", "1-x", {})
    journal.bases.keep("M", "2-y", body)
    assert journal.bases.load("M") == ("2-y", body)
