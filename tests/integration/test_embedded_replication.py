"""Replication between two databases, made of the requests that PouchDB and Apache's replicator make.

Holds against Apache CouchDB as well. The replicator below is the protocol written down plainly: changes, then the
difference, then the revisions with their history and attachments, then a checkpoint.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.couch import TIMEOUT_S, CouchDb, CouchServer

A, B, C = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def other_db(couchdb_server: CouchServer) -> Iterator[CouchDb]:
    with couchdb_server.session() as session:
        db = CouchDb(session, f"{couchdb_server.base}/test-{uuid.uuid4().hex}")
        assert db("PUT").status_code == 201
        yield db
        db("DELETE")


def replicate(source: CouchDb, target: CouchDb, *, batch: int = 100) -> int:
    """Bring everything over, from the last checkpoint on; the number of revisions that were written."""
    checkpoint = f"/_local/replication-{uuid.uuid5(uuid.NAMESPACE_URL, source.base + target.base).hex}"
    found = source("GET", checkpoint)
    log: dict[str, Any] = found.json() if found.status_code == 200 else {"since": "0"}
    written = 0
    while True:
        answer = source.changes(since=log["since"], style="all_docs", limit=str(batch))
        if not answer["results"]:
            return written
        asked = {row["id"]: [change["rev"] for change in row["changes"]] for row in answer["results"]}
        absent = target("POST", "/_revs_diff", json=asked).json()
        wanted = [{"id": id, "rev": rev} for id, row in absent.items() for rev in row["missing"]]
        query = {"revs": "true", "attachments": "true", "latest": "true"}
        brought = source("POST", "/_bulk_get", params=query, json={"docs": wanted}).json()["results"]
        documents = [one["ok"] for result in brought for one in result["docs"]]
        assert target.bulk(documents, new_edits=False) == []
        assert target("POST", "/_ensure_full_commit", json={}).status_code == 201
        written += len(documents)
        log["since"] = answer["last_seq"]
        log["_rev"] = source("PUT", checkpoint, json=log).json()["rev"]


def state(db: CouchDb) -> dict[str, Any]:
    """All leaves of all documents, with their history and attachments."""
    query = {"open_revs": "all", "revs": "true", "attachments": "true"}
    leaves = {}
    for row in db.changes(style="all_docs")["results"]:
        rows = db("GET", f"/{row['id']}", params=query).json()
        leaves[row["id"]] = sorted((one["ok"] for one in rows), key=lambda document: str(document["_rev"]))
    return leaves


def fill(db: CouchDb) -> None:
    data = base64.b64encode(os.urandom(3000)).decode()
    db.put("plain", {"n": 1})
    rev = db.put("attached", {"_attachments": {"leaves": {"content_type": "application/octet-stream", "data": data}}})
    document = db.get("attached")
    db.put("attached", {**document, "n": 2})
    rev = db.put("gone", {"n": 1})
    db("DELETE", "/gone", params={"rev": rev})
    for leaf in (B, C):
        history = {"start": 2, "ids": [leaf, A]}
        db.bulk([{"_id": "split", "_rev": f"2-{leaf}", "v": leaf[0], "_revisions": history}], new_edits=False)
    db.put("_design/views", {"views": {}})


def test_everything_arrives_as_it_was(couch_db: CouchDb, other_db: CouchDb) -> None:
    fill(couch_db)
    assert replicate(couch_db, other_db, batch=2) == 6
    assert state(other_db) == state(couch_db)
    assert other_db.get("split", conflicts="true")["_conflicts"] == [f"2-{B}"]
    assert other_db("GET", "/gone").json()["reason"] == "deleted"


def test_a_second_replication_brings_only_what_is_new(couch_db: CouchDb, other_db: CouchDb) -> None:
    fill(couch_db)
    replicate(couch_db, other_db)
    assert replicate(couch_db, other_db) == 0
    couch_db.put("new", {})
    assert replicate(couch_db, other_db) == 1
    assert replicate(other_db, couch_db) == 0


def test_edits_on_both_sides_become_a_conflict_that_both_see_alike(couch_db: CouchDb, other_db: CouchDb) -> None:
    rev = couch_db.put("film", {"n": 0})
    replicate(couch_db, other_db)
    couch_db.put("film", {"n": 1, "_rev": rev})
    other_db.put("film", {"n": 2, "_rev": rev})
    replicate(couch_db, other_db)
    replicate(other_db, couch_db)
    assert couch_db.get("film", conflicts="true") == other_db.get("film", conflicts="true")
    assert len(couch_db.get("film", conflicts="true")["_conflicts"]) == 1


def test_equal_edits_on_both_sides_are_no_conflict(couch_db: CouchDb, other_db: CouchDb) -> None:
    rev = couch_db.put("film", {"n": 0})
    replicate(couch_db, other_db)
    for db in (couch_db, other_db):
        db.put("film", {"n": 1, "_rev": rev})
    replicate(couch_db, other_db)
    assert "_conflicts" not in other_db.get("film", conflicts="true")


def test_a_replicated_stub_finds_its_bytes_in_what_is_stored(couch_db: CouchDb, other_db: CouchDb) -> None:
    first = couch_db.put("film", {"_attachments": {"leaves": {"data": "AAEC", "content_type": "x/y"}}})
    replicate(couch_db, other_db)
    couch_db.put("film", {**couch_db.get("film"), "n": 1})
    asked = {"docs": [{"id": "film", "rev": couch_db.get("film")["_rev"], "atts_since": [first]}]}
    (found,) = couch_db("POST", "/_bulk_get", params={"revs": "true"}, json=asked).json()["results"]
    assert found["docs"][0]["ok"]["_attachments"]["leaves"]["stub"] is True
    assert other_db.bulk([found["docs"][0]["ok"]], new_edits=False) == []
    assert other_db("GET", "/film/leaves").content == bytes([0, 1, 2])


def parts_of(body: bytes, content_type: str) -> list[tuple[Message, bytes]]:
    """The parts of a multipart body, read as the standard says, without a library that decodes them."""
    message = Message()
    message["Content-Type"] = content_type
    edge = b"--" + str(message.get_boundary()).encode()
    found = []
    for piece in (b"\r\n" + body).split(b"\r\n" + edge)[1:]:
        if piece.startswith(b"--"):
            break
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        part = Message()
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            part[name] = value
        found.append((part, content))
    return found


def test_open_revs_come_as_multipart_with_the_bytes_behind_the_documents(couch_db: CouchDb) -> None:
    data = os.urandom(500) + b"\r\n--"
    text = base64.b64encode(data).decode()
    history = {"start": 2, "ids": [B, A]}
    document = {"_id": "film", "_rev": f"2-{B}", "_revisions": history, "_attachments": {"l": {"data": text}}}
    couch_db.bulk([document, {"_id": "film", "_rev": f"1-{C}"}], new_edits=False)
    query = {"revs": "true", "open_revs": f'["2-{B}","1-{C}","7-{A}"]'}
    response = couch_db("GET", "/film", params=query, headers={"Accept": "multipart/mixed"})
    content_type = response.headers["Content-Type"]
    assert content_type.startswith("multipart/mixed")
    kinds = {}
    for part, content in parts_of(response.content, content_type):
        kinds[part.get_content_type(), part.get_param("error")] = (part, content)
    assert set(kinds) == {("multipart/related", None), ("application/json", None), ("application/json", "true")}
    related, inner = kinds["multipart/related", None]
    (_, json_part), (_, bytes_part) = parts_of(inner, str(related["Content-Type"]))
    assert b'"follows":true' in json_part
    assert bytes_part == data
    assert kinds["application/json", "true"][1].strip() == b'{"missing":"7-%s"}' % A.encode()


edits = st.lists(
    st.tuples(st.sampled_from(["left", "right", "both"]), st.sampled_from(["x", "y"]), st.integers(0, 2)), max_size=12
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_two_databases_agree_whatever_was_edited_where(
    couchdb_server: CouchServer, steps: list[tuple[str, str, int]]
) -> None:
    with couchdb_server.session() as session:
        left, right = (CouchDb(session, f"{couchdb_server.base}/test-{uuid.uuid4().hex}") for _ in range(2))
        for db in (left, right):
            assert db("PUT").status_code == 201
        try:
            for side, id, n in steps:
                if side == "both":
                    replicate(left, right)
                    replicate(right, left)
                    continue
                edit(left if side == "left" else right, id, n)
            replicate(left, right)
            replicate(right, left)
            assert state(left) == state(right)
        finally:
            for db in (left, right):
                session.delete(db.base, timeout=TIMEOUT_S)


def edit(db: CouchDb, id: str, n: int) -> None:
    """Edit the winner; 0 deletes it."""
    found: requests.Response = db("GET", f"/{id}")
    current = {"_rev": found.json()["_rev"]} if found.status_code == 200 else {}
    if n or current:
        db.put(id, {"n": n, **current} if n else {"_deleted": True, **current})
