"""What waits for a store or for room: looked at again when something has changed, and not for nothing."""

from __future__ import annotations

import pytest

from dmedia_transfer.errors import DiskFull, StoreMissing
from dmedia_transfer.manager.rechecking import ALL_S, LOOK_S, SLICE
from dmedia_transfer.model import Entry, Failure, Outcome
from dmedia_transfer.states import Reason
from tests.fakes import World
from tests.unit.manager.test_big_queue import entry, file, key

ENTRIES = 1000


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    """Many entries, and a drive that is not there."""
    caplog.set_level("ERROR")
    world = World()
    world.stores.trouble = StoreMissing("the drive is not there")
    for number in range(ENTRIES):
        world.add_file(file(number))
    world.edit_queue(*(entry(number) for number in range(ENTRIES)))
    while world.library.asked:
        world.answer()
        world.clock.advance(0.3)
    world.clock.advance(3 * LOOK_S)  # what is new is looked at once more
    assert all(one.reason is Reason.STORE_MISSING for one in world.manager.transfers().values())
    world.stores.planned = 0
    return world


def test_a_drive_that_is_not_there_is_told_once_and_once_more_when_it_goes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for times, numbers in ((1, range(2)), (2, range(3))):
        world.stores.trouble = StoreMissing("the drive is not there")
        for number in numbers:
            world.add_file(file(number))
        world.edit_queue(*(entry(number) for number in numbers))
        while world.library.asked:
            world.answer()
        world.clock.advance(3 * LOOK_S)
        assert sum("the drive is not there" in record.message for record in caplog.records) == times
        world.stores.trouble = None
        world.clock.advance(3 * LOOK_S)


def test_while_nothing_changes_thousands_are_planned_rarely(world: World) -> None:
    world.clock.advance(4 * ALL_S)
    assert world.stores.planned <= 4 * ENTRIES


def test_a_drive_that_comes_back_is_seen_soon(world: World) -> None:
    world.stores.trouble = None
    world.clock.advance(LOOK_S + 0.1)
    assert len(world.running()) == world.settings.max_transfers
    assert [one for one in world.manager.transfers().values() if one.reason] == []


def test_a_drive_is_seen_at_once_when_mounts_change_and_other_mounts_cost_nothing(world: World) -> None:
    for _ in range(50):
        world.manager.mounts_changed()
    assert world.stores.planned == 0
    world.stores.trouble = None
    world.manager.mounts_changed()
    assert len(world.running()) == world.settings.max_transfers


def test_thousands_are_gone_through_in_slices(world: World) -> None:
    world.manager.stores_changed()
    assert world.stores.planned == SLICE
    for _ in range(3):  # more changes meanwhile begin nothing anew
        world.manager.stores_changed()
    assert world.stores.planned == SLICE
    world.clock.advance(0.1)
    assert ENTRIES <= world.stores.planned <= ENTRIES + SLICE  # the first ones may have changed once more


def test_on_a_full_disk_only_what_fits_is_planned_when_there_is_more_room(world: World) -> None:
    world.stores.trouble = DiskFull("no room above the floor")
    world.manager.stores_changed()
    world.clock.advance(2 * LOOK_S)
    world.stores.planned = 0
    world.stores.free_bytes = 4095  # each needs 4096
    world.clock.advance(LOOK_S)
    assert world.stores.planned == 0
    world.stores.free_bytes = 4096
    world.clock.advance(LOOK_S)
    assert world.stores.planned == ENTRIES
    world.clock.advance(LOOK_S)
    assert world.stores.planned == ENTRIES  # as much room as before is no news


def test_what_a_worker_had_no_room_for_is_tried_again_although_the_disk_looks_as_before() -> None:
    world = World()
    world.add_file(file(0))
    (one,) = world.queue(Entry(file(0).file_id))
    world.end(one, Outcome.FAILED, Failure("DiskFull", "a quota", reason=Reason.DISK_FULL))
    assert world.status(one) == "suspended (disk-full)"
    world.clock.advance(LOOK_S + 0.1)
    assert world.status(one) == "ongoing"


def test_nothing_wakes_up_when_nothing_waits_any_more(world: World) -> None:
    world.stores.trouble = None
    world.manager.pause_all()
    world.edit_queue(queue_paused=True)
    world.clock.advance(ALL_S)
    assert key(0) not in world.manager.transfers() or world.status(key(0)) != "suspended (store-missing)"
    timers = len(world.clock._timers)
    world.clock.advance(ALL_S)
    assert len(world.clock._timers) <= timers
