"""Documents as they arrive: what is refused, and what a revision is named after."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.couch.embedded import incoming, jsontext
from dmedia_transfer.couch.embedded.incoming import parse
from dmedia_transfer.couch.embedded.problems import Problem
from dmedia_transfer.couch.embedded.revtree import Rev

PARENT = Rev(3, "c" * 32)


def refused(document: object, **options: Any) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        parse(document, **options)
    return caught.value.status, caught.value.name


@pytest.mark.parametrize("id", ["_x", "", None, 1, ["x"], "_local/", "_design/", "_designs/x"])
def test_an_illegal_id_is_refused(id: object) -> None:
    assert refused({"_id": id}) == (400, "illegal_docid")


@pytest.mark.parametrize(
    "document",
    [
        [],
        "x",
        {"_rev": "x"},
        {"_rev": 1},
        {"_deleted": "yes"},
        {"_attachments": []},
        {"_attachments": {"a": {"data": "AAEC", "content_type": "x\r\ny"}}},
        {"_attachments": {"a": {"data": "AAEC", "content_type": "ümlaut/x"}}},
        {"_attachments": {"a": {"data": "AAEC", "encoding": "gzip"}}},
        {"_attachments": {"a": {"data": "AAEC", "encoding": "rot13"}}},
        {"_attachments": {"": {"data": "AAEC"}}},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_a_bad_request(document: object) -> None:
    assert refused(document, id="x") == (400, "bad_request")


@pytest.mark.parametrize(
    "special",
    [
        {"_nonsense": 1},
        {"_revisions": {"start": 1, "ids": ["a", "b"]}},
        {"_revisions": {"start": 1}},
        {"_revisions": {"start": 2, "ids": ["a"]}, "_rev": "1-a"},
        {"_revisions": []},
    ],
    ids=repr,
)
def test_special_members_that_make_no_sense_are_named(special: dict[str, Any]) -> None:
    assert refused(special, id="x") == (400, "doc_validation")


def test_what_we_say_of_a_document_may_be_sent_back() -> None:
    edit = parse({"_id": "x", "n": 1, "_conflicts": ["1-a"], "_revs_info": [], "_local_seq": 3})
    assert json.loads(edit.body) == {"n": 1}


def test_the_ancestry_is_read_from_revisions() -> None:
    edit = parse({"_id": "x", "_revisions": {"start": 5, "ids": ["e", "d"]}})
    assert edit.ancestry == (Rev(5, "e"), Rev(4, "d"))
    assert edit.rev == Rev(5, "e")


def test_gzipped_bytes_are_unpacked() -> None:
    packed = gzip.compress(b"text")
    stub = {"follows": True, "encoding": "gzip", "content_type": "text/plain"}
    (attachment,) = parse({"_attachments": {"a": stub}}, id="x", parts={"a": packed}).attachments
    assert attachment.data == b"text"


def test_a_bomb_of_gzip_does_not_go_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MAX_ATTACHMENT_BYTES", 1000)
    packed = gzip.compress(b"\0" * 1001)
    stub = {"follows": True, "encoding": "gzip", "content_type": "text/plain"}
    assert refused({"_attachments": {"a": stub}}, id="x", parts={"a": packed}) == (413, "attachment_too_large")


def test_the_name_of_a_revision_depends_on_all_that_it_says_and_on_nothing_else() -> None:
    def named(document: dict[str, Any], parent: Rev | None = PARENT, digest: str = "md5-x") -> Rev:
        return parse(document, id="x").revision_after(parent, [("a", "x/y", digest)])

    base = named({"n": 1, "m": 2})
    assert base.pos == 4
    assert named({"m": 2, "n": 1}) == base
    others = [
        named({"n": 2, "m": 2}),
        named({"n": 1, "m": 2, "_deleted": True}),
        named({"n": 1, "m": 2}, parent=None),
        named({"n": 1, "m": 2}, parent=Rev(3, "d" * 32)),
        named({"n": 1, "m": 2}, digest="md5-y"),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 300 + b"]" * 300,
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_or_could_not_be_written_back_is_refused(text: bytes) -> None:
    with pytest.raises(Problem) as caught:
        jsontext.loads(text)
    assert caught.value.status == 400


objects = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(objects)
def test_json_survives_being_written_and_read(value: dict[str, Any]) -> None:
    assert jsontext.loads(jsontext.dumps(value)) == value


@given(objects, objects, objects)
def test_splicing_objects_is_joining_them(head: dict[str, Any], body: dict[str, Any], tail: dict[str, Any]) -> None:
    head, tail = {f"h{name}": item for name, item in head.items()}, {f"t{name}": item for name, item in tail.items()}
    body = {f"b{name}": item for name, item in body.items()}
    assert json.loads(jsontext.splice(head, jsontext.dumps(body), tail)) == {**head, **body, **tail}
