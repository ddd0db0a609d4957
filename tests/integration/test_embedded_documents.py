"""Documents over HTTP, as CouchDB keeps them; holds against Apache CouchDB as well."""

from __future__ import annotations

from typing import Any

import pytest

from tests.couch import CouchDb, CouchServer

A, B, C = "a" * 32, "b" * 32, "c" * 32


def conflicting(db: CouchDb, id: str = "film") -> None:
    """A document with the root 1-a and the leaves 2-b and 2-c, made by replication."""
    db.bulk([{"_id": id, "_rev": f"1-{A}", "v": "a", "_revisions": {"start": 1, "ids": [A]}}], new_edits=False)
    for leaf in (B, C):
        document = {"_id": id, "_rev": f"2-{leaf}", "v": leaf[0], "_revisions": {"start": 2, "ids": [leaf, A]}}
        assert db.bulk([document], new_edits=False) == []


def test_a_document_comes_back_as_it_was_stored(couch_db: CouchDb) -> None:
    content = {"title": "Ünïcode \u2028 𝄞", "bytes": 12345678901234, "list": [1, 2.5, None, True, {}], "": "no name"}
    rev = couch_db.put("film", content)
    assert couch_db.get("film") == {"_id": "film", "_rev": rev, **content}


@pytest.mark.parametrize("id", ["a/b", "a b", "é", "%41", "a%2Fb", "a+b", "?#&=", "{x}", "_design/x/y", "a\nb", "'\""])
def test_an_id_may_be_nearly_anything(couch_db: CouchDb, id: str) -> None:
    couch_db.put(id, {"n": 1})
    assert couch_db.get(id)["_id"] == id
    assert [row["id"] for row in couch_db("GET", "/_all_docs").json()["rows"]] == [id]


def test_an_edit_needs_the_current_revision(couch_db: CouchDb) -> None:
    first = couch_db.put("film", {"n": 1})
    second = couch_db.put("film", {"n": 2, "_rev": first})
    assert second.startswith("2-")
    for document in ({"n": 3}, {"n": 3, "_rev": first}, {"n": 3, "_rev": f"2-{A}"}):
        response = couch_db("PUT", "/film", json=document)
        assert response.status_code == 409
        assert response.json()["error"] == "conflict"
    assert couch_db.get("film")["n"] == 2


def test_the_revision_may_come_in_the_query_or_in_if_match(couch_db: CouchDb) -> None:
    first = couch_db.put("film", {"n": 1})
    second = couch_db("PUT", "/film", params={"rev": first}, json={"n": 2}).json()["rev"]
    third = couch_db("PUT", "/film", headers={"If-Match": second}, json={"n": 3}).json()["rev"]
    assert couch_db.get("film")["_rev"] == third
    clash = couch_db("PUT", "/film", params={"rev": third}, json={"n": 4, "_rev": first})
    assert clash.status_code == 400


def test_equal_edits_of_equal_revisions_have_equal_names(couch_db: CouchDb) -> None:
    one = couch_db.put("one", {"n": 1, "list": [1, {"a": 2}]})
    two = couch_db.put("two", {"n": 1, "list": [1, {"a": 2}]})
    assert one == two
    assert couch_db.put("one", {"n": 2, "_rev": one}) == couch_db.put("two", {"n": 2, "_rev": two})


def test_a_deleted_document_is_gone_and_can_be_made_anew(couch_db: CouchDb) -> None:
    rev = couch_db.put("film", {"n": 1})
    assert couch_db("DELETE", "/film").status_code == 409
    deletion = couch_db("DELETE", "/film", params={"rev": rev})
    assert deletion.status_code == 200
    assert couch_db("GET", "/film").json() == {"error": "not_found", "reason": "deleted"}
    assert couch_db.get("film", rev=deletion.json()["rev"]) == {
        "_id": "film",
        "_rev": deletion.json()["rev"],
        "_deleted": True,
    }
    assert couch_db.put("film", {"n": 2}).startswith("3-")
    assert couch_db.get("film")["n"] == 2


def test_what_was_never_there_is_missing(couch_db: CouchDb) -> None:
    for method in ("GET", "DELETE"):
        response = couch_db(method, "/film")
        assert (response.status_code, response.json()) == (404, {"error": "not_found", "reason": "missing"})
    assert couch_db("HEAD", "/film").status_code == 404
    couch_db.put("film", {})
    assert couch_db("GET", "/film", params={"rev": f"9-{A}"}).status_code == 404


def test_the_etag_saves_a_second_reading(couch_db: CouchDb) -> None:
    rev = couch_db.put("film", {"n": 1})
    response = couch_db("GET", "/film")
    assert response.headers["ETag"] == f'"{rev}"'
    assert couch_db("GET", "/film", headers={"If-None-Match": f'"{rev}"'}).status_code == 304
    head = couch_db("HEAD", "/film")
    assert (head.status_code, head.headers["ETag"], head.content) == (200, f'"{rev}"', b"")


def test_a_document_without_id_is_given_one(couch_db: CouchDb) -> None:
    response = couch_db("POST", json={"n": 1})
    assert response.status_code == 201
    assert couch_db.get(response.json()["id"])["n"] == 1


def test_conflicts_are_kept_and_shown(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    assert couch_db.get("film", conflicts="true") == {
        "_id": "film",
        "_rev": f"2-{C}",
        "v": "c",
        "_conflicts": [f"2-{B}"],
    }
    leaves = couch_db("GET", "/film", params={"open_revs": "all", "revs": "true"}).json()
    assert {row["ok"]["_rev"]: row["ok"]["_revisions"]["ids"] for row in leaves} == {
        f"2-{B}": [B, A],
        f"2-{C}": [C, A],
    }


def test_a_conflict_is_resolved_by_deleting_the_loser(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    (row,) = couch_db.bulk([{"_id": "film", "_rev": f"2-{B}", "_deleted": True}])
    assert row["ok"] is True
    document = couch_db.get("film", conflicts="true", deleted_conflicts="true")
    assert "_conflicts" not in document
    assert document["_deleted_conflicts"] == [row["rev"]]


def test_when_the_winner_is_deleted_the_other_branch_wins(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    assert couch_db("DELETE", "/film", params={"rev": f"2-{C}"}).status_code == 200
    assert couch_db.get("film")["_rev"] == f"2-{B}"


def test_a_losing_branch_can_be_edited(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    rev = couch_db.put("film", {"v": "longer", "_rev": f"2-{B}"})
    assert couch_db.get("film", conflicts="true") == {
        "_id": "film",
        "_rev": rev,
        "v": "longer",
        "_conflicts": [f"2-{C}"],
    }


def test_revisions_can_be_asked_for_one_by_one(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    asked = f'["2-{B}","9-{A}"]'
    rows = couch_db("GET", "/film", params={"open_revs": asked}).json()
    assert rows == [{"ok": {"_id": "film", "_rev": f"2-{B}", "v": "b"}}, {"missing": f"9-{A}"}]
    latest = couch_db("GET", "/film", params={"open_revs": f'["1-{A}"]', "latest": "true"}).json()
    assert sorted(row["ok"]["_rev"] for row in latest) == [f"2-{B}", f"2-{C}"]


def test_revs_info_says_which_revisions_have_a_body(couch_db: CouchDb) -> None:
    couch_db.bulk(
        [{"_id": "film", "_rev": f"3-{C}", "_revisions": {"start": 3, "ids": [C, B, A]}}],
        new_edits=False,
    )
    assert couch_db.get("film", revs_info="true")["_revs_info"] == [
        {"rev": f"3-{C}", "status": "available"},
        {"rev": f"2-{B}", "status": "missing"},
        {"rev": f"1-{A}", "status": "missing"},
    ]


def test_replicating_a_revision_again_changes_nothing(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    before = couch_db.changes()["last_seq"]
    conflicting(couch_db)
    assert couch_db.changes(since=before)["results"] == []


def test_bulk_docs_reports_conflicts_row_by_row(couch_db: CouchDb) -> None:
    couch_db.put("taken", {})
    rows = couch_db.bulk([{"_id": "free"}, {"_id": "taken"}, {"n": 1}])
    assert rows[0]["ok"] is True
    assert (rows[1]["id"], rows[1]["error"], rows[1]["reason"]) == ("taken", "conflict", "Document update conflict.")
    assert rows[2]["ok"] is True
    assert rows[2]["id"]


@pytest.mark.parametrize("id", ["_x", "", 1])
def test_one_illegal_id_fails_a_whole_bulk(couch_db: CouchDb, id: Any) -> None:
    response = couch_db("POST", "/_bulk_docs", json={"docs": [{"_id": "fine"}, {"_id": id}]})
    assert response.status_code == 400
    assert couch_db("GET", "/fine").status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b'{"a": NaN}', b'{"a": "\xff"}', b'{"_rev": "x"}', b'{"_unknown": 1}', b"1"]
)
def test_what_is_no_document_is_refused(couch_db: CouchDb, body: bytes) -> None:
    response = couch_db("PUT", "/film", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert {"error", "reason"} <= response.json().keys()


def test_a_document_over_eight_megabytes_is_too_large(couch_db: CouchDb) -> None:
    response = couch_db("PUT", "/film", json={"text": "x" * 8_000_001})
    assert response.status_code == 413
    assert response.json()["error"] == "document_too_large"
    couch_db.put("film", {"text": "x" * 7_900_000})


def test_all_docs_lists_what_is_there_in_order(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": id, "n": n} for n, id in enumerate(["c", "a", "b", "A", "é"])])
    couch_db("DELETE", "/b", params={"rev": couch_db.get("b")["_rev"]})

    def ids(**query: str) -> list[str]:
        return [row["id"] for row in couch_db("GET", "/_all_docs", params=query).json()["rows"]]

    assert ids() == ["A", "a", "c", "é"]
    assert ids(descending="true") == ["é", "c", "a", "A"]
    assert ids(startkey='"a"', endkey='"c"') == ["a", "c"]
    assert ids(startkey='"a"', endkey='"c"', inclusive_end="false") == ["a"]
    assert ids(startkey='"c"', endkey='"a"', descending="true") == ["c", "a"]
    assert ids(key='"c"') == ["c"]
    assert ids(limit="2", skip="1") == ["a", "c"]
    assert ids(startkey='"a"', endkey='"a\ufff0"') == ["a"]
    answer = couch_db("GET", "/_all_docs", params={"include_docs": "true", "key": '"a"'}).json()
    assert answer["total_rows"] == 4
    assert answer["rows"][0]["doc"] == couch_db.get("a")


def test_all_docs_for_keys_answers_each_in_turn(couch_db: CouchDb) -> None:
    rev = couch_db.put("a", {"n": 1})
    gone = couch_db.put("gone", {})
    tombstone = couch_db("DELETE", "/gone", params={"rev": gone}).json()["rev"]
    query = {"include_docs": "true"}
    rows = couch_db("POST", "/_all_docs", params=query, json={"keys": ["none", "a", "gone", "a"]}).json()["rows"]
    document = {"_id": "a", "_rev": rev, "n": 1}
    assert rows == [
        {"key": "none", "error": "not_found"},
        {"id": "a", "key": "a", "value": {"rev": rev}, "doc": document},
        {"id": "gone", "key": "gone", "value": {"rev": tombstone, "deleted": True}, "doc": None},
        {"id": "a", "key": "a", "value": {"rev": rev}, "doc": document},
    ]


def test_a_head_of_a_listing_has_no_body_that_the_next_answer_trips_over(couch_db: CouchDb) -> None:
    couch_db.put("a", {})
    assert couch_db("HEAD", "/_all_docs").status_code == 200
    assert couch_db.get("a")["_id"] == "a"


def test_find_selects_projects_and_limits(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"f{n}", "type": "file", "n": n, "in": {"side": n % 2}} for n in range(6)] + [{"_id": "x"}])

    def find(**query: Any) -> list[dict[str, Any]]:
        return list(couch_db("POST", "/_find", json=query).json()["docs"])

    assert [found["_id"] for found in find(selector={"type": "file", "n": {"$gte": 4}})] == ["f4", "f5"]
    assert find(selector={"in.side": 1}, fields=["n", "in.side"], limit=2) == [
        {"n": 1, "in": {"side": 1}},
        {"n": 3, "in": {"side": 1}},
    ]
    assert len(find(selector={"type": "file"}, skip=4)) == 2
    assert find(selector={"_id": "f1"}, fields=["in", "in.side", "n.x"]) == [{"in": {"side": 1}}]
    bad = couch_db("POST", "/_find", json={"selector": {"n": {"$nonsense": 1}}})
    assert bad.status_code == 400


def test_local_documents_are_not_listed_and_leave_no_trace(couch_db: CouchDb) -> None:
    assert couch_db("GET", "/_local/checkpoint").status_code == 404
    rev = couch_db("PUT", "/_local/checkpoint", json={"seq": 1}).json()["rev"]
    assert rev == "0-1"
    assert couch_db("PUT", "/_local/checkpoint", json={"seq": 2, "_rev": rev}).json()["rev"] == "0-2"
    assert couch_db("GET", "/_local/checkpoint").json() == {"_id": "_local/checkpoint", "_rev": "0-2", "seq": 2}
    assert couch_db("GET", "/_all_docs").json()["rows"] == []
    assert couch_db.changes()["results"] == []
    assert couch_db("DELETE", "/_local/checkpoint", params={"rev": "0-2"}).status_code == 200
    assert couch_db("GET", "/_local/checkpoint").status_code == 404


def test_revs_diff_names_what_is_missing(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    answer = couch_db("POST", "/_revs_diff", json={"film": [f"2-{B}", f"3-{A}"], "other": [f"1-{A}"]}).json()
    assert sorted(answer["film"].pop("possible_ancestors")) == [f"2-{B}", f"2-{C}"]
    assert answer == {"film": {"missing": [f"3-{A}"]}, "other": {"missing": [f"1-{A}"]}}


def test_bulk_get_brings_revisions_with_their_history(couch_db: CouchDb) -> None:
    conflicting(couch_db)
    body = {"docs": [{"id": "film", "rev": f"2-{B}"}, {"id": "film"}, {"id": "none"}, {"id": "film", "rev": f"7-{A}"}]}
    one, every, none, absent = couch_db("POST", "/_bulk_get", params={"revs": "true"}, json=body).json()["results"]
    assert one["docs"][0]["ok"]["_revisions"] == {"start": 2, "ids": [B, A]}
    assert sorted(found["ok"]["_rev"] for found in every["docs"]) in ([f"2-{B}", f"2-{C}"], [f"2-{C}"])
    assert none["docs"][0]["error"]["error"] == "not_found"
    assert absent["docs"][0]["error"]["rev"] == f"7-{A}"


def test_compaction_forgets_old_bodies_but_no_leaf(couch_db: CouchDb, couchdb_server: CouchServer) -> None:
    first = couch_db.put("film", {"n": 1})
    assert couch_db.get("film", rev=first)["n"] == 1
    couch_db.put("film", {"n": 2, "_rev": first})
    conflicting(couch_db, "conflicting")
    assert couch_db("POST", "/_compact", json={}).status_code == 202
    assert couch_db.get("film")["n"] == 2
    assert couch_db.get("conflicting", rev=f"2-{B}")["v"] == "b"
    if couchdb_server.embedded:  # elsewhere it is done some time later
        assert couch_db("GET", "/film", params={"rev": first}).status_code == 404


def test_the_revision_limit_bounds_the_history(couch_db: CouchDb) -> None:
    assert couch_db("GET", "/_revs_limit").json() == 1000
    assert couch_db("PUT", "/_revs_limit", data="3").status_code == 200
    rev = couch_db.put("film", {"n": 0})
    for n in range(1, 6):
        rev = couch_db.put("film", {"n": n, "_rev": rev})
    assert len(couch_db.get("film", revs="true")["_revisions"]["ids"]) == 3


def test_an_old_revision_that_was_forgotten_comes_back_as_a_conflict_at_most(couch_db: CouchDb) -> None:
    couch_db("PUT", "/_revs_limit", data="1")
    first = couch_db.put("film", {"n": 1})
    couch_db.put("film", {"n": 2, "_rev": first})
    old = {"_id": "film", "_rev": first, "n": 1, "_revisions": {"start": 1, "ids": [first[2:]]}}
    assert couch_db.bulk([old], new_edits=False) == []
    assert couch_db.get("film")["n"] == 2


def test_the_security_object_is_kept(couch_db: CouchDb) -> None:
    security = {"admins": {"names": ["a"], "roles": ["_admin"]}, "members": {"names": [], "roles": ["_admin"]}}
    assert couch_db("PUT", "/_security", json=security).status_code == 200
    assert couch_db("GET", "/_security").json() == security


def test_the_database_says_what_is_in_it(couch_db: CouchDb, database: tuple[str, str]) -> None:
    couch_db.bulk([{"_id": "a"}, {"_id": "b"}, {"_id": "c"}])
    couch_db("DELETE", "/a", params={"rev": couch_db.get("a")["_rev"]})
    info = couch_db("GET").json()
    assert (info["db_name"], info["doc_count"], info["doc_del_count"]) == (database[1], 2, 1)
    assert info["update_seq"].startswith("4-")
    assert couch_db("HEAD").status_code == 200
    assert couch_db("POST", "/_ensure_full_commit", json={}).status_code == 201


def test_an_existing_database_cannot_be_made_and_a_missing_one_not_be_used(couch_db: CouchDb) -> None:
    assert couch_db("PUT").json()["error"] == "file_exists"
    other = CouchDb(couch_db.session, couch_db.base + "-none")
    for method, path in (("GET", ""), ("GET", "/film"), ("DELETE", ""), ("GET", "/_changes"), ("GET", "/_all_docs")):
        response = other(method, path)
        assert (response.status_code, response.json()["error"]) == (404, "not_found")
    illegal = CouchDb(couch_db.session, couch_db.base.rpartition("/")[0] + "/Upper")
    assert (illegal("PUT").status_code, illegal("PUT").json()["error"]) == (400, "illegal_database_name")


def test_a_recreated_database_is_empty(couch_db: CouchDb) -> None:
    couch_db.put("film", {"n": 1})
    assert couch_db("DELETE").status_code == 200
    assert couch_db("PUT").status_code == 201
    assert couch_db("GET", "/film").status_code == 404
    assert couch_db.put("film", {"n": 1}).startswith("1-")


def test_the_server_says_who_it_is_and_who_we_are(couchdb_server: CouchServer) -> None:
    with couchdb_server.session() as session:
        welcome = session.get(couchdb_server.base + "/", timeout=20).json()
        assert welcome["couchdb"] == "Welcome"
        assert session.get(couchdb_server.base + "/_up", timeout=20).json()["status"] == "ok"
        who = session.get(couchdb_server.base + "/_session", timeout=20).json()
        assert who["userCtx"]["name"] == couchdb_server.user
        assert len(session.get(couchdb_server.base + "/_uuids?count=3", timeout=20).json()["uuids"]) == 3
