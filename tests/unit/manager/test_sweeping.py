"""What is unfinished and not wanted any more goes."""

from __future__ import annotations

from dmedia_transfer.manager.sweeping import DAY_S
from dmedia_transfer.model import Direction, Discard, Entry, Outcome, TransferKey
from tests.factories import STORE_ID, content, file_spec
from tests.fakes import HOME_ID, World

WEEK_S = 7 * DAY_S


def discards(world: World) -> list[Discard]:
    return [job for job in world.pool.jobs.values() if isinstance(job, Discard)]


def test_uploads_that_the_journal_knows_and_nobody_wants_are_aborted_one_after_the_other() -> None:
    world = World()
    keys = [TransferKey(Direction.UPLOAD, letter * 48, STORE_ID) for letter in "AB"]
    world.ledger.left_uploads = dict.fromkeys(keys, 0.0)
    world.manager.sweep()
    assert world.discarding() == [keys[0]]
    del world.ledger.left_uploads[keys[0]]
    world.end(keys[0])
    assert world.discarding() == [keys[1]]


def test_an_abort_that_is_not_confirmed_is_repeated_later_and_later() -> None:
    world = World()
    key = TransferKey(Direction.UPLOAD, "A" * 48, STORE_ID)
    world.ledger.left_uploads[key] = 0.0
    world.manager.sweep()
    for wait_s, outcome in ((1.0, Outcome.FAILED), (2.0, Outcome.LOST), (4.0, Outcome.FAILED)):
        world.end(key, outcome)
        world.clock.advance(wait_s - 0.1)
        assert world.discarding() == []
        world.clock.advance(0.2)
        assert world.discarding() == [key]
    world.end(key)
    del world.ledger.left_uploads[key]
    world.clock.advance(2 * DAY_S)
    assert world.discarding() == []


def test_an_abort_is_not_repeated_for_what_is_wanted_again() -> None:
    world = World()
    file = world.add_file(file_spec(content(1000)), HOME_ID)
    world.stores.files.add(file.file_id)
    key = TransferKey(Direction.UPLOAD, file.file_id, STORE_ID)
    world.ledger.left_uploads[key] = 0.0
    world.manager.sweep()
    world.end(key, Outcome.LOST)
    world.queue(Entry(file.file_id, Direction.UPLOAD, STORE_ID))
    world.clock.advance(10)
    assert discards(world) == []
    assert world.status(key) == "ongoing"


def test_an_upload_that_is_wanted_keeps_what_it_has_unless_it_was_paused_for_longer_than_a_week() -> None:
    world = World()
    file = world.add_file(file_spec(content(1000)), HOME_ID)
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id, Direction.UPLOAD, STORE_ID))
    world.ledger.left_uploads[key] = world.clock.now
    world.manager.pause(key)
    world.end(key, Outcome.STOPPED)
    world.manager.sweep()
    assert all(job.keep_current for job in discards(world))
    for _ in range(8):
        for job in discards(world):
            world.end(job.key)
        world.clock.advance(DAY_S)
    assert [job.keep_current for job in discards(world)] == [False]
    assert world.status(key) == "paused"


def test_old_partial_files_go_unless_they_are_wanted() -> None:
    world = World()
    wanted = world.add_file(file_spec(content(1000)))
    world.queue(Entry(wanted.file_id, paused=True))
    world.clock.advance(WEEK_S + 10)
    world.stores.partials = {wanted.file_id: 0.0, "A" * 48: 0.0, "B" * 48: world.clock.now - 5}
    world.manager.sweep()
    assert [job.key.file_id for job in discards(world)] == ["A" * 48]


def test_what_is_wanted_again_before_its_turn_is_left_alone() -> None:
    world = World()
    file = world.add_file(file_spec(content(1000)))
    first = TransferKey(Direction.UPLOAD, "A" * 48, STORE_ID)
    world.ledger.left_uploads[first] = 0.0
    world.clock.advance(WEEK_S)
    world.stores.partials = {file.file_id: 0.0}
    world.manager.sweep()
    assert world.discarding() == [first]
    (key,) = world.queue(Entry(file.file_id))
    world.end(first)
    assert world.discarding() == []
    assert world.status(key) == "ongoing"
