"""A queue of ten thousand entries: what is done for one of them does not grow with the others."""

from __future__ import annotations

from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.manager.sourcing import WATCH_S
from dmedia_transfer.manager.starting import ASK_AGAIN_S, LOOK_AHEAD
from dmedia_transfer.model import Direction, Entry, FileSpec, TransferKey
from tests.fakes import World

ENTRIES = 10_000


def file(number: int) -> FileSpec:
    return FileSpec(f"{number:048d}".translate(str.maketrans("0189", "WXYZ")), 4096, b"")


def key(number: int) -> TransferKey:
    return TransferKey(Direction.DOWNLOAD, file(number).file_id, "")


def entry(number: int, **facts: Any) -> dict[str, Any]:
    return documents.write_entry(Entry(file(number).file_id, id=f"entry-{number}", time=1.0, **facts))


def world_with(count: int, *, files: int | None = None) -> World:
    """A manager with so many entries, of which the first have documents."""
    world = World()
    for number in range(count if files is None else files):
        world.add_file(file(number))
    world.edit_queue(*(entry(number) for number in range(count)))
    return world


def revision_of(world: World, queue: list[Any]) -> dict[str, Any]:
    generation = int(world.machine["_rev"].partition("-")[0]) + 1
    return {**world.machine, "_rev": f"{generation}-x", "queue": queue}


def test_one_changed_entry_of_ten_thousand_is_the_only_change_that_is_told() -> None:
    world = world_with(ENTRIES)
    queue = [entry(number) for number in range(ENTRIES)]
    queue[ENTRIES // 2]["priority"] = 10
    told: list[TransferKey] = []
    world.recorder.transfer_changed = lambda before, after: told.append(after.key)  # type: ignore[method-assign]
    world.manager.machine_changed(revision_of(world, queue))
    assert told == [key(ENTRIES // 2)]
    assert world.manager.transfers()[key(ENTRIES // 2)].priority == 10


def test_a_revision_that_is_in_force_already_is_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with(20)
    asked: list[Any] = []

    def look(identities: list[str]) -> set[str]:
        asked.append(identities)
        return set()

    monkeypatch.setattr(world.ledger, "gone_among", look)
    raw = revision_of(world, [entry(number) for number in range(21)])
    world.manager.machine_changed(raw)
    assert asked == [["entry-20"]]
    world.manager.machine_changed(raw)  # as the feed tells of what we wrote ourselves
    world.manager.edits_taken([], raw)
    assert len(asked) == 1


def test_a_revision_that_is_what_our_edits_have_made_of_the_queue_is_not_gone_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_with(20)
    world.manager.cancel(key(3))
    gone_through: list[Any] = []
    monkeypatch.setattr(world.manager._reconciling, "all", gone_through.append)
    queue = [entry(number) for number in range(20) if number != 3]
    world.manager.machine_changed(revision_of(world, queue))
    assert gone_through == []
    world.manager.machine_changed({**revision_of(world, queue[1:]), "_rev": "90-x"})
    assert gone_through == [[key(0)]]
    world.manager.machine_changed({**revision_of(world, queue[:0:-1]), "_rev": "91-x"})
    assert len(gone_through) == 2
    world.manager.machine_changed({**revision_of(world, queue[:0:-1]), "queue_paused": True, "_rev": "92-x"})
    assert len(gone_through) == 3


def test_the_first_of_a_thousand_new_entries_are_read_before_the_queue_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_with(0)
    asked: list[int] = []
    monkeypatch.setattr(world.library, "flush", lambda left: asked.append(len(world.library.asked)))
    world.manager.queue([Entry(file(number).file_id) for number in range(1000)])
    assert asked == [LOOK_AHEAD + 1]


def test_a_thousand_new_entries_behind_ten_thousand_are_reconciled() -> None:
    world = world_with(ENTRIES)
    world.manager.machine_changed(revision_of(world, [entry(number) for number in range(ENTRIES + 1000)]))
    assert len(world.manager.transfers()) == ENTRIES + 1000


def test_what_moves_entries_within_a_long_queue_changes_what_starts_next() -> None:
    world = world_with(ENTRIES)
    first = [job.key for job in world.pool.jobs.values()]
    queue = [entry(number) for number in range(ENTRIES)]
    queue.insert(0, queue.pop(200))
    world.edit_queue(*queue)
    world.end(first[0])
    assert key(200) in world.running()


def test_the_summary_counts_what_waits() -> None:
    world = world_with(20)
    first = world.running()[0]
    assert world.manager.summary().queued == 16
    world.end(first)
    assert (world.manager.summary().active, world.manager.summary().queued) == (4, 15)
    world.manager.cancel(key(19))
    world.manager.pause(key(18))
    assert world.manager.summary().queued == 14
    world.clock.advance(60)
    assert world.manager.summary().queued == 14


def test_documents_of_a_long_queue_are_read_before_their_turn_but_not_all_at_once() -> None:
    world = World()
    for number in range(ENTRIES):
        world.add_file(file(number))
    world.machine = revision_of(world, [entry(number) for number in range(ENTRIES)])
    world.manager.machine_changed(world.machine)
    assert 0 < len(world.library.asked) <= LOOK_AHEAD + 1
    read = len(world.library.asked)
    world.answer()
    for _ in range(3 * LOOK_AHEAD):
        assert len(world.running()) == world.settings.max_transfers, "a worker waits for a document"
        read += len(world.library.asked)
        world.end(world.running()[0])
    assert read <= 5 * LOOK_AHEAD


def test_what_is_known_far_behind_starts_while_documents_cannot_be_read() -> None:
    world = World()
    late = world.add_file(file(1999))
    world.machine = revision_of(world, [entry(number) for number in range(2000)])
    world.manager.machine_changed(world.machine)
    world.manager.files_known({late.file_id: world.files[late.file_id]})  # and then the database is away
    world.clock.advance(ASK_AGAIN_S * 20)
    assert world.running() == [key(1999)]


def test_thousands_of_files_without_a_document_are_watched_in_a_few_calls() -> None:
    world = World()
    calls: list[int] = []
    world.library.watch = lambda file_ids: calls.append(len(list(file_ids)))  # type: ignore[method-assign]
    world.machine = revision_of(world, [entry(number) for number in range(3000)])
    world.manager.machine_changed(world.machine)
    for _ in range(40):
        world.answer()
        world.clock.advance(ASK_AGAIN_S)
    world.clock.advance(WATCH_S)
    assert calls[-1] == 3000
    assert len(calls) <= 40 * ASK_AGAIN_S / WATCH_S + 3
