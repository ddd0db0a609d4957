"""Attachments, as CouchDB keeps them; holds against Apache CouchDB as well."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os

import pytest

from tests.couch import CouchDb, CouchServer

BINARY = "application/octet-stream"
A, B = "a" * 32, "b" * 32


def digest(data: bytes) -> str:
    return "md5-" + base64.b64encode(hashlib.md5(data).digest()).decode()


def inline(data: bytes) -> dict[str, str]:
    return {"content_type": BINARY, "data": base64.b64encode(data).decode()}


def test_an_inline_attachment_comes_back_as_a_stub_and_as_bytes(couch_db: CouchDb) -> None:
    data = os.urandom(100_000)
    couch_db.put("film", {"_attachments": {"leaves": inline(data)}})
    assert couch_db.get("film")["_attachments"] == {
        "leaves": {"content_type": BINARY, "revpos": 1, "digest": digest(data), "length": 100_000, "stub": True}
    }
    response = couch_db("GET", "/film/leaves")
    assert response.content == data
    assert response.headers["Content-Type"] == BINARY
    assert response.headers["ETag"] == f'"{digest(data)[4:]}"'
    full = couch_db.get("film", attachments="true")["_attachments"]["leaves"]
    assert base64.b64decode(full["data"]) == data


def test_an_edit_with_the_stub_keeps_the_attachment_and_one_without_drops_it(couch_db: CouchDb) -> None:
    couch_db.put("film", {"_attachments": {"leaves": inline(b"abc")}})
    document = couch_db.get("film")
    document["n"] = 1
    couch_db.put("film", document)
    assert couch_db("GET", "/film/leaves").content == b"abc"
    kept = couch_db.get("film")
    assert kept["_attachments"]["leaves"]["revpos"] == 1
    couch_db.put("film", {"_rev": kept["_rev"]})
    assert couch_db("GET", "/film/leaves").status_code == 404
    assert couch_db("GET", "/film/leaves", params={"rev": kept["_rev"]}).content == b"abc"


def test_a_stub_with_nothing_behind_it_is_refused(couch_db: CouchDb) -> None:
    response = couch_db("PUT", "/film", json={"_attachments": {"leaves": {"stub": True, "content_type": BINARY}}})
    assert response.status_code == 412
    assert response.json()["error"] == "missing_stub"


def test_an_attachment_can_be_put_and_deleted_by_itself(couch_db: CouchDb) -> None:
    created = couch_db("PUT", "/film/a", data=b"one", headers={"Content-Type": BINARY})
    assert created.status_code == 201
    rev = created.json()["rev"]
    assert couch_db("PUT", "/film/b", data=b"two", headers={"Content-Type": BINARY}).status_code == 409
    second = couch_db("PUT", "/film/b", params={"rev": rev}, data=b"two", headers={"Content-Type": BINARY})
    rev = second.json()["rev"]
    assert rev.startswith("2-")
    stubs = couch_db.get("film")["_attachments"]
    assert {name: stub["revpos"] for name, stub in stubs.items()} == {"a": 1, "b": 2}
    assert couch_db("DELETE", "/film/a").status_code == 409
    deleted = couch_db("DELETE", "/film/a", params={"rev": rev})
    assert deleted.status_code == 200
    assert list(couch_db.get("film")["_attachments"]) == ["b"]


def test_content_of_the_document_survives_an_attachment(couch_db: CouchDb) -> None:
    rev = couch_db.put("film", {"title": "x", "n": [1, 2]})
    couch_db("PUT", "/film/leaves", params={"rev": rev}, data=b"abc", headers={"Content-Type": BINARY})
    document = couch_db.get("film")
    assert (document["title"], document["n"]) == ("x", [1, 2])


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-100", 206, b"89"),
    ],
)
def test_a_range_of_an_attachment_can_be_read(couch_db: CouchDb, asked: str, status: int, content: bytes) -> None:
    couch_db.put("film", {"_attachments": {"leaves": inline(b"0123456789")}})
    response = couch_db("GET", "/film/leaves", headers={"Range": asked})
    assert (response.status_code, response.content) == (status, content)
    assert response.headers["Content-Range"].endswith("/10")
    assert response.headers["Content-Length"] == str(len(content))


def test_a_range_beyond_the_end_is_refused(couch_db: CouchDb) -> None:
    couch_db.put("film", {"_attachments": {"leaves": inline(b"0123456789")}})
    assert couch_db("GET", "/film/leaves", headers={"Range": "bytes=10-"}).status_code == 416


def test_the_head_of_an_attachment_tells_its_size(couch_db: CouchDb) -> None:
    couch_db.put("film", {"_attachments": {"leaves": inline(b"0123456789")}})
    response = couch_db("HEAD", "/film/leaves")
    assert (response.status_code, response.headers["Content-Length"], response.content) == (200, "10", b"")


def test_an_attachment_may_be_empty_and_have_an_odd_name(couch_db: CouchDb) -> None:
    couch_db.put("film", {"_attachments": {"a/ö b.bin": inline(b"")}})
    assert couch_db("GET", "/film/a/%C3%B6%20b.bin").content == b""
    assert couch_db("GET", "/film/a%2F%C3%B6%20b.bin").status_code == 200
    assert couch_db.get("film")["_attachments"]["a/ö b.bin"]["length"] == 0


@pytest.mark.parametrize("attachment", [{"data": "not base64!"}, {"data": 1}, {}, 1, {"follows": True}])
def test_what_is_no_attachment_is_not_stored(
    couch_db: CouchDb, couchdb_server: CouchServer, attachment: object
) -> None:
    response = couch_db("PUT", "/film", json={"_attachments": {"a": attachment}})
    if couchdb_server.embedded:  # CouchDB stores the document without a 1, and has no words for what does not follow
        assert response.status_code == 400
    assert couch_db("GET", "/film/a").status_code == 404


def test_a_name_may_not_begin_with_an_underscore(couch_db: CouchDb) -> None:
    assert couch_db("PUT", "/film", json={"_attachments": {"_a": inline(b"x")}}).status_code == 400


def test_attachments_do_not_count_towards_the_size_of_a_document(couch_db: CouchDb) -> None:
    data = os.urandom(9_000_000)
    couch_db.put("film", {"_attachments": {"leaves": inline(data)}})
    assert couch_db("GET", "/film/leaves").content == data


def test_a_document_and_its_attachments_can_be_put_in_one_multipart_body(couch_db: CouchDb) -> None:
    first, second = os.urandom(1000), b"\r\n--not-the-edge\r\n"
    document = {
        "_id": "film",
        "_rev": f"2-{B}",
        "_revisions": {"start": 2, "ids": [B, A]},
        "n": 1,
        "_attachments": {
            "one": {"content_type": BINARY, "revpos": 1, "length": len(first), "follows": True},
            "two": {"content_type": BINARY, "revpos": 2, "length": len(second), "follows": True},
        },
    }
    body = b"--edge\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode()
    for name, data in (("one", first), ("two", second)):
        head = f'Content-Disposition: attachment; filename="{name}"\r\nContent-Type: {BINARY}\r\n'
        body += b"\r\n--edge\r\n" + head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data
    body += b"\r\n--edge--"
    headers = {"Content-Type": 'multipart/related; boundary="edge"'}
    response = couch_db("PUT", "/film", params={"new_edits": "false"}, data=body, headers=headers)
    assert response.status_code == 201, response.text
    assert couch_db.get("film")["_rev"] == f"2-{B}"
    assert couch_db("GET", "/film/one").content == first
    assert couch_db("GET", "/film/two").content == second
    stubs = couch_db.get("film")["_attachments"]
    assert (stubs["one"]["revpos"], stubs["two"]["revpos"]) == (1, 2)


def test_what_another_server_sends_gzipped_is_stored_plain(couch_db: CouchDb, couchdb_server: CouchServer) -> None:
    text = b"text " * 1000
    packed = gzip.compress(text)
    stub = {
        "content_type": "text/plain",
        "revpos": 1,
        "encoding": "gzip",
        "length": len(text),
        "encoded_length": len(packed),
        "digest": digest(packed),
        "follows": True,
    }
    document = {"_id": "film", "_rev": f"1-{A}", "_attachments": {"text": stub}}
    body = b"--edge\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode()
    body += b'\r\n--edge\r\nContent-Disposition: attachment; filename="text"\r\nContent-Encoding: gzip\r\n\r\n'
    body += packed + b"\r\n--edge--"
    headers = {"Content-Type": 'multipart/related; boundary="edge"'}
    response = couch_db("PUT", "/film", params={"new_edits": "false"}, data=body, headers=headers)
    assert response.status_code == 201, response.text
    plain = couch_db("GET", "/film/text", headers={"Accept-Encoding": "identity"})
    assert plain.content == text
    if couchdb_server.embedded:
        assert "Content-Encoding" not in plain.headers


def test_bulk_get_brings_the_bytes_that_came_after_a_known_revision(couch_db: CouchDb) -> None:
    first = couch_db.put("film", {"_attachments": {"old": inline(b"old")}})
    couch_db("PUT", "/film/new", params={"rev": first}, data=b"new", headers={"Content-Type": BINARY})
    asked = {"docs": [{"id": "film", "rev": couch_db.get("film")["_rev"], "atts_since": [first]}]}
    query = {"revs": "true", "attachments": "true"}
    (result,) = couch_db("POST", "/_bulk_get", params=query, json=asked).json()["results"]
    found = result["docs"][0]["ok"]["_attachments"]
    assert found["old"]["stub"] is True
    assert base64.b64decode(found["new"]["data"]) == b"new"


def test_equal_bytes_are_kept_as_long_as_anybody_has_them(couch_db: CouchDb) -> None:
    data = os.urandom(5000)
    rev = couch_db.put("one", {"_attachments": {"a": inline(data)}})
    couch_db.put("two", {"_attachments": {"b": inline(data)}})
    couch_db("DELETE", "/one", params={"rev": rev})
    couch_db("POST", "/_compact", json={})
    assert couch_db("GET", "/two/b").content == data
