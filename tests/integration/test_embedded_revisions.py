"""The names of revisions, and what an edit is answered with; holds against Apache CouchDB as well."""

from __future__ import annotations

import json

import pytest

from tests.couch import CouchDb

WRONG = f"1-{'p' * 32}"


def test_a_hash_of_32_digits_is_hexadecimal_and_written_in_small_letters(couch_db: CouchDb) -> None:
    given, kept = f"1-{'ABCD' * 8}", f"1-{'abcd' * 8}"
    couch_db.bulk([{"_id": "film", "_rev": given}], new_edits=False)
    assert couch_db.get("film") == {"_id": "film", "_rev": kept}
    assert couch_db.get("film", rev=given)["_rev"] == kept
    assert couch_db("POST", "/_revs_diff", json={"film": [given]}).json() == {}


@pytest.mark.parametrize("query", [{"rev": WRONG}, {"open_revs": json.dumps([WRONG])}])
def test_one_that_is_not_hexadecimal_is_nobodys(couch_db: CouchDb, query: dict[str, str]) -> None:
    couch_db.put("film", {})
    assert couch_db("GET", "/film", params=query).status_code == 400


def test_one_that_is_not_hexadecimal_is_not_taken(couch_db: CouchDb) -> None:
    documents = [
        {"_id": "film", "_rev": WRONG},
        {"_id": "film", "_rev": "2-a", "_revisions": {"start": 2, "ids": ["a", "p" * 32]}},
    ]
    for each in documents:
        assert couch_db("POST", "/_bulk_docs", json={"docs": [each], "new_edits": False}).status_code == 400
    assert couch_db("POST", "/_revs_diff", json={"film": [WRONG]}).status_code == 400


def test_one_of_another_length_may_be_anything(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": "film", "_rev": "1-pppp"}], new_edits=False)
    assert couch_db.get("film")["_rev"] == "1-pppp"


def test_an_edit_that_deletes_makes_nothing_and_says_so(couch_db: CouchDb) -> None:
    rev = couch_db.put("film", {})
    response = couch_db("PUT", "/film", json={"_rev": rev, "_deleted": True})
    assert (response.status_code, response.json()["id"]) == (200, "film")
    assert couch_db("GET", "/film").json()["reason"] == "deleted"
