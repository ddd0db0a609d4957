"""Documents are found by their type without a look at all of them, whatever has become of them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.changes import Changes
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from tests.couch import CouchDb, CouchServer

A, B, C = "a" * 32, "b" * 32, "c" * 32


def found(db: CouchDb, selector: dict[str, Any]) -> list[str]:
    answer = db("POST", "/_find", json={"selector": selector, "limit": 1000})
    assert answer.status_code == 200, answer.text
    return [document["_id"] for document in answer.json()["docs"]]


def test_a_type_that_changes_is_found_where_it_is_now(couch_db: CouchDb) -> None:
    rev = couch_db.put("a", {"type": "x"})
    assert found(couch_db, {"type": "x"}) == ["a"]
    rev = couch_db.put("a", {"type": "y", "_rev": rev})
    assert (found(couch_db, {"type": "x"}), found(couch_db, {"type": {"$eq": "y"}})) == ([], ["a"])
    couch_db("PUT", "/a/attached", params={"rev": rev}, data=b"x")
    assert found(couch_db, {"type": {"$in": ["x", "y"]}}) == ["a"]
    couch_db("DELETE", "/a", params={"rev": couch_db.get("a")["_rev"]})
    assert found(couch_db, {"type": "y"}) == []


def test_of_a_conflict_the_winners_type_counts(couch_db: CouchDb) -> None:
    history = {"start": 2, "ids": [B, A]}
    couch_db.bulk([{"_id": "a", "_rev": f"2-{B}", "type": "loser", "_revisions": history}], new_edits=False)
    assert found(couch_db, {"type": "loser"}) == ["a"]
    history = {"start": 2, "ids": [C, A]}
    couch_db.bulk([{"_id": "a", "_rev": f"2-{C}", "type": "winner", "_revisions": history}], new_edits=False)
    assert (found(couch_db, {"type": "loser"}), found(couch_db, {"type": "winner"})) == ([], ["a"])
    couch_db("DELETE", "/a", params={"rev": f"2-{C}"})
    assert (found(couch_db, {"type": "loser"}), found(couch_db, {"type": "winner"})) == (["a"], [])


def test_types_that_are_no_texts_are_looked_for_as_any_member(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": "n", "type": 5}, {"_id": "o", "type": {"a": "x"}}, {"_id": "s", "type": "5"}, {"_id": "z"}])
    assert found(couch_db, {"type": 5}) == ["n"]
    assert found(couch_db, {"type.a": "x"}) == ["o"]
    assert found(couch_db, {"type": {"$exists": False}}) == ["z"]
    assert found(couch_db, {"$or": [{"type": "5"}, {"_id": "z"}]}) == ["s", "z"]
    assert found(couch_db, {"$not": {"type": "5"}}) == ["n", "o"]
    assert found(couch_db, {"type": "5", "$and": [{"type": {"$in": ["5", "6"]}}]}) == ["s"]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of ten thousand files and a few stores, in a file that an older program has left behind."""
    file: Path = tmp_path_factory.mktemp("big") / "couch.sqlite"
    with EmbeddedServer(file) as server, _session(server) as session:
        db = CouchDb(session, f"{server.address.url}/dmedia")
        assert db("PUT").status_code == 201
        for start in range(0, 10_000, 2500):
            files = [{"_id": f"f{n:05}", "type": "dmedia/file", "bytes": n} for n in range(start, start + 2500)]
            db.bulk(files)
        db.bulk([{"_id": f"s{n}", "type": "dmedia/store"} for n in range(3)])
        db("DELETE", "/s1", params={"rev": db.get("s1")["_rev"]})
    connection = sqlite3.connect(file)
    connection.executescript(
        "DROP INDEX documents_by_type; ALTER TABLE documents DROP COLUMN type; PRAGMA user_version = 1"
    )
    connection.close()
    return file


def _session(server: EmbeddedServer) -> Any:
    address = server.address
    return CouchServer(address.url, address.user, address.password, embedded=True).session()


def test_a_file_of_an_older_program_is_brought_up_to_date_and_stores_are_found_at_once(big: Path) -> None:
    with EmbeddedServer(big) as server, _session(server) as session:
        db = CouchDb(session, f"{server.address.url}/dmedia")
        assert found(db, {"type": "dmedia/store"}) == ["s0", "s2"]
        took: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            found(db, {"type": "dmedia/store"})
            took.append(time.monotonic() - began)
        began = time.monotonic()
        found(db, {"bytes": -1})  # has to look at all
        assert min(took) < (time.monotonic() - began) / 5


def test_a_database_that_is_made_anew_says_so(couchdb_server: CouchServer, couch_db: CouchDb) -> None:
    address = Address.parse(couchdb_server.url)
    changes = Changes(address, couch_db.base.rpartition("/")[2], heartbeat_s=1)
    before = changes.identify().born
    assert changes.identify().born == before
    couch_db("DELETE")
    couch_db("PUT")
    if couchdb_server.embedded:  # CouchDB has whole seconds
        assert changes.identify().born != before
    changes.close()
