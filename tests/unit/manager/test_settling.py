"""Entries that have ended leave a long queue in batches, so that each costs the same however long the queue is."""

from __future__ import annotations

import pytest

from dmedia_transfer.manager.settling import ENTRY_BYTES, GATHER_S, LEAVING_BYTES_PER_S, LEAVING_MAX_S, LEAVING_SHARE
from dmedia_transfer.model import RecordStored, RemoveEntries
from tests.fakes import World
from tests.unit.manager.test_big_queue import key, world_with


def drain(world: World, *, per_s: float) -> float:
    """End all transfers at this speed; returns the bytes of all queues that were written on the way."""
    written = 0.0
    while world.running():
        flushes = world.library.flushes
        world.end(world.running()[0])
        world.clock.advance(1 / per_s)
        if world.library.flushes > flushes:
            world.take_edits()
            written += len(world.machine["queue"]) * ENTRY_BYTES
    return written


@pytest.mark.parametrize("per_s", [500, 20])
def test_bytes_written_per_entry_do_not_grow_with_the_queue(per_s: float) -> None:
    allowed = max(ENTRY_BYTES / LEAVING_SHARE, LEAVING_BYTES_PER_S / per_s)
    for entries in (50, 200, 1000):
        assert drain(world_with(entries), per_s=per_s) / entries < 1.1 * allowed


def test_the_last_entry_of_a_queue_leaves_at_once() -> None:
    world = world_with(2)
    world.end(key(0))
    world.clock.advance(GATHER_S / 10)
    assert world.library.flushes == 0, "another one may end in a moment"
    world.end(key(1))
    world.clock.advance(GATHER_S / 10)
    assert world.library.flushes == 1
    world.take_edits()
    assert world.machine["queue"] == []


def test_one_that_ended_leaves_a_long_queue_a_minute_later_if_nothing_else_ends() -> None:
    world = world_with(10_000)
    world.end(key(0))
    world.clock.advance(GATHER_S + LEAVING_MAX_S / 2)
    assert world.library.flushes == 0
    assert world.library.recorded == 1, "what was found out of it is written at once"
    world.clock.advance(LEAVING_MAX_S / 2)
    assert world.library.flushes == 1
    assert world.library.left == 9_999


def test_what_a_person_asks_for_takes_along_what_waits() -> None:
    world = world_with(1000)
    world.end(key(0))
    world.clock.advance(GATHER_S)
    assert world.library.flushes == 0
    world.manager.cancel(key(999))
    assert world.library.flushes == 1
    edits = world.take_edits()
    assert [type(edit) for edit in edits] == [RecordStored, RemoveEntries, RemoveEntries]
    assert len(world.machine["queue"]) == 998


def test_a_shutdown_writes_what_waits() -> None:
    world = world_with(1000)
    world.end(key(0))
    world.manager.shutdown()
    assert world.library.flushes == 1


def test_what_would_be_found_again_does_not_wait_for_the_disk() -> None:
    world = world_with(3)
    asked = list(world.outbox.durable)
    world.end(key(0))
    world.clock.advance(GATHER_S)
    assert RemoveEntries(("entry-0",)) in [one.edit for one in world.outbox.waiting]
    assert world.outbox.durable == asked
    world.manager.cancel(key(1))
    assert world.outbox.durable == [*asked, RemoveEntries(("entry-1",))]
    world.end(key(1))  # its worker was quicker: there is a file now that no entry asks for
    world.clock.advance(GATHER_S)
    (*_, record) = world.outbox.durable
    assert isinstance(record, RecordStored)
    assert record.file_id == key(1).file_id
