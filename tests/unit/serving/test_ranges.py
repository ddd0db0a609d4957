from __future__ import annotations

import pytest

from dmedia_transfer.serving import ranges
from dmedia_transfer.serving.ranges import Slice, Unsatisfiable

TAG = '"F"'


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=0-9999", 0, 100), ("bytes=99-", 99, 100),
     ("bytes=5-", 5, 100), ("bytes=-1", 99, 100), ("bytes=-100", 0, 100), ("bytes=-1000", 0, 100),
     ("BYTES = 1 - 2", 1, 3), (" bytes=1-2 ", 1, 3)],
)  # fmt: skip
def test_a_range_is_what_rfc_9110_says(text: str, start: int, end: int) -> None:
    assert ranges.wanted({"Range": text}, 100, TAG) == Slice(start, end)


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_beyond_the_end_cannot_be_satisfied(text: str) -> None:
    with pytest.raises(Unsatisfiable):
        ranges.wanted({"Range": text}, 100, TAG)


@pytest.mark.parametrize(
    "text",
    ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,3-4", "bytes=--1", "bytes=1.5-2",
     "items=0-1", "bytes=0x1-2", "bytes=١-٢", "bytes=-" + "9" * 20, "bytes=0-1;x"],
)  # fmt: skip
def test_what_is_not_understood_is_ignored(text: str) -> None:
    assert ranges.wanted({"Range": text}, 100, TAG) is None


def test_if_range_of_another_file_takes_the_range_away() -> None:
    assert ranges.wanted({"Range": "bytes=0-1", "If-Range": TAG}, 100, TAG) == Slice(0, 2)
    for other in ('"G"', 'W/"F"', "Sat, 29 Oct 1994 19:43:31 GMT", ""):
        assert ranges.wanted({"Range": "bytes=0-1", "If-Range": other}, 100, TAG) is None


@pytest.mark.parametrize(
    ("text", "same"), [(TAG, True), ("*", True), ('"G", W/"F"', True), ('"G"', False), ("F", False), ("", False)]
)
def test_if_none_match_compares_weakly(text: str, same: bool) -> None:
    assert ranges.not_modified({"If-None-Match": text}, TAG) is same


@pytest.mark.parametrize(("text", "fails"), [(TAG, False), ("*", False), ('W/"F"', True), ('"G"', True), ("", True)])
def test_if_match_compares_strongly(text: str, fails: bool) -> None:
    assert ranges.precondition_failed({"If-Match": text}, TAG) is fails


def test_without_preconditions_there_are_none() -> None:
    assert not ranges.not_modified({}, TAG)
    assert not ranges.precondition_failed({}, TAG)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("sha-256=10", True), ("sha-512=1, sha-256=5", True), ("sha-256", True), ("sha-256=0", False), ("", False),
     (None, False), ("md5=9", False)],
)  # fmt: skip
def test_digests_are_made_for_who_asks(text: str | None, wanted: bool) -> None:
    assert ranges.wants_sha256(text) is wanted
