"""What SQLite is asked for a selector: never less than what the selector means."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.couch.embedded.narrowing import narrow
from dmedia_transfer.couch.embedded.selector import compile_selector

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": id, **kind, **deleted}
    for id in ("a", "b", "c")
    for kind in ({"type": "a"}, {"type": "b"}, {"type": 5}, {"type": None}, {"type": ["a"]}, {})
    for deleted in ({}, {"_deleted": True})
]


def candidates(selector: Any) -> list[dict[str, Any]] | None:
    """The documents that SQLite would name."""
    narrowing = narrow(selector)
    if narrowing is None:
        return None
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (number INTEGER, id TEXT, type TEXT, deleted INTEGER)")
    for number, document in enumerate(DOCUMENTS):
        kind = document.get("type")
        row = (number, document["_id"], kind if isinstance(kind, str) else None, int("_deleted" in document))
        connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", row)
    rows = connection.execute(f"SELECT number FROM documents WHERE {narrowing.clause}", narrowing.arguments)
    found = [DOCUMENTS[number] for (number,) in rows]
    connection.close()
    return found


def meant(selector: Any) -> list[dict[str, Any]]:
    matches = compile_selector(selector)
    return [document for document in DOCUMENTS if matches(document)]


@pytest.mark.parametrize(
    "selector",
    [
        {"type": "a"},
        {"type": {"$eq": "a"}, "_id": "b"},
        {"_id": {"$in": ["a", "b"]}},
        {"_id": {"$in": []}},
        {"_deleted": True},
        {"_deleted": {"$eq": True}, "type": "b"},
        {"$and": [{"_id": {"$in": ["a", "b"]}}, {"type": "a"}], "_id": {"$in": ["b", "c"]}},
        {"$or": [{"type": "a"}, {"_deleted": True}, {"_id": {"$in": ["c"]}}]},
    ],
)
def test_what_is_plain_to_see_is_looked_up_exactly(selector: dict[str, Any]) -> None:
    assert candidates(selector) == meant(selector)


def test_one_of_several_types_may_also_be_in_a_list_of_types() -> None:
    selector = {"type": {"$in": ["a", "z"]}}
    found = candidates(selector) or []
    assert {"_id": "a", "type": ["a"]} in found
    assert {"_id": "a", "type": "b"} not in found
    assert all(document in found for document in meant(selector))


@pytest.mark.parametrize(
    "selector",
    [
        {}, [], None, {"n": 1}, {"type": 5}, {"type": {"$in": ["a", 1]}}, {"type": {"$ne": "a"}}, {"type.x": "a"},
        {"_deleted": 1}, {"_deleted": False}, {"$or": []}, {"$or": [{"type": "a"}, {"n": 1}]}, {"$and": []},
        {"$nor": [{"type": "a"}]}, {"$not": {"type": "a"}}, {"$or": 5}, {"$and": {}},
    ],
)  # fmt: skip
def test_what_is_not_plain_to_see_is_not_narrowed(selector: Any) -> None:
    assert narrow(selector) is None


texts = st.sampled_from(["a", "b", "c"])
conditions = st.one_of(
    texts,
    st.just(5),
    st.fixed_dictionaries({"$eq": texts}),
    st.fixed_dictionaries({"$in": st.lists(texts, max_size=2)}),
    st.fixed_dictionaries({"$in": st.lists(st.one_of(texts, st.none()), max_size=2), "$ne": texts}),
    st.fixed_dictionaries({"$not": st.fixed_dictionaries({"$eq": texts})}),
)
members = st.one_of(
    st.fixed_dictionaries({"type": conditions}),
    st.fixed_dictionaries({"_id": conditions}),
    st.fixed_dictionaries({"_deleted": st.sampled_from([True, False, 1, {"$eq": True}, {"$exists": True}])}),
    st.fixed_dictionaries({"type": conditions, "_id": conditions}),
)
selectors = st.recursive(
    members,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, max_size=3), max_size=2),
        st.fixed_dictionaries({"$not": inner}),
    ),
)


@given(selectors)
def test_no_document_that_is_meant_is_left_out(selector: dict[str, Any]) -> None:
    found = candidates(selector)
    assert found is None or all(document in found for document in meant(selector))
