"""The library's documents in a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
import requests

from dmedia_transfer import documents
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.raw import Raw
from dmedia_transfer.couch.stored import as_read
from dmedia_transfer.errors import (
    AccessDenied,
    Conflict,
    DatabaseUnavailable,
    InvalidDocument,
    InvalidRequest,
    Unknown,
)
from dmedia_transfer.model import AddEntry, AddFile, ChangeEntries, Entry, FileSpec, RecordStored, RemoveEntries
from tests import factories
from tests.scripted import Answer, Asked, ScriptedServer

MACHINE, STORE, OTHER = factories.MACHINE_ID, factories.STORE_ID, factories.OTHER_STORE_ID


def put_files(couch: Database, count: int, **facts: Any) -> list[FileSpec]:
    """Write documents of small files."""
    specs = [factories.file_spec(factories.content(100 + n, seed=n)) for n in range(count)]
    for number, spec in enumerate(specs):
        raw = documents.new_file(
            spec.file_id, spec.size, spec.leaf_digests, time=1.0, stored={}, **{"name": f"n{number}", **facts}
        )
        couch.put(raw)
    return specs


def stored(copies: int, time: float) -> Raw:
    return {"copies": copies, "time": time}


def test_a_database_is_made_once_and_only_if_it_is_missing(couch: Database) -> None:
    couch.put({"_id": "kept"})
    couch.ensure_exists()
    assert couch.get("kept")
    fresh = Database(couch.address, f"{couch.name}-fresh")
    with pytest.raises(DatabaseUnavailable, match="no such database"):
        fresh.get("x")
    fresh.ensure_exists()
    fresh.ensure_exists()
    assert fresh.get("x") is None
    requests.delete(fresh._url, auth=fresh._session.auth, timeout=10).raise_for_status()
    fresh.close()


def test_a_wrong_password_is_said(couch: Database) -> None:
    wrong = Database(Address(couch.address.url, "nobody"), couch.name)
    with pytest.raises(AccessDenied, match="'nobody'"):
        wrong.get("x")
    wrong.close()


@pytest.mark.parametrize("document_id", ["a/b", "a?b=c", "a#b", "50%", "a b", "ä", "a+b", '"', "%2F", "a:b"])
def test_any_id_comes_back_as_it_went(couch: Database, document_id: str) -> None:
    rev = couch.put({"_id": document_id, "x": 1})
    assert couch.get(document_id) == {"_id": document_id, "_rev": rev, "x": 1}
    assert couch.get_many([document_id])[document_id]["_rev"] == rev
    couch.delete({"_id": document_id, "_rev": rev})
    assert couch.get(document_id) is None


@pytest.mark.parametrize("document_id", ["", ".", "..", "\udcff"])
def test_an_id_that_names_something_else_is_refused(couch: Database, document_id: str) -> None:
    with pytest.raises(InvalidRequest):
        couch.get(document_id)


def test_a_document_that_changed_is_not_overwritten(couch: Database) -> None:
    rev = couch.put({"_id": "x", "n": 1})
    couch.put({"_id": "x", "_rev": rev, "n": 2})
    for stale in ({"_id": "x", "_rev": rev}, {"_id": "x"}):
        with pytest.raises(Conflict, match="'x' has changed meanwhile"):
            couch.put(stale)
    with pytest.raises(Conflict):
        couch.delete({"_id": "x", "_rev": rev})


def test_a_document_that_is_not_well_formed_is_named(couch: Database) -> None:
    with pytest.raises(InvalidDocument, match="'x'"):
        couch.put({"_id": "x", "_future": 1})


def test_deleting_what_is_gone_is_no_error(couch: Database) -> None:
    rev = couch.put({"_id": "x"})
    couch.delete({"_id": "x", "_rev": rev})
    couch.delete({"_id": "x", "_rev": rev})


def test_files_are_read_with_their_leaves_few_or_many(couch: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "_page", 2)
    monkeypatch.setattr("dmedia_transfer.couch.database.PAGE_ATTACHMENT_BYTES", 300)  # of six leaves, in base64
    specs = {spec.file_id: spec for spec in put_files(couch, 20)}
    missing = "B" * 48
    for wanted in (list(specs)[:2], [*specs, missing, *specs]):
        found = couch.get_with_leaves(wanted)
        assert found.keys() == set(wanted)
        for file_id, raw in found.items():
            if file_id == missing:
                assert isinstance(raw, Unknown)
            else:
                assert not isinstance(raw, Exception)
                assert documents.file_spec(documents.read_file(raw), documents.inline_leaves(raw)) == specs[file_id]


def test_what_was_read_is_written_without_another_look_and_keeps_its_leaves(
    couch: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = put_files(couch, 3)
    ids = [spec.file_id for spec in specs]
    read = {}
    for file_id, raw in couch.get_with_leaves(ids).items():
        assert isinstance(raw, dict)
        same = as_read(raw)
        assert same is not None
        read[file_id] = same
    changed = couch.get(ids[1])
    assert changed
    couch.put({**changed, "name": "another.mkv"})  # by somebody else, meanwhile
    asked: list[list[str]] = []
    get_many = couch.get_many

    def noted(wanted: Iterable[str], **options: bool) -> dict[str, Any]:
        asked.append(list(wanted))
        return get_many(asked[-1], **options)

    monkeypatch.setattr(couch, "get_many", noted)
    assert couch.record_stored([RecordStored(each, OTHER, 1, 5.0) for each in ids], read=read) == {}
    assert [each for each in asked if each] == [[ids[1]]]
    for spec, raw in zip(specs, couch.get_with_leaves(ids).values(), strict=True):
        assert isinstance(raw, dict)
        assert raw["stored"][OTHER]["copies"] == 1
        assert documents.file_spec(documents.read_file(raw), documents.inline_leaves(raw)).file_id == spec.file_id
    found = couch.get(ids[1])
    assert found
    assert found["name"] == "another.mkv"


def test_a_deleted_file_is_unknown(couch: Database) -> None:
    (spec,) = put_files(couch, 1)
    raw = couch.get(spec.file_id)
    assert raw
    couch.delete(raw)
    assert isinstance(couch.get_with_leaves([spec.file_id])[spec.file_id], Unknown)


def test_all_stores_are_found(couch: Database) -> None:
    ids = [letter * 24 for letter in "234567ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    for store_id in ids:
        couch.put(documents.new_store(store_id, "s3", time=1.0))
    put_files(couch, 3)
    assert sorted(raw["_id"] for raw in couch.get_stores()) == ids


def test_files_are_found_by_the_beginning_of_their_id_and_by_name(couch: Database) -> None:
    specs = put_files(couch, 8)
    couch.put(documents.new_store(specs[0].file_id[:2] + "A" * 22, "s3", time=1.0))
    first = specs[0].file_id
    assert [raw["_id"] for raw in couch.find_files(first[:8].lower())] == [first]
    assert [raw["_id"] for raw in couch.find_files(first)] == [first]
    assert [raw["_id"] for raw in couch.find_files("n3")] == [specs[3].file_id]
    assert couch.find_files("n99") == []
    assert couch.find_files("no such/../name?") == []
    everything = {spec.file_id for spec in specs if spec.file_id.startswith(first[0])}
    assert {raw["_id"] for raw in couch.find_files(first[0])} == everything


def test_a_queue_is_edited_and_keeps_what_it_had(couch: Database) -> None:
    couch.put(documents.new_machine(MACHINE, "tv", time=1.0) | {"queue": ["A" * 48, 7], "future": 1})
    after = couch.edit_machine(MACHINE, [AddEntry(Entry("B" * 48, id="b"))])
    assert after == couch.get(MACHINE)
    assert after["future"] == 1
    assert after["queue"][:2] == ["A" * 48, 7]
    assert couch.edit_machine(MACHINE, [AddEntry(Entry("B" * 48, id="b"))])["_rev"] == after["_rev"]


def test_an_edit_wins_against_a_writer_that_is_quicker(couch: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    couch.put(documents.new_machine(MACHINE, "tv", time=1.0))
    real, rivals = couch.get_machine, iter("ABC")

    def overtaken(machine_id: str) -> Raw | None:
        seen = real(machine_id)
        assert seen
        for rival in rivals:
            couch.put({**seen, "queue": [*seen["queue"], rival * 48]})
            break
        return seen

    monkeypatch.setattr(couch, "get_machine", overtaken)
    after = couch.edit_machine(MACHINE, [AddEntry(Entry("D" * 48, id="d"))])
    assert [raw if isinstance(raw, str) else raw["id"] for raw in after["queue"]] == ["A" * 48, "B" * 48, "C" * 48, "d"]


def test_an_edit_gives_up_against_a_writer_that_never_rests(couch: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    couch.put(documents.new_machine(MACHINE, "tv", time=1.0))
    real = couch.get_machine

    def overtaken(machine_id: str) -> Raw | None:
        seen = real(machine_id)
        assert seen
        couch.put({**seen, "n": seen.get("n", 0) + 1})
        return seen

    monkeypatch.setattr(couch, "get_machine", overtaken)
    with pytest.raises(Conflict, match="10 times"):
        couch.edit_machine(MACHINE, [AddEntry(Entry("D" * 48, id="d"))])


def test_a_lost_machine_document_is_written_back_with_its_queue(couch: Database) -> None:
    couch.put(documents.new_machine(MACHINE, "tv", time=1.0) | {"queue": ["A" * 48, "B" * 48]})
    base = couch.get(MACHINE)
    assert base
    couch.delete(base)
    after = couch.edit_machine(MACHINE, [RemoveEntries((f"download:{'A' * 48}:",))], base=base)
    assert after["queue"] == ["B" * 48]
    assert after["hostname"] == "tv"
    assert couch.get(MACHINE) == after


def test_a_machine_that_never_had_a_document_gets_one(couch: Database) -> None:
    assert couch.edit_machine(MACHINE, [])["queue"] == []
    assert documents.read_machine(couch.get(MACHINE) or {})


@pytest.mark.parametrize(
    "damage", [{"queue": "oops"}, {"type": "x"}, {"hostname": 7}, {"queue": None, "queue_paused": 1}]
)
def test_a_damaged_machine_document_is_healed_by_the_last_good_one(couch: Database, damage: Raw) -> None:
    good = documents.new_machine(MACHINE, "tv", time=1.0) | {"queue": ["A" * 48]}
    couch.put({**good, **damage, "future": 1})
    after = couch.edit_machine(MACHINE, [AddEntry(Entry("B" * 48, id="b"))], base=good)
    assert {key: after[key] for key in good if key != "queue"} == {key: good[key] for key in good if key != "queue"}
    assert after["queue"][0] == "A" * 48
    assert len(after["queue"]) == 2
    assert after["future"] == 1


def test_what_is_stored_is_written_for_many_files_and_keeps_the_leaves(
    couch: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmedia_transfer.couch.stored.PAGE_DOCUMENTS", 3)
    specs = put_files(couch, 7, future=1)
    records = [RecordStored(spec.file_id, store, 1, 5.0) for spec in specs for store in (STORE, OTHER)]
    assert couch.record_stored(records) == {}
    for spec in specs:
        raw = couch.get_with_leaves([spec.file_id])[spec.file_id]
        assert not isinstance(raw, Exception)
        assert raw["stored"] == {STORE: stored(1, 5.0), OTHER: stored(1, 5.0)}
        assert raw["future"] == 1
        assert documents.inline_leaves(raw) == spec.leaf_digests
    before = couch.get_many(spec.file_id for spec in specs)
    assert couch.record_stored(records) == {}
    assert couch.get_many(spec.file_id for spec in specs) == before


def test_the_later_time_wins_and_other_keys_of_the_line_stay(couch: Database) -> None:
    (spec,) = put_files(couch, 1)
    raw = couch.get(spec.file_id) or {}
    couch.put({**raw, "stored": {STORE: {**stored(1, 9.0), "pin": True}, OTHER: {**stored(1, 1.0), "pin": True}}})
    couch.record_stored([RecordStored(spec.file_id, STORE, 0, 5.0), RecordStored(spec.file_id, OTHER, 0, 5.0)])
    after = couch.get(spec.file_id) or {}
    assert after["stored"] == {STORE: {**stored(1, 9.0), "pin": True}, OTHER: {**stored(0, 5.0), "pin": True}}


def test_a_corrupt_copy_is_marked_until_there_is_a_good_one(couch: Database) -> None:
    (spec,) = put_files(couch, 1)
    couch.record_stored([RecordStored(spec.file_id, STORE, 0, 5.0, corrupt=(3, 7))])
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: {**stored(0, 5.0), "corrupt": [3, 7]}}
    couch.record_stored([RecordStored(spec.file_id, STORE, 1, 4.0)])
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: {**stored(0, 5.0), "corrupt": [3, 7]}}
    couch.record_stored([RecordStored(spec.file_id, STORE, 1, 6.0)])
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: stored(1, 6.0)}


def test_new_files_get_documents_and_known_ones_only_a_store(couch: Database) -> None:
    (known,) = put_files(couch, 1)
    new = factories.file_spec(b"new")
    files = [
        AddFile(spec.file_id, store, spec.size, base64.b64encode(spec.leaf_digests).decode(), 5.0, name="theirs")
        for spec in (known, new)
        for store in (STORE, OTHER)
    ]
    assert couch.add_files(files) == {}
    assert couch.add_files(files) == {}
    for spec, name in ((known, "n0"), (new, "theirs")):
        raw = couch.get_with_leaves([spec.file_id])[spec.file_id]
        assert not isinstance(raw, Exception)
        assert documents.file_spec(documents.read_file(raw), documents.inline_leaves(raw)).size == spec.size
        assert (raw["name"], raw["stored"]) == (name, {STORE: stored(1, 5.0), OTHER: stored(1, 5.0)})


def test_the_files_of_a_store_are_listed_page_by_page(couch: Database) -> None:
    specs = sorted(put_files(couch, 7), key=lambda spec: spec.file_id)
    couch.record_stored([RecordStored(spec.file_id, STORE, int(spec is not specs[2]), 5.0) for spec in specs])
    couch.record_stored([RecordStored(specs[2].file_id, OTHER, 1, 5.0)])
    pages: list[list[tuple[str, int]]] = []
    while not pages or pages[-1]:
        after = pages[-1][-1][0] if pages else ""
        pages.append(couch.list_stored(STORE, after=after, limit=4))
    expected = [(spec.file_id, spec.size) for spec in specs if spec is not specs[2]]
    assert pages == [expected[:4], expected[4:], []]


def test_files_that_cannot_be_written_are_named_and_hold_up_no_other(couch: Database) -> None:
    (spec,) = put_files(couch, 1)
    odd = "C" * 48
    couch.put({"_id": odd, "type": "dmedia/file", "stored": 7})
    problems = couch.record_stored([RecordStored(each, STORE, 1, 5.0) for each in (spec.file_id, "B" * 48, odd)])
    assert {file_id: type(error) for file_id, error in problems.items()} == {"B" * 48: Unknown, odd: InvalidDocument}
    assert (couch.get(spec.file_id) or {})["stored"] == {STORE: stored(1, 5.0)}


def test_rows_that_conflict_are_done_again(couch: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = put_files(couch, 3)
    real = couch.get_many
    rounds: list[int] = []

    def overtaken(ids: Any, **options: Any) -> dict[str, Raw]:
        found = real(ids, **options)
        rounds.append(len(found))
        if len(rounds) == 1:
            couch.put({**found[specs[1].file_id], "stored": {OTHER: stored(1, 3.0)}})
        return found

    monkeypatch.setattr(couch, "get_many", overtaken)
    assert couch.record_stored([RecordStored(spec.file_id, STORE, 1, 5.0) for spec in specs]) == {}
    assert rounds == [3, 1]
    assert (couch.get(specs[1].file_id) or {})["stored"] == {STORE: stored(1, 5.0), OTHER: stored(1, 3.0)}


# What a real server does not do on demand.


def scripted(answer: Answer) -> tuple[ScriptedServer, Database]:
    server = ScriptedServer(lambda _: answer)
    return server, Database(Address(server.url), "db")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"7",
        b'"x"',
        b'{"rows": [7]}',
        b'{"docs": [7]}',
        b'{"rows": {}}',
        b"[7]",
        b"[" * 9999,
    ],
)
def test_nonsense_is_said_to_be_nonsense(body: bytes) -> None:
    server, couch = scripted(Answer(200, body=body))
    with server:
        for call in (
            lambda: couch.get("x"),
            lambda: couch.put({"_id": "x"}),
            lambda: couch.get_many(["x"]),
            lambda: couch.put_many([{"_id": "x"}]),
            lambda: couch.get_stores(),
        ):
            with pytest.raises(DatabaseUnavailable):
                call()
    couch.close()


def test_a_document_that_is_too_large_is_named_alone_in_its_page() -> None:
    def respond(asked: Asked) -> Answer:
        raws = asked.json["docs"] if asked.path.endswith("_bulk_docs") else [asked.json]
        if any(raw["_id"] == "big" for raw in raws):
            return Answer(413, json={"error": "too_large", "reason": "the request entity is too large"})
        return Answer(201, json=[{"ok": True, "id": raw["_id"], "rev": "1-a"} for raw in raws])

    with ScriptedServer(respond) as server:
        couch = Database(Address(server.url), "db")
        outcomes = couch.put_many([{"_id": each} for each in ("a", "b", "big", "c", "d")])
        assert {each: type(error) for each, error in outcomes.items() if error} == {"big": InvalidDocument}
        assert outcomes.keys() == {"a", "b", "big", "c", "d"}
        with pytest.raises(InvalidDocument, match=r"'big'.*so large"):
            couch.put({"_id": "big"})
        couch.close()


def test_a_row_that_failed_by_a_fault_of_the_server_is_not_the_documents_fault() -> None:
    server, couch = scripted(Answer(201, json=[{"id": "a", "error": "internal_server_error", "reason": "x"}]))
    with server, pytest.raises(DatabaseUnavailable, match="'a' could not be written"):
        couch.put_many([{"_id": "a"}])
    couch.close()


def test_what_was_sent_is_what_was_given() -> None:
    server, couch = scripted(Answer(201, json={"ok": True, "id": "a/b", "rev": "1-a"}))
    with server:
        assert couch.put({"_id": "a/b", "x": "ä"}) == "1-a"
        assert server.asked[0].path == "/db/a%2Fb"
        assert json.loads(server.asked[0].body) == {"_id": "a/b", "x": "ä"}
    couch.close()


def test_an_edit_that_is_in_force_already_writes_nothing(couch: Database) -> None:
    couch.put(documents.new_machine(MACHINE, "tv", time=1.0) | {"queue": ["A" * 48]})
    before = couch.get(MACHINE) or {}
    assert couch.edit_machine(MACHINE, [ChangeEntries((f"download:{'A' * 48}:",), paused=False)]) == before
    assert (couch.get(MACHINE) or {})["_rev"] == before["_rev"]


def test_an_index_that_cannot_be_made_is_done_without(couch: Database) -> None:
    couch.ensure_index()
    couch.ensure_index()
    couch.put(documents.new_store(STORE, "s3", time=1.0))
    assert [raw["_id"] for raw in couch.get_stores()] == [STORE]


def test_an_index_of_types_is_asked_for() -> None:
    server, couch = scripted(Answer(200, json={"result": "created", "id": "_design/dmedia-transfer", "name": "type"}))
    with server:
        couch.ensure_index()
        assert server.asked[0].path == "/db/_index"
        assert server.asked[0].json["index"] == {"fields": ["type"]}
    couch.close()
