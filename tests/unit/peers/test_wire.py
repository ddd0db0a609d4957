from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.peers import wire


@given(st.frozensets(st.integers(0, 400)))
def test_leaves_are_written_and_read_back(leaves: frozenset[int]) -> None:
    assert wire.read_leaves(wire.write_leaves(leaves), 401) == leaves


def test_runs_of_leaves_are_short() -> None:
    assert wire.write_leaves([7, 0, 1, 2, 9, 10]) == "0-2,7,9-10"


@given(st.frozensets(st.integers(0, 400)), st.integers(0, 60))
def test_a_list_that_is_cut_names_only_leaves_that_are_there(leaves: frozenset[int], max_length: int) -> None:
    text = wire.write_leaves(leaves, max_length=max_length)
    assert len(text) <= max_length
    assert wire.read_leaves(text, 401) <= leaves


@pytest.mark.parametrize("text", ["x", "-1", "1-", "3-2", "5", "0-5", "1;2", "１", "0-99999999999999999999", "1 2"])
def test_what_is_no_list_of_leaves_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Dmedia-Leaves"):
        wire.read_leaves(text, 5)
