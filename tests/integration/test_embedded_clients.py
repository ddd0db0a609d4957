"""The clients that we use ourselves get along with the server."""

from __future__ import annotations

import io
from typing import Any

import pytest
from pycouchdb.client import Server
from pycouchdb.exceptions import Conflict, NotFound


def opened(database: tuple[str, str]) -> Any:
    url, name = database
    return Server(url + "/", authmethod="basic").database(name)


def test_pycouchdb_reads_writes_and_lists(database: tuple[str, str]) -> None:
    url, name = database
    assert name in Server(url + "/", authmethod="basic")
    db = opened(database)
    document = db.save({"_id": "film", "n": 1})
    assert db.get("film")["n"] == 1
    document["n"] = 2
    db.save(document)
    with pytest.raises(Conflict):
        db.save({"_id": "film", "n": 3})
    with pytest.raises(NotFound):
        db.get("none")
    db.save_bulk([{"_id": "a"}, {"_id": "b"}], transaction=False)
    assert {row["id"] for row in db.all()} == {"film", "a", "b"}
    assert len(db) == 3
    assert "film" in db
    db.delete("a")
    assert [row["id"] for row in db.all(keys=["b"])] == ["b"]
    db.cleanup()
    db.commit()
    db.compact()


def test_pycouchdb_attaches_and_fetches(database: tuple[str, str]) -> None:
    db = opened(database)
    document = db.save({"_id": "film"})
    db.put_attachment(document, io.BytesIO(b"\x00\x01"), "leaves", content_type="application/octet-stream")
    assert db.get_attachment(db.get("film"), "leaves") == b"\x00\x01"


def test_pycouchdb_sees_revisions_and_conflicts(database: tuple[str, str]) -> None:
    db = opened(database)
    document = db.save({"_id": "film", "n": 1})
    document["n"] = 2
    db.save(document)
    assert len(list(db.revisions("film"))) == 2
    last, changes = db.changes_list()
    assert [change["id"] for change in changes] == ["film"]
    assert db.changes_list(since=last)[1] == []
