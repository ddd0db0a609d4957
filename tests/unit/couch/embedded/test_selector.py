"""Which documents a selector means; the odd cases are as Apache CouchDB answers them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.couch.embedded.problems import Problem
from dmedia_transfer.couch.embedded.selector import compile_selector

DOCUMENT = {
    "_id": "x",
    "type": "dmedia/machine",
    "n": 5,
    "zero": 0,
    "null": None,
    "flag": True,
    "tags": ["a", "b"],
    "entries": [{"id": 1, "paused": False}, {"id": 2, "paused": True}],
    "peer": {"port": 80, "a.b": 1},
}

MEANT: list[dict[str, Any]] = [
    {},
    {"type": "dmedia/machine"},
    {"type": {"$eq": "dmedia/machine"}, "n": 5},
    {"n": 5.0},
    {"n": {"$gt": 4, "$lt": 6}},
    {"n": {"$gte": 5, "$lte": 5}},
    {"n": {"$ne": 4}},
    {"n": {"$in": [1, 5]}},
    {"n": {"$nin": [1, 2]}},
    {"n": {"$gt": None}},
    {"n": {"$lt": "a string comes after every number"}},
    {"tags": {"$in": ["b"]}},
    {"tags": {"$all": ["b", "a"]}},
    {"tags": {"$size": 2}},
    {"tags": ["a", "b"]},
    {"tags.1": "b"},
    {"entries": {"$elemMatch": {"id": 2, "paused": True}}},
    {"tags": {"$elemMatch": {"$eq": "a"}}},
    {"tags": {"$allMatch": {"$type": "string"}}},
    {"peer": {"port": 80}},
    {"peer.port": 80},
    {"peer.a\\.b": 1},
    {"peer": {"port": {"$gt": 79}}},
    {"absent": {"$exists": False}},
    {"null": {"$exists": True}},
    {"null": None},
    {"null": {"$type": "null"}},
    {"flag": {"$type": "boolean"}},
    {"n": {"$type": "number"}},
    {"type": {"$regex": "^dmedia/"}},
    {"type": {"$beginsWith": "dmedia/"}},
    {"$or": [{"n": 1}, {"n": 5}]},
    {"$and": [{"n": 5}, {"flag": True}]},
    {"$nor": [{"n": 1}, {"n": 2}]},
    {"$not": {"n": 1}},
    {"n": {"$not": {"$gt": 9}}},
    {"$not": {"$and": [{"n": 5}, {"zero": 1}]}},
    {"$not": {"absent": {"$exists": True}}},
    {"$not": {"n": 5, "zero": 1}},
    {"$or": []},
]

NOT_MEANT: list[dict[str, Any]] = [
    {"type": "dmedia/file"},
    {"absent": 1},
    {"absent": None},
    {"absent": {"$ne": 1}},
    {"absent": {"$nin": [1]}},
    {"absent": {"$lt": 5}},
    {"$not": {"absent": 1}},
    {"absent": {"$not": {"$regex": "x"}}},
    {"$nor": [{"absent": 1}]},
    {"zero": False},
    {"flag": 1},
    {"n": True},
    {"n": {"$in": []}},
    {"n": {"$gt": 5}},
    {"n": "5"},
    {"tags": {"$size": 3}},
    {"tags": {"$all": []}},
    {"tags": ["b", "a"]},
    {"entries": {"$elemMatch": {"id": 1, "paused": True}}},
    {"entries": {"$allMatch": {"paused": True}}},
    {"n": {"$regex": "5"}},
    {"peer": {}},
    {"$not": {"n": 5}},
    {"$not": {"$or": [{"n": 5}, {"n": 6}]}},
    {"peer": {"port": 80, "other": 1}},
]


@pytest.mark.parametrize("selector", MEANT, ids=repr)
def test_a_document_is_meant(selector: dict[str, Any]) -> None:
    assert compile_selector(selector)(DOCUMENT)


@pytest.mark.parametrize("selector", NOT_MEANT, ids=repr)
def test_a_document_is_not_meant(selector: dict[str, Any]) -> None:
    assert not compile_selector(selector)(DOCUMENT)


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ({"n": {"$near": 1}}, "invalid_operator"),
        ({"$where": "1"}, "invalid_operator"),
        ({"n": {"$in": 1}}, "bad_arg"),
        ({"n": {"$exists": 1}}, "bad_arg"),
        ({"n": {"$type": "film"}}, "bad_arg"),
        ({"n": {"$type": []}}, "bad_arg"),
        ({"n": {"$size": "1"}}, "bad_arg"),
        ({"n": {"$regex": "("}}, "bad_arg"),
        ({"n": {"$regex": 1}}, "bad_arg"),
        ({"$and": {"n": 1}}, "bad_arg"),
        ({"$and": [1]}, "bad_arg"),
        ([], "bad_arg"),
        (None, "bad_arg"),
    ],
    ids=repr,
)
def test_a_selector_that_makes_no_sense_is_refused_by_name(selector: object, name: str) -> None:
    with pytest.raises(Problem) as caught:
        compile_selector(selector)
    assert (caught.value.status, caught.value.name) == (400, name)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@given(json_values, json_values)
def test_the_comparisons_agree_with_each_other(value: Any, bound: Any) -> None:
    def holds(operator: str) -> bool:
        return compile_selector({"f": {operator: bound}})({"f": value})

    assert [holds("$lt"), holds("$eq"), holds("$gt")].count(True) == 1
    assert holds("$lte") == (holds("$lt") or holds("$eq"))
    assert holds("$gte") == (holds("$gt") or holds("$eq"))
    assert holds("$ne") != holds("$eq")


@given(json_values, json_values)
def test_of_a_field_that_is_there_a_negation_means_the_opposite(value: Any, bound: Any) -> None:
    for operator in ("$eq", "$gt", "$lte"):
        plain, negated = {"f": {operator: bound}}, {"$not": {"f": {operator: bound}}}
        assert compile_selector(plain)({"f": value}) != compile_selector(negated)({"f": value})
