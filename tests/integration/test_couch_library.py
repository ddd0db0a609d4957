"""The library's thread: files read and edits written, whatever the database does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from dmedia_transfer import documents
from dmedia_transfer.couch import flushing, pause
from dmedia_transfer.couch import library as library_module
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.library import CouchLibrary
from dmedia_transfer.errors import InvalidDocument, Unknown
from dmedia_transfer.model import AddEntry, Entry, FileSpec, PauseQueue, QueueEdit, RecordStored, RemoveEntries
from dmedia_transfer.ports import KnownFile
from tests import factories
from tests.couchfeed import Inbox
from tests.fakes import FakeOutbox
from tests.proxy import FaultyProxy
from tests.scripted import Answer, Asked, ScriptedServer
from tests.waiting import eventually

MACHINE, STORE = factories.MACHINE_ID, factories.STORE_ID
FILE = "F" * 48

Start = Callable[..., CouchLibrary]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.2)
    monkeypatch.setattr(pause, "DENIED_PAUSE_S", 0.1)


@pytest.fixture
def inbox() -> Inbox:
    """The manager's thread."""
    return Inbox()


@pytest.fixture
def outbox() -> FakeOutbox:
    """The journal's outbox."""
    return FakeOutbox()


@pytest.fixture
def start(inbox: Inbox, outbox: FakeOutbox) -> Iterator[Start]:
    """Starts a library that the test need not stop."""
    libraries: list[CouchLibrary] = []

    def starter(address: Address, name: str, *, base: dict[str, Any] | None = None, **options: Any) -> CouchLibrary:
        started = CouchLibrary(
            database=Database(address, name),
            outbox=outbox,
            machine_id=MACHINE,
            hostname="tv",
            call_soon=inbox.call_soon,
            on_files=inbox.on_files,
            on_taken=inbox.on_taken,
            on_loaded=inbox.on_loaded,
            on_state=inbox.states.append,
            **options,
        )
        libraries.append(started)
        started.load(base)
        started.start()
        return started

    yield starter
    for each in libraries:
        each.stop()
    eventually(lambda: not any(each._thread.is_alive() for each in libraries))


def put_file(couch: Database, seed: int = 0, **facts: Any) -> FileSpec:
    """Write the document of a small file."""
    spec = factories.file_spec(factories.content(100, seed=seed))
    raw = documents.new_file(spec.file_id, spec.size, spec.leaf_digests, time=1.0, stored={})
    couch.put({**raw, **facts})
    return spec


def queue(couch: Database) -> list[Any]:
    """The queue as the database has it."""
    entries: list[Any] = (couch.get(MACHINE) or {})["queue"]
    return entries


def behind(proxy: FaultyProxy, couch: Database) -> Address:
    """The server through a proxy."""
    return Address(proxy.url, couch.address.user, couch.address.password)


@pytest.fixture
def proxy(couch: Database) -> Iterator[FaultyProxy]:
    """What is between the library and the server."""
    parts = urlsplit(couch.address.url)
    with FaultyProxy((str(parts.hostname), int(parts.port or 80))) as made:
        yield made


def test_the_first_start_makes_the_database_and_the_machines_document(
    couch: Database, inbox: Inbox, start: Start
) -> None:
    name = f"{couch.name}-first"
    start(couch.address, name)
    inbox.wait(lambda: inbox.loaded)
    machine, stores = inbox.loaded[0]
    assert documents.read_machine(machine).hostname == "tv"
    assert machine["_rev"].startswith("1-")
    assert stores == []
    couch._session.json("DELETE", couch.address.database_url(name))


def test_what_is_there_is_loaded_as_it_is(couch: Database, inbox: Inbox, start: Start) -> None:
    couch.put({**documents.new_machine(MACHINE, "old", time=1.0), "queue": [FILE]})
    couch.put(documents.new_store(STORE, "s3", time=1.0))
    start(couch.address, couch.name, base=documents.new_machine(MACHINE, "base", time=1.0))
    inbox.wait(lambda: inbox.loaded)
    assert inbox.loaded[0] == (couch.get(MACHINE), couch.get_stores())
    assert inbox.loaded[0][0]["hostname"] == "old"


def test_a_queue_that_the_database_lost_is_written_back(couch: Database, inbox: Inbox, start: Start) -> None:
    base = {**documents.new_machine(MACHINE, "base", time=1.0), "_rev": "7-x", "queue": [FILE]}
    library = start(couch.address, couch.name, base=base)
    inbox.wait(lambda: inbox.loaded)
    assert queue(couch) == [FILE]
    library.remember({**base, "queue": [FILE, "G" * 48]})
    library.remember({"_id": MACHINE, "_deleted": True})  # what the feed says of a deletion is no queue
    couch.delete(couch.get(MACHINE) or {})
    library.load()
    inbox.wait(lambda: len(inbox.loaded) == 2)
    assert queue(couch) == [FILE, "G" * 48]


def test_files_are_told_one_by_one_with_what_is_wrong_with_them(couch: Database, inbox: Inbox, start: Start) -> None:
    good = put_file(couch, 1, stored={STORE: {"copies": 2, "time": 1.0}})
    bad = put_file(couch, 2, bytes=-1)
    other = put_file(couch, 3, bytes=9 * 1024 * 1024)
    bare = factories.file_spec(factories.content(100, seed=4))
    couch.put({"_id": bare.file_id, "type": "dmedia/file", "bytes": 100})
    library = start(couch.address, couch.name)
    library.request_files([good.file_id, bad.file_id, other.file_id, bare.file_id, FILE])
    inbox.wait(lambda: len(inbox.files) == 5)
    assert inbox.files[good.file_id] == KnownFile(good, {STORE: 2})
    for file_id, kind, words in [
        (bad.file_id, InvalidDocument, "bytes"),
        (other.file_id, InvalidDocument, "leaf digests"),
        (bare.file_id, InvalidDocument, "_attachments.leaves"),
        (FILE, Unknown, "no document"),
    ]:
        assert isinstance(inbox.files[file_id], kind)
        assert words in str(inbox.files[file_id])


def test_many_requests_make_few_reads(couch: Database, inbox: Inbox, start: Start, proxy: FaultyProxy) -> None:
    specs = [put_file(couch, seed) for seed in range(60)]
    library = start(behind(proxy, couch), couch.name)
    inbox.wait(lambda: inbox.loaded)
    proxy.reset_counts()
    for spec in specs:
        library.request_files([spec.file_id])
    inbox.wait(lambda: len(inbox.files) == 60)
    assert all(isinstance(answer, KnownFile) for answer in inbox.files.values())
    assert proxy.bytes_up < 60 * 300  # one request each would be more


def test_what_was_read_for_a_transfer_is_not_read_again_to_record_it(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [put_file(couch, seed) for seed in range(3)]
    monkeypatch.setattr(flushing, "READ_KEPT", 2)  # so that one is forgotten
    read: list[str] = []
    get_many = Database.get_many

    def noted(database: Database, ids: Iterable[str], **options: bool) -> dict[str, Any]:
        wanted = list(ids)
        read.extend(wanted)
        return get_many(database, wanted, **options)

    monkeypatch.setattr(Database, "get_many", noted)
    started = start(couch.address, couch.name)
    started.request_files(spec.file_id for spec in specs)
    inbox.wait(lambda: len(inbox.files) == 3)
    read.clear()
    outbox.add([RecordStored(spec.file_id, STORE, 1, 5.0) for spec in specs])
    started.flush()
    inbox.wait(lambda: inbox.taken)
    assert read == [specs[0].file_id]
    for spec in specs:
        assert (couch.get(spec.file_id) or {})["stored"] == {STORE: {"copies": 1, "time": 5.0}}


def test_what_was_found_out_counts_before_it_is_written(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start
) -> None:
    spec = put_file(couch)
    library = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.loaded)
    outbox.add([RecordStored(spec.file_id, STORE, 0, 5.0, corrupt=(0,))])
    library.flush()
    library.request_files([spec.file_id])
    inbox.wait(lambda: spec.file_id in inbox.files)
    known = inbox.files[spec.file_id]
    assert isinstance(known, KnownFile)
    assert STORE in known.corrupt
    inbox.wait(lambda: inbox.taken)
    assert (couch.get(spec.file_id) or {})["stored"][STORE]["corrupt"] == [0]


def test_a_watched_file_is_followed_and_then_read(couch: Database, inbox: Inbox, start: Start) -> None:
    spec = put_file(couch)
    watched: list[Any] = []
    library = start(couch.address, couch.name, watch=watched.append)
    library.watch([spec.file_id])
    inbox.wait(lambda: spec.file_id in inbox.files)
    assert watched == [{spec.file_id}]
    inbox.files.clear()
    library.watch([spec.file_id])
    library.watch([])
    time.sleep(0.1)
    assert inbox.files == {}


def test_edits_are_written_and_taken(couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start) -> None:
    spec = put_file(couch)
    library = start(couch.address, couch.name)
    outbox.add([AddEntry(Entry(FILE, id="a")), RecordStored(spec.file_id, STORE, 1, 5.0), PauseQueue(True)])
    library.flush()
    inbox.wait(lambda: not outbox.pending())
    inbox.wait(lambda: [seq for seqs, _ in inbox.taken for seq in seqs] == [2, 1, 3])  # records are first
    assert [machine for _, machine in inbox.taken] == [None, couch.get(MACHINE)]
    assert [entry["id"] for entry in queue(couch)] == ["a"]
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: {"copies": 1, "time": 5.0}}
    assert outbox.pending() == []


def test_what_an_earlier_life_left_is_written_at_the_start(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start
) -> None:
    outbox.add([AddEntry(Entry(FILE, id="a"))])
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.taken)
    assert [entry["id"] for entry in queue(couch)] == ["a"]


def test_an_edit_that_is_not_about_the_queue_does_not_touch_the_machine(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start
) -> None:
    spec = put_file(couch)
    library = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.loaded)
    outbox.add([RecordStored(spec.file_id, STORE, 1, 5.0)])
    library.flush()
    inbox.wait(lambda: inbox.taken)
    assert inbox.taken == [([1], None)]
    assert couch.get(MACHINE) == inbox.loaded[0][0]


def test_records_are_written_while_the_queue_waits_for_its_turn(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start
) -> None:
    spec = put_file(couch)
    entries = [{"id": f"e{number:04d}", "file_id": FILE} for number in range(5000)]
    couch.put({**documents.new_machine(MACHINE, "tv", time=1.0), "queue": entries})
    library = start(couch.address, couch.name)
    outbox.add([RemoveEntries(("e0000",))])
    library.flush(left=4999)
    inbox.wait(lambda: inbox.taken)
    outbox.add([RecordStored(spec.file_id, STORE, 1, 5.0), RemoveEntries(("e0001",))])
    library.flush(left=4998)
    inbox.wait(lambda: len(inbox.taken) > 1)
    assert inbox.taken[1] == ([2], None)
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: {"copies": 1, "time": 5.0}}
    outbox.add([RemoveEntries(tuple(entry["id"] for entry in entries))])
    library.flush(left=0)
    inbox.wait(lambda: not outbox.pending())
    assert queue(couch) == []


def test_the_queue_is_written_while_thousands_of_files_are_read(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "FILES_PER_READ", 1)
    read: list[int] = []  # when the queue was written
    monkeypatch.setattr(inbox, "on_taken", lambda seqs, machine: read.append(len(inbox.files)))
    library = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.loaded)
    outbox.add([PauseQueue(True)])
    library.flush()
    library.request_files(f"{number:048d}".translate(str.maketrans("0189", "WXYZ")) for number in range(500))
    inbox.wait(lambda: len(inbox.files) == 500)
    inbox.wait(lambda: read)
    assert 0 < read[0] < 500


def test_an_edit_that_can_never_be_written_is_dropped_with_one_line(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    library = start(couch.address, couch.name)
    outbox.add([RecordStored(FILE, STORE, 1, 5.0), AddEntry(Entry(FILE, id="a"))])
    with caplog.at_level(logging.ERROR):
        library.flush()
        inbox.wait(lambda: not outbox.pending())
    assert [entry["id"] for entry in queue(couch)] == ["a"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert FILE in line
    assert "dropped" in line


def test_what_is_stored_is_written_before_the_entry_leaves(outbox: FakeOutbox, inbox: Inbox, start: Start) -> None:
    written: list[str] = []
    spec = factories.file_spec(factories.content(100))
    file = documents.new_file(spec.file_id, spec.size, spec.leaf_digests, time=1.0, stored={})
    machine = {**documents.new_machine(MACHINE, "tv", time=1.0), "_rev": "1-a", "queue": [spec.file_id]}

    def respond(asked: Asked) -> Answer:
        if asked.method == "PUT":
            written.append("queue")
            return Answer(201, json={"ok": True, "id": MACHINE, "rev": "2-a"})
        if asked.path.endswith("_bulk_docs"):
            written.append("stored")
            return Answer(201, json=[{"ok": True, "id": spec.file_id, "rev": "2-a"}])
        if asked.path.endswith("_all_docs"):
            return Answer(json={"rows": [{"id": spec.file_id, "doc": file}]})
        return Answer(json={"docs": []} if asked.path.endswith("_find") else machine)

    outbox.add([RemoveEntries((f"download:{spec.file_id}:",)), RecordStored(spec.file_id, STORE, 1, 5.0)])
    with ScriptedServer(respond) as server:
        start(Address(server.url), "db")
        inbox.wait(lambda: not outbox.pending())
    assert written == ["stored", "queue"]


def test_nothing_is_lost_while_the_database_is_away(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, proxy: FaultyProxy
) -> None:
    spec = put_file(couch)
    proxy.refuse()
    library = start(behind(proxy, couch), couch.name)
    outbox.add([AddEntry(Entry(FILE, id="a"))])
    library.flush()
    library.request_files([spec.file_id])
    inbox.wait(lambda: inbox.states)
    assert "does not answer" in str(inbox.states[0])
    assert not inbox.loaded
    proxy.refuse(False)
    inbox.wait(lambda: inbox.loaded and inbox.taken and inbox.files)
    assert isinstance(inbox.files[spec.file_id], KnownFile)
    assert [entry["id"] for entry in queue(couch)] == ["a"]
    eventually(lambda: inbox.states[-1] is None)


def test_edits_are_written_exactly_once_though_answers_get_lost(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, proxy: FaultyProxy
) -> None:
    library = start(behind(proxy, couch), couch.name)
    inbox.wait(lambda: inbox.loaded)
    for number in range(20):
        outbox.add([AddEntry(Entry(FILE, id=f"e{number}"))])
        library.flush()
        proxy.cut_after(50 + 60 * number)
        time.sleep(0.02)
    inbox.wait(lambda: not outbox.pending())
    assert [entry["id"] for entry in queue(couch)] == [f"e{number}" for number in range(20)]


def test_a_queue_that_grew_too_large_still_shrinks(outbox: FakeOutbox, inbox: Inbox, start: Start) -> None:
    state = {
        "machine": {**documents.new_machine(MACHINE, "tv", time=1.0), "_rev": "1-a", "queue": ["A" * 48, "B" * 48]}
    }

    def respond(asked: Asked) -> Answer:
        if asked.method == "PUT":
            if len(asked.json["queue"]) > 2:
                return Answer(413, json={"error": "document_too_large", "reason": MACHINE})
            state["machine"] = {**asked.json, "_rev": "2-a"}
            return Answer(201, json={"ok": True, "id": MACHINE, "rev": "2-a"})
        return Answer(json={"docs": []} if asked.path.endswith("_find") else state["machine"])

    edits: list[QueueEdit] = [AddEntry(Entry(FILE, id=f"e{number}")) for number in range(3)]
    outbox.add([*edits, RemoveEntries((f"download:{'A' * 48}:",))])
    with ScriptedServer(respond) as server:
        start(Address(server.url), "db")
        inbox.wait(lambda: inbox.taken)
        assert state["machine"]["queue"] == ["B" * 48]
        assert [pending.edit for pending in outbox.pending()] == edits  # kept, to be offered again


def test_a_document_that_is_refused_does_not_hold_up_reading(outbox: FakeOutbox, inbox: Inbox, start: Start) -> None:
    spec = factories.file_spec(factories.content(100))
    file = documents.new_file(spec.file_id, spec.size, spec.leaf_digests, time=1.0, stored={})

    def respond(asked: Asked) -> Answer:
        if asked.method == "PUT":
            return Answer(400, json={"error": "bad_request", "reason": "I do not like it"})
        if asked.path.endswith("_all_docs"):
            return Answer(json={"rows": [{"id": spec.file_id, "doc": file}]})
        return Answer(json={"docs": []} if asked.path.endswith("_find") else {"_id": MACHINE, "type": "dmedia/machine"})

    outbox.add([PauseQueue(True)])
    with ScriptedServer(respond) as server:
        library = start(Address(server.url), "db")
        inbox.wait(lambda: inbox.states)
        assert "I do not like it" in str(inbox.states[0])
        library.request_files([spec.file_id])
        inbox.wait(lambda: inbox.files)
        assert outbox.pending()


def test_entries_of_a_long_queue_leave_in_batches(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, proxy: FaultyProxy
) -> None:
    entries = [{"id": f"e{number:04d}", "file_id": FILE, "note": "x" * 100} for number in range(2000)]
    couch.put({**documents.new_machine(MACHINE, "tv", time=1.0), "queue": entries})
    library = start(behind(proxy, couch), couch.name)
    inbox.wait(lambda: inbox.loaded)
    proxy.reset_counts()
    began = time.monotonic()
    for number in range(1000):  # 1,000 entries end within about two seconds
        outbox.add([RemoveEntries((f"e{number:04d}",))])
        library.flush()
        time.sleep(0.002)
    inbox.wait(lambda: not outbox.pending())
    assert len(queue(couch)) == 1000
    assert len(inbox.taken) <= 4 + 2 * (time.monotonic() - began)
    assert proxy.bytes_up < (4 + 2 * (time.monotonic() - began)) * 500_000


@pytest.mark.parametrize("moment", ["idle", "frozen", "refused"])
def test_it_stops_at_once_whatever_the_server_does(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, proxy: FaultyProxy, moment: str
) -> None:
    library = start(behind(proxy, couch), couch.name)
    inbox.wait(lambda: inbox.loaded)
    if moment == "frozen":
        proxy.stall()
    if moment == "refused":
        proxy.refuse()
        proxy.cut()
    if moment != "idle":
        outbox.add([PauseQueue(True)])
        library.flush()
        time.sleep(0.2)
    library.stop()
    eventually(lambda: not library._thread.is_alive())
    assert not inbox.taken


def test_a_fault_of_the_outbox_does_not_end_the_thread(
    couch: Database, inbox: Inbox, outbox: FakeOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = outbox.pending, iter([OSError("disk"), OSError("disk")])

    def pending(kinds: Any = ()) -> Any:
        for fault in faults:
            raise fault
        return real(kinds)

    monkeypatch.setattr(outbox, "pending", pending)
    outbox.add([PauseQueue(True)])
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.taken)
    assert any("disk" in str(state) for state in inbox.states)


def test_a_conflict_that_comes_after_what_was_recorded_is_ended_soon(
    couch: Database, outbox: FakeOutbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "UNITE_S", 0.5)
    spec = put_file(couch)
    parent = (couch.get(spec.file_id) or {})["_rev"]
    outbox.add([RecordStored(spec.file_id, STORE, 1, time=5.0)])
    start(couch.address, couch.name)
    eventually(lambda: STORE in (couch.get(spec.file_id) or {})["stored"])

    other = factories.OTHER_STORE_ID  # another machine got the file at the same time, and replication brings that
    sibling = {**(couch.get(spec.file_id) or {}), "stored": {other: {"copies": 1, "time": 5.0}}}
    sibling |= {"_rev": f"2-{'f' * 32}", "_revisions": {"start": 2, "ids": ["f" * 32, parent.partition("-")[2]]}}
    couch.post("_bulk_docs", {"docs": [sibling], "new_edits": False})
    eventually(lambda: "_conflicts" not in (couch.get(spec.file_id, conflicts=True) or {}))
    assert (couch.get(spec.file_id) or {})["stored"].keys() == {STORE, other}


def test_what_we_say_of_ourselves_is_written(couch: Database, start: Start) -> None:
    started = start(couch.address, couch.name)
    started.say_of_peer({"certificates": ["MIIB"], "addresses": ["192.0.2.7:5987"]})
    eventually(lambda: ((couch.get(MACHINE) or {}).get("peer") or {}).get("addresses") == ["192.0.2.7:5987"])


def test_that_a_machine_was_forgotten_is_found_also_in_a_revision_that_lost(couch: Database, start: Start) -> None:
    phone = factories.OTHER_STORE_ID  # any ID
    raw = documents.new_machine(phone, "phone", time=1.0)
    parent = couch.put(raw)
    for name, forgotten in (("e", True), ("f", False)):  # the greater name wins
        ids = [name * 32, parent.partition("-")[2]]
        leaf = {**raw, "forgotten": forgotten, "_rev": f"2-{name * 32}", "_revisions": {"start": 2, "ids": ids}}
        couch.post("_bulk_docs", {"docs": [leaf], "new_edits": False})
    found: list[dict[str, Any]] = []
    loaded: list[Any] = []
    started = start(couch.address, couch.name, on_other=found.append, on_machines=loaded.append)
    started.look_at_machine(phone)
    eventually(lambda: found and loaded)
    assert found[0]["_id"] == phone
    assert found[0]["forgotten"] is True
    assert phone in {each["_id"] for each in loaded[0]}
