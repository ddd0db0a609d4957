"""The queue in force agrees with what is written into the machine document."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import documents, merge
from dmedia_transfer.manager.wanted import Wanted, generation
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Direction,
    Entry,
    MoveEntries,
    PauseQueue,
    PendingEdit,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
)
from tests.factories import MACHINE_ID, STORE_ID

FILES = ["A" * 48, "B" * 48, "C" * 48]
NAMES = ["a", "b", "c", "d"]

entries = st.builds(
    Entry,
    file_id=st.sampled_from(FILES),
    direction=st.sampled_from(Direction),
    store_id=st.just(STORE_ID),
    id=st.sampled_from(NAMES),
    priority=st.integers(-10, 100),
    paused=st.booleans(),
)
bare = st.sampled_from(FILES)
identities = st.lists(st.sampled_from([*NAMES, f"download:{FILES[0]}:"]), max_size=3).map(tuple)
edits: st.SearchStrategy[QueueEdit] = st.one_of(
    st.builds(AddEntry, entries),
    st.builds(RemoveEntries, identities),
    st.builds(
        ChangeEntries,
        identities,
        paused=st.none() | st.booleans(),
        priority=st.none() | st.integers(-10, 100),
    ),
    st.builds(MoveEntries, identities, st.sampled_from(["", *NAMES]), st.floats(1, 9)),
    st.builds(RenewEntry, st.sampled_from(NAMES), st.uuids().map(str)),
    st.builds(PauseQueue, st.booleans()),
)


def machine(queue: list[Any], revision: str = "1-a") -> dict[str, Any]:
    return {**documents.new_machine(MACHINE_ID, "test", time=1.0), "_rev": revision, "queue": queue}


@given(
    st.lists(
        entries.map(documents.write_entry) | bare,
        max_size=5,
        unique_by=lambda raw: str(raw["id"] if isinstance(raw, dict) else raw),
    ),
    st.lists(edits, max_size=6),
)
def test_edits_mean_the_same_here_and_in_the_document(queue: list[Any], changes: list[QueueEdit]) -> None:
    wanted = Wanted()
    wanted.machine(machine(queue))
    for seq, edit in enumerate(changes):
        wanted.edited([PendingEdit(seq, edit)])
    written = merge.apply(machine(queue), changes)

    other = Wanted()
    other.machine(written)
    assert [wanted.entries(key) for key in wanted.in_order()] == [other.entries(key) for key in other.in_order()]
    assert wanted.paused == other.paused


def test_an_edit_is_in_force_until_the_feed_has_shown_the_revision_that_it_was_written_in() -> None:
    wanted = Wanted()
    wanted.machine(machine([]))
    wanted.edited([PendingEdit(1, AddEntry(Entry(FILES[0], id="a")))])
    wanted.taken([1], machine([{"id": "a", "file_id": FILES[0]}], "2-b"))
    assert len(wanted.in_order()) == 1
    wanted.machine(machine([], "1-a"))
    assert len(wanted.in_order()) == 1
    wanted.machine(machine([{"id": "a", "file_id": FILES[0]}], "2-b"))
    wanted.machine(machine([], "3-c"))
    assert wanted.in_order() == []


def test_a_generation_is_the_number_of_a_revision() -> None:
    assert [generation({"_rev": rev}) for rev in ("12-abc", "nonsense", "")] == [12, 0, 0]
    assert generation({}) == 0
