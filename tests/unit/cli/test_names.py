"""What people call files and stores."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.cli import names
from dmedia_transfer.errors import InvalidRequest, TransferError, Unknown

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
FILM = {"_id": "FILM" + "A" * 44, "name": "film.mkv"}
FILMS = {"_id": "FILM" + "B" * 44, "name": "films.zip"}
SONG = {"_id": "SONG" + "A" * 44, "name": "film.mkv"}


def test_an_id_means_its_document_in_any_case() -> None:
    assert names.pick(FILM["_id"].lower(), [FILM, FILMS, SONG], kind="file") == FILM


def test_the_beginning_of_an_id_is_enough_if_no_other_begins_so() -> None:
    assert names.pick("son", [FILM, FILMS, SONG], kind="file") == SONG


def test_a_name_is_enough_if_no_other_has_it() -> None:
    assert names.pick("films.zip", [FILM, FILMS, SONG], kind="file") == FILMS


def test_a_name_is_taken_as_it_is_written() -> None:
    with pytest.raises(Unknown, match=r"there is no file 'FILMS\.ZIP'"):
        names.pick("FILMS.ZIP", [FILMS], kind="file")


@pytest.mark.parametrize("text", ["film", "film.mkv"])
def test_several_that_could_be_meant_are_listed(text: str) -> None:
    with pytest.raises(names.Ambiguous, match="could be 2 files") as caught:
        names.pick(text, [FILM, FILMS] if text == "film" else [FILM, SONG], kind="file")
    assert "FILMAAAAAAAAAAAA (film.mkv)" in str(caught.value)


def test_a_long_list_of_candidates_is_cut() -> None:
    many = [{"_id": f"{each}" + "A" * 47, "name": "x"} for each in ALPHABET]
    with pytest.raises(names.Ambiguous, match=r"could be 32 files: .* and 22 more$"):
        names.pick("x", many, kind="file")


def test_a_whole_id_is_not_the_beginning_of_another() -> None:
    other = {"_id": "S" * 24}
    named_so = {"_id": "T" * 24, "name": "S" * 24}
    assert names.pick("S" * 24, [other, named_so], kind="store") == other


def test_nobody_is_meant_by_nothing() -> None:
    with pytest.raises(InvalidRequest, match="has to be named"):
        names.pick("", [FILM], kind="file")


def test_an_unknown_name_comes_with_a_hint_and_obeys_no_terminal() -> None:
    with pytest.raises(Unknown, match=r"^there is no store 'a\\ufffdb'; look$|^there is no store 'a.b'; look$"):
        names.pick("a\x1bb", [], kind="store", hint="look")


@pytest.mark.parametrize("name", [None, 7, ["x"], {}])
def test_a_name_that_is_none_is_empty(name: Any) -> None:
    assert names.name_of({"_id": "A" * 24, "name": name}) == ""


@given(st.lists(st.text(ALPHABET, min_size=4, max_size=4), min_size=1, max_size=8, unique=True), st.data())
def test_whatever_is_picked_begins_so_or_is_called_so(beginnings: list[str], data: st.DataObject) -> None:
    raws = [{"_id": each + "A" * 20, "name": each.lower()} for each in beginnings]
    text = data.draw(st.sampled_from(beginnings))[: data.draw(st.integers(1, 4))]
    meant = [raw for raw in raws if raw["_id"].startswith(text) or raw["name"] == text]
    try:
        picked = names.pick(text, raws, kind="store")
    except TransferError:
        assert len(meant) != 1
    else:
        assert [picked] == meant
