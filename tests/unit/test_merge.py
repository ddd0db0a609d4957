"""Edits of a machine's queue."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import documents, merge
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.merge.entries import merged_entry
from dmedia_transfer.merge.identities import identity
from dmedia_transfer.merge.threeway import UNKNOWN, Side
from dmedia_transfer.model import (
    AddEntry,
    ChangeEntries,
    Direction,
    Entry,
    MoveEntries,
    PauseQueue,
    QueueEdit,
    RecordStored,
    RemoveEntries,
    RenewEntry,
)
from tests import factories

FILE_A, FILE_B, FILE_C = "A" * 48, "B" * 48, "C" * 48
BARE_A = f"download:{FILE_A}:"


def machine(*queue: Any, **facts: Any) -> dict[str, Any]:
    """A machine document with this queue."""
    return {**documents.new_machine(factories.MACHINE_ID, "tv", time=1.0), "queue": list(queue), **facts}


def queue_after(raw: dict[str, Any], *edits: QueueEdit) -> list[Any]:
    """The queue after these edits."""
    queue: list[Any] = merge.apply(raw, edits)["queue"]
    return queue


def test_a_new_entry_goes_to_the_end() -> None:
    entry = Entry(FILE_B, id="b", time=5.0, requested_by="cli")
    assert queue_after(machine(FILE_A), AddEntry(entry)) == [FILE_A, documents.write_entry(entry)]


def test_an_entry_that_is_there_is_not_added_again() -> None:
    there = {"id": "b", "file_id": FILE_B, "note": "from the phone"}
    assert queue_after(machine(there), AddEntry(Entry(FILE_B, id="b"))) == [there]


def test_the_given_document_is_not_changed() -> None:
    raw = machine({"id": "a", "file_id": FILE_A})
    merge.apply(raw, [ChangeEntries(("a",), paused=True), RemoveEntries(("a",)), PauseQueue(True)])
    assert raw == machine({"id": "a", "file_id": FILE_A})


def test_a_bare_string_is_removed_by_its_identity() -> None:
    assert queue_after(machine(FILE_A, FILE_B), RemoveEntries((BARE_A,))) == [FILE_B]


def test_a_changed_bare_string_becomes_a_mapping_without_an_id() -> None:
    assert queue_after(machine(FILE_A), ChangeEntries((BARE_A,), paused=True)) == [{"file_id": FILE_A, "paused": True}]


def test_a_change_to_what_already_holds_changes_nothing() -> None:
    raw = machine(FILE_A, {"id": "b", "file_id": FILE_B, "priority": 10})
    assert (
        merge.apply(raw, [ChangeEntries((BARE_A,), paused=False, priority=0), ChangeEntries(("b",), priority=10)])
        == raw
    )


def test_only_the_fields_that_are_given_change() -> None:
    there = {"id": "b", "file_id": FILE_B, "priority": 10, "note": "from the phone"}
    assert queue_after(machine(there), ChangeEntries(("b",), paused=True)) == [{**there, "paused": True}]


def test_an_upload_without_an_id_is_known_by_file_and_store() -> None:
    upload = {"action": "upload", "file_id": FILE_A, "store_id": factories.STORE_ID}
    other = {**upload, "store_id": factories.OTHER_STORE_ID}
    identity = Entry(FILE_A, Direction.UPLOAD, factories.STORE_ID).identity
    assert queue_after(machine(upload, other), RemoveEntries((identity,))) == [other]


def test_retrying_gives_a_new_id_also_to_an_entry_without_one() -> None:
    raw = machine(FILE_A, {"id": "b", "file_id": FILE_B})
    assert queue_after(raw, RenewEntry(BARE_A, "a2"), RenewEntry("b", "b2")) == [
        {"file_id": FILE_A, "id": "a2"},
        {"id": "b2", "file_id": FILE_B},
    ]


def test_adding_and_renewing_once_more_makes_no_second_entry() -> None:
    edits: list[QueueEdit] = [AddEntry(Entry(FILE_A, id="a")), RenewEntry("a", "a2")]
    once = merge.apply(machine(), edits)
    assert merge.apply(once, edits) == once
    assert [entry["id"] for entry in once["queue"]] == ["a2"]


def test_an_edit_of_an_entry_that_is_gone_changes_nothing() -> None:
    raw = machine(FILE_A)
    assert merge.apply(raw, [RemoveEntries(("x",)), ChangeEntries(("x",), paused=True), RenewEntry("x", "y")]) == raw


@pytest.mark.parametrize("bad", [7, None, {}, {"id": "a"}, {"id": "a", "file_id": "../x"}, ["a"], "not a file"])
def test_an_entry_that_cannot_be_understood_is_carried_through(bad: Any) -> None:
    edits: list[QueueEdit] = [
        RemoveEntries(("a", "download:not a file:", "download:None:")),
        ChangeEntries(("a",), paused=True),
    ]
    assert queue_after(machine(bad, FILE_A), *edits) == [bad, FILE_A]


def test_a_good_entry_is_added_beside_a_bad_one_of_the_same_id_and_only_once() -> None:
    raw = machine({"id": "a", "file_id": "../x"})
    edits = [AddEntry(Entry(FILE_A, id="a"))]
    once = merge.apply(raw, edits)
    assert len(once["queue"]) == 2
    assert merge.apply(once, edits) == once


def test_the_whole_queue_is_held_and_let_go() -> None:
    held = merge.apply(machine(), [PauseQueue(True)])
    assert held["queue_paused"] is True
    assert merge.apply(held, [PauseQueue(False)])["queue_paused"] is False
    assert merge.apply(machine(), [PauseQueue(False)]) == machine()


def test_a_queue_that_is_no_list_is_replaced_only_when_something_is_added() -> None:
    raw = machine() | {"queue": "oops"}
    assert merge.apply(raw, [RemoveEntries(("a",))]) == raw
    assert len(queue_after(raw, AddEntry(Entry(FILE_A, id="a")))) == 1


def test_unknown_keys_of_the_document_survive() -> None:
    raw = machine(FILE_A, future={"x": 1}, _rev="3-abc")
    after = merge.apply(raw, [RemoveEntries((BARE_A,))])
    assert after == {**raw, "queue": []}


def test_the_queue_in_force_has_the_edits_that_wait() -> None:
    queue = merge.queue_in_force(machine(FILE_A, 7), [AddEntry(Entry(FILE_B, id="b")), PauseQueue(True)])
    assert [entry.file_id for entry in queue.entries] == [FILE_A, FILE_B]
    assert queue.paused
    assert len(queue.problems) == 1


def test_there_is_no_queue_in_force_of_a_document_that_cannot_be_believed() -> None:
    with pytest.raises(InvalidDocument, match="hostname"):
        merge.queue_in_force(machine(hostname=7), [])


def test_edits_of_the_queue_are_told_from_others() -> None:
    pause = PauseQueue(True)
    assert merge.queue_edits([RecordStored(FILE_A, factories.STORE_ID, 1, 1.0), pause]) == [pause]


def test_what_adds_an_entry_and_what_is_about_that_entry_are_additions() -> None:
    added, changed = AddEntry(Entry(FILE_A, id="a")), ChangeEntries(("a", "x"), paused=True)
    renewed, removed = RenewEntry("a", "a2"), RemoveEntries(("a2",))
    others: list[QueueEdit] = [
        RemoveEntries(("x",)),
        ChangeEntries(("x",), priority=1),
        RenewEntry("x", "y"),
        PauseQueue(True),
    ]
    assert merge.additions([added, changed, *others, renewed, removed]) == {added, changed, renewed, removed}


def test_a_thousand_edits_of_ten_thousand_entries_are_all_done() -> None:
    raw = machine(*({"id": f"e{n}", "file_id": FILE_A, "priority": n} for n in range(10_000)))
    edits: list[QueueEdit] = [RemoveEntries((f"e{n * 7}",)) for n in range(500)]
    edits += [ChangeEntries((f"e{n * 7 + 1}",), paused=True) for n in range(250)]
    edits += [AddEntry(Entry(FILE_B, id=f"new{n}")) for n in range(250)]
    assert len(merge.apply(raw, edits)["queue"]) == 9_750


# Properties, over small alphabets so that edits hit.

FILES = st.sampled_from([FILE_A, FILE_B, FILE_C])
OLD_IDS = st.sampled_from([f"old{n}" for n in range(5)])
EXTRA = st.dictionaries(st.sampled_from(["x-note", "x-future"]), st.integers(), max_size=2)
GOOD = st.one_of(
    FILES,
    st.builds(lambda file, extra: {"file_id": file, **extra}, FILES, EXTRA),
    st.builds(lambda file, id_, paused: {"id": id_, "file_id": file, "paused": paused}, FILES, OLD_IDS, st.booleans()),
    st.builds(lambda file: {"action": "upload", "file_id": file, "store_id": factories.STORE_ID}, FILES),
)
BAD = st.sampled_from([None, 7, "x", {}, {"id": "old1"}, {"id": "old2", "file_id": FILE_A, "priority": "high"}])
QUEUES = st.lists(st.one_of(GOOD, BAD), max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> list[QueueEdit]:
    """A batch of edits in which each new entry has a new id, as the manager makes them."""
    known = [f"old{n}" for n in range(5)] + [f"download:{file}:" for file in (FILE_A, FILE_B, FILE_C)]
    edits: list[QueueEdit] = []
    for number in range(draw(st.integers(0, 10))):
        some = st.lists(st.sampled_from(known), min_size=1, max_size=3).map(tuple)
        kind = draw(st.sampled_from(["add", "remove", "change", "move", "renew", "pause"]))
        if kind == "add":
            known.append(f"new{number}")
            edits.append(AddEntry(Entry(draw(FILES), id=f"new{number}", priority=draw(st.integers(-10, 100)))))
        elif kind == "remove":
            edits.append(RemoveEntries(draw(some)))
        elif kind == "change":
            paused, priority = draw(st.none() | st.booleans()), draw(st.none() | st.integers(-10, 100))
            edits.append(ChangeEntries(draw(some), paused=paused, priority=priority))
        elif kind == "move":
            edits.append(MoveEntries(draw(some), draw(st.sampled_from(["", *known])), time=1000.0 + number))
        elif kind == "renew":
            edits.append(RenewEntry(draw(st.sampled_from(known)), f"new{number}"))
            known.append(f"new{number}")
        else:
            edits.append(PauseQueue(draw(st.booleans())))
    return edits


@given(QUEUES, batches())
def test_doing_a_batch_twice_changes_nothing(queue: list[Any], edits: list[QueueEdit]) -> None:
    once = merge.apply(machine(*queue), edits)
    assert merge.apply(once, edits) == once


@given(QUEUES, batches(), st.integers(0, 10))
def test_a_batch_that_was_cut_short_is_completed_by_doing_all_of_it(
    queue: list[Any], edits: list[QueueEdit], done: int
) -> None:
    partly = merge.apply(machine(*queue), edits[:done])
    assert merge.apply(partly, edits) == merge.apply(machine(*queue), edits)


@given(QUEUES, batches())
def test_bad_entries_and_foreign_keys_are_never_lost(queue: list[Any], edits: list[QueueEdit]) -> None:
    after = merge.apply(machine(*queue), edits)["queue"]
    bad = [raw for raw in queue if identity(raw) is None]
    assert [raw for raw in after if identity(raw) is None] == bad


@given(QUEUES, batches())
def test_what_no_edit_names_stays_as_it_is_and_where_it_is(queue: list[Any], edits: list[QueueEdit]) -> None:
    named: set[str] = set()
    for edit in edits:
        if isinstance(edit, RemoveEntries | ChangeEntries | MoveEntries):
            named.update(edit.identities)
        elif isinstance(edit, RenewEntry):
            named.update((edit.identity, edit.new_id))
        elif isinstance(edit, AddEntry):
            named.add(edit.entry.identity)
    after = merge.apply(machine(*queue), edits)["queue"]
    untouched = [raw for raw in queue if identity(raw) not in named]
    assert [raw for raw in after if identity(raw) not in named] == untouched


@given(QUEUES, batches())
def test_a_pile_of_edits_is_the_same_as_one_after_another(queue: list[Any], edits: list[QueueEdit]) -> None:
    one_by_one = machine(*queue)
    for edit in edits:
        one_by_one = merge.apply(one_by_one, [edit])
    assert merge.apply(machine(*queue), edits) == one_by_one


def test_the_permission_to_cost_is_an_edit_like_others_and_wins_only_if_both_mean_it() -> None:
    there = {"file_id": FILE_A, "id": "a"}
    assert queue_after(machine(there), ChangeEntries(("a",), metered=True)) == [{**there, "metered": True}]
    assert queue_after(machine(there), ChangeEntries(("a",), metered=False)) == [there]
    allowed, again = {**there, "metered": True}, {**there, "metered": False}
    one = Side(allowed, there, (2, "a"))
    assert merged_entry([one, Side(there, there, (2, "b"))]) == allowed
    assert merged_entry([Side(again, allowed, (3, "a")), Side(allowed, allowed, (2, "b"))]) == again
    unknown = [Side(allowed, UNKNOWN, (2, "a")), Side(again, UNKNOWN, (2, "b"))]
    assert not merged_entry(unknown)["metered"]
    assert not merged_entry(unknown[::-1])["metered"]


def named(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "file_id": FILE_A} for name in names]


def order_after(*edits: QueueEdit) -> list[str]:
    return [raw["id"] for raw in queue_after(machine(*named("a", "b", "c", "d")), *edits)]


def test_entries_are_put_before_another_one_or_at_the_end() -> None:
    assert order_after(MoveEntries(("d",), "b", 5.0)) == ["a", "d", "b", "c"]
    assert order_after(MoveEntries(("a",), "", 5.0)) == ["b", "c", "d", "a"]
    assert order_after(MoveEntries(("c", "a"), "d", 5.0)) == ["b", "c", "a", "d"]
    assert order_after(MoveEntries(("b", "c"), "c", 5.0)) == ["a", "b", "c", "d"]
    assert order_after(MoveEntries(("a",), "gone", 5.0)) == ["a", "b", "c", "d"]
    assert order_after(MoveEntries(("gone",), "a", 5.0)) == ["a", "b", "c", "d"]


def test_of_two_moves_of_an_entry_the_later_one_counts_in_whatever_order_they_come() -> None:
    early, late = MoveEntries(("a",), "d", 5.0), MoveEntries(("a",), "", 6.0)
    assert order_after(early, late) == order_after(late, early) == ["b", "c", "d", "a"]
    assert queue_after(machine(*named("a", "b")), early)[0]["moved"] == 5.0
