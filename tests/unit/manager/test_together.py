"""Small files, which are given to workers many at a time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmedia_transfer import leaves
from dmedia_transfer.errors import TransferError, Unknown
from dmedia_transfer.manager import Settings
from dmedia_transfer.manager.starting import LOOK_AHEAD
from dmedia_transfer.model import (
    Direction,
    Ended,
    Entry,
    Failure,
    FileSpec,
    Outcome,
    Several,
    TransferKey,
)
from dmedia_transfer.ports import Traffic
from tests.factories import OTHER_STORE_ID, STORE_ID
from tests.fakes import World

MIB = 1024 * 1024
LOST = Failure("WorkerLost", "worker 7 was killed by SIGKILL", transient=True)


def a_world(**settings: float) -> World:
    return World(settings=Settings(**{"max_transfers": 1, "together_files": 4, **settings}))  # type: ignore[arg-type]


def small(number: int, size: int = 4096) -> FileSpec:
    return FileSpec(f"{number:048d}".translate(str.maketrans("0189", "WXYZ")), size, b"d" * 32)


def ask(world: World, *numbers: int, size: int = 4096, **entry: int) -> list[TransferKey]:
    files = [world.add_file(small(number, size)) for number in numbers]
    return world.queue(*(Entry(file.file_id, **entry) for file in files))  # type: ignore[arg-type]


def bundles(world: World) -> list[int]:
    """How many files each bundle had."""
    return [len(runs) for runs in world.pool.bundles]


def end_all(
    world: World, *keys: TransferKey, outcome: Outcome = Outcome.FINISHED, failure: Failure | None = None
) -> None:
    """The worker tells of all of these at once."""
    runs = [world.pool.run_of(key) for key in keys]
    for run_id, key in zip(runs, keys, strict=True):
        del world.pool.jobs[run_id]
        if outcome is Outcome.FINISHED:
            world.stores.files.add(key.file_id)
    world.manager.report(Several(tuple(Ended(run_id, outcome, failure, 10) for run_id in runs)))
    world.answer()


def test_small_files_share_a_slot_and_the_next_are_given_when_all_have_ended() -> None:
    world = a_world()
    keys = ask(world, *range(6))
    assert bundles(world) == [4]
    assert world.running() == keys[:4]
    end_all(world, *keys[:3])
    assert world.running() == keys[3:4]
    assert [world.status(key) for key in keys] == ["done"] * 3 + ["ongoing"] + ["queued"] * 2
    end_all(world, keys[3])
    assert world.running() == keys[4:]
    end_all(world, *keys[4:])
    assert {world.status(key) for key in keys} == {"done"}


def test_all_of_a_queue_go_through_each_once_and_workers_do_not_wait_for_documents() -> None:
    world = a_world(max_transfers=2, together_files=64)
    keys = ask(world, *range(2 * LOOK_AHEAD))
    done: list[TransferKey] = []
    while running := world.running():
        if len(done) + len(running) < len(keys):
            assert len(world.manager._runs.running) == 2
        end_all(world, *running[:50])
        done += running[:50]
    assert sorted(done) == sorted(keys)
    assert sum(bundles(world)) >= len(keys) - 2


def test_a_large_file_has_a_worker_for_itself_and_ends_a_bundle() -> None:
    world = a_world()
    (first,) = ask(world, 2)
    rest = [
        *ask(world, 3, 4),
        *ask(world, 5, size=leaves.LEAF_BYTES + 1),
        *ask(world, 6, 7),
    ]
    world.end(first)
    assert world.running() == rest[:2]
    end_all(world, *rest[:2])
    assert world.running() == rest[2:3]
    world.end(rest[2])
    assert world.running() == rest[3:]
    assert bundles(world) == [2, 2]


def test_a_bundle_has_no_more_bytes_than_it_may() -> None:
    world = a_world(together_bytes=10 * MIB, together_files=64)
    keys = ask(world, *range(5), size=4 * MIB)
    assert world.running() == keys[:2]


def test_files_of_several_stores_are_bundled_by_store() -> None:
    world = a_world(max_transfers=2, together_files=8)
    files = [world.add_file(small(n), STORE_ID if n % 2 else OTHER_STORE_ID) for n in range(8)]
    keys = world.queue(*(Entry(file.file_id) for file in files))
    assert sorted(world.running()) == sorted(keys)
    assert bundles(world) == [4, 4]


def test_an_upload_and_a_download_are_never_in_one_bundle() -> None:
    world = a_world(max_transfers=2)
    files = [world.add_file(small(n)) for n in range(4)]
    world.stores.files |= {file.file_id for file in files[:2]}
    ups = [Entry(file.file_id, Direction.UPLOAD, STORE_ID) for file in files[:2]]
    downs = [Entry(file.file_id, store_id=STORE_ID) for file in files[2:]]
    world.queue(ups[0], downs[0], ups[1], downs[1])
    jobs = [[type(world.pool.jobs[run_id]) for run_id in runs] for runs in world.pool.bundles]
    assert all(len(set(types)) == 1 for types in jobs)
    assert sum(map(len, jobs)) <= len(world.running())


def test_what_cannot_start_is_left_out_and_says_why() -> None:
    world = a_world(together_files=8)
    files = [world.add_file(small(n)) for n in range(4)]
    world.files[files[1].file_id] = world.files[files[1].file_id].__class__(files[1], {"X" * 24: 1})
    world.stores.files.add(files[2].file_id)
    keys = world.queue(*(Entry(file.file_id) for file in files))
    assert world.running() == [keys[0], keys[3]]
    assert world.status(keys[1]) == "suspended (no-source)"
    assert world.status(keys[2]) == "done"


def test_pause_resume_and_cancel_are_of_one_file_of_a_bundle() -> None:
    world = a_world()
    keys = ask(world, *range(4))
    world.manager.pause(keys[1])
    assert ("drain", world.pool.run_of(keys[1])) in world.pool.said
    world.end(keys[1], Outcome.STOPPED)
    assert world.status(keys[1]) == "paused"
    world.manager.cancel(keys[2])
    assert ("stop", world.pool.run_of(keys[2])) in world.pool.said
    world.end(keys[2], Outcome.STOPPED)
    assert world.status(keys[2]) == "cancelled"
    assert world.running() == [keys[0], keys[3]]
    end_all(world, keys[0], keys[3])
    world.manager.resume(keys[1])
    assert world.running() == [keys[1]]


def test_a_higher_priority_gets_the_slot_after_what_was_begun() -> None:
    world = a_world(together_files=8)
    low = ask(world, *range(5))
    (high,) = ask(world, 9, priority=10)
    assert world.pool.said[-5:] == [("give back", world.pool.run_of(key)) for key in low]
    end_all(world, *low[2:], outcome=Outcome.STOPPED)
    assert [world.status(key) for key in low] == ["ongoing"] * 2 + ["queued"] * 3
    assert high not in world.running()
    assert [word for word, _ in world.pool.said].count("give back") == 5, "it is not asked twice"
    end_all(world, *low[:2])
    assert world.running() == [high]
    world.end(high)
    assert world.running() == low[2:]


def test_what_is_wanted_now_stops_a_whole_bundle() -> None:
    world = a_world()
    low = ask(world, *range(3))
    (first,) = low[:1]
    end_all(world, first)
    more = ask(world, 7)
    running = world.running()
    (now,) = ask(world, 9, priority=100)
    assert {world.status(key) for key in running} == {"suspended (preempted)"}
    end_all(world, *running, outcome=Outcome.STOPPED)
    assert world.running() == [now]
    world.end(now)
    assert sorted(world.running()) == sorted([*low[1:], *more])


def test_what_fails_together_with_others_is_tried_by_itself_at_no_cost() -> None:
    world = a_world()
    keys = ask(world, *range(6))[:4]
    end_all(world, *keys, outcome=Outcome.ALONE, failure=LOST)
    transfers = world.manager.transfers()
    assert [transfers[key].attempts for key in keys] == [0] * 4
    assert world.running() == keys[:1]
    before = bundles(world)
    for key in keys:
        assert world.running() == [key]
        world.end(key)
    assert bundles(world) == [*before, 2], "only those that had no part in it"


def test_one_that_kills_its_worker_fails_and_no_other_does() -> None:
    world = a_world(together_files=8)
    keys = ask(world, *range(5))
    killer = keys[2]
    for _ in range(100):
        running = world.running()
        if not running:
            if world.status(killer) == "failed":
                break
            world.clock.advance(600)
        elif len(running) > 1:
            outcome = Outcome.ALONE if killer in running else Outcome.FINISHED
            end_all(world, *running, outcome=outcome, failure=LOST)
        elif running == [killer]:
            world.end(killer, Outcome.LOST, LOST)
        else:
            world.end(running[0])
    assert world.status(killer) == "failed"
    assert {world.status(key) for key in keys if key != killer if key in world.manager.transfers()} <= {"done"}
    assert len(world.stores.files) == 4


def test_a_limit_is_divided_between_workers_and_not_between_their_files() -> None:
    world = a_world(max_transfers=2, download_bps=1000.0, together_files=4)
    keys = ask(world, *range(7))
    assert len(world.running()) == 7
    assert len(world.pool.shares) == 2
    assert sum(share[0] or 0 for share in world.pool.shares.values()) == pytest.approx(1000.0)
    end_all(world, keys[0], keys[1])
    world.pool.shares.clear()
    world.manager.set_limits(download_bps=500)
    assert len(world.pool.shares) == 2
    world.clock.advance(5)


def test_what_small_files_brought_over_the_wire_is_counted() -> None:
    world = a_world()
    keys = ask(world, *range(3))
    first, rest = keys[:1], keys[1:]
    end_all(world, *first)
    end_all(world, *rest)
    assert world.manager.traffic() == [Traffic(Direction.DOWNLOAD, STORE_ID, "memory", 30)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_ends_in_whatever_way_no_slot_is_lost_and_all_files_arrive(data: st.DataObject) -> None:
    world = a_world(max_transfers=2, together_files=3)
    keys: list[TransferKey] = []
    for number in range(data.draw(st.integers(1, 12))):
        keys += ask(
            world,
            number,
            size=data.draw(st.sampled_from([10, leaves.LEAF_BYTES, leaves.LEAF_BYTES + 1])),
            priority=data.draw(st.sampled_from([0, 0, 10, 100])),
        )
    for _ in range(60):
        running = world.running()
        if not running:
            world.clock.advance(400)
            continue
        key = data.draw(st.sampled_from(running))
        match data.draw(st.sampled_from(["finish", "alone", "stop", "pause", "cut"])):
            case "finish":
                end_all(world, key)
            case "alone":
                end_all(world, key, outcome=Outcome.ALONE, failure=LOST)
            case "stop":
                world.manager.pause(key)
                end_all(world, key, outcome=Outcome.STOPPED)
            case "pause":
                world.manager.pause(key)
                world.manager.resume(key)
            case "cut":
                world.end(key, Outcome.FAILED, LOST)
    for key in keys:
        world.manager.resume(key) if key in world.manager.transfers() else None
    for _ in range(60):
        for key in world.running():
            end_all(world, key)
        world.clock.advance(5)
    assert not world.manager._runs.running
    assert {key.file_id for key in keys} - world.stores.files <= {
        key.file_id
        for key, transfer in world.manager.transfers().items()
        if transfer.failure is not None and transfer.status == "failed"
    }


def test_a_document_that_is_not_there_does_not_keep_others_out_of_a_bundle() -> None:
    world = a_world()
    files = [world.add_file(small(n)) for n in range(3)]
    del world.files[files[1].file_id]
    keys = world.queue(*(Entry(file.file_id) for file in files))
    assert world.status(keys[1]) == "suspended (no-source)"
    assert issubclass(Unknown, TransferError)
    while running := world.running():
        end_all(world, *running)
    assert world.status(keys[2]) == "done"
