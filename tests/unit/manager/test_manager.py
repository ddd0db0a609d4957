"""What the TransferManager decides, without any edge."""

from __future__ import annotations

from typing import Any

import pytest

from dmedia_transfer.errors import AccessDenied, DiskFull, InvalidDocument, InvalidRequest, Unknown
from dmedia_transfer.manager import Settings
from dmedia_transfer.model import (
    Direction,
    Download,
    Entry,
    Failure,
    FileSpec,
    Moved,
    Outcome,
    RecordStored,
    RemoveEntries,
    StoreSpec,
    TransferKey,
    Upload,
)
from dmedia_transfer.states import Reason, Status
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.fakes import HOME_ID, World

TRANSIENT = Failure("ConnectionLost", "the connection was cut", transient=True)
BROKEN = Failure("CorruptLeaf", "leaf 3 does not match", leaf=3, store_id=STORE_ID)


def a_file(seed: int = 0) -> FileSpec:
    return file_spec(content(1000, seed=seed))


def download_of(file: FileSpec) -> TransferKey:
    return TransferKey(Direction.DOWNLOAD, file.file_id, "")


def upload_of(file: FileSpec, store_id: str = STORE_ID) -> TransferKey:
    return TransferKey(Direction.UPLOAD, file.file_id, store_id)


def test_an_entry_in_the_queue_becomes_a_download_that_ends_and_leaves_the_queue() -> None:
    world = World()
    file = world.add_file(a_file())
    key = download_of(file)
    world.edit_queue({"id": "one", "file_id": file.file_id, "store_id": STORE_ID})
    (job,) = world.pool.jobs.values()
    assert isinstance(job, Download)
    assert job.file == file
    assert job.destination.store_id == HOME_ID
    assert [source.store_id for source in job.sources] == [STORE_ID]

    world.move(key, 500)
    world.move(key, 1000, leaves=1)
    world.end(key)
    assert world.status(key) == "done"
    world.clock.advance(1)
    stored, removed = world.take_edits()
    assert isinstance(stored, RecordStored)
    assert (stored.file_id, stored.store_id, stored.copies) == (file.file_id, HOME_ID, 1)
    assert removed == RemoveEntries(("one",))
    assert world.machine["queue"] == []
    assert world.recorder.statuses[key] == [Status.QUEUED, Status.ONGOING, Status.DONE]
    assert world.recorder.progress[key] == [500, 1000]
    world.clock.advance(60)
    assert [transfer.key for transfer in world.recorder.removed] == [key]


def test_feeding_the_same_queue_twice_changes_nothing() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    before = (dict(world.manager.transfers()), list(world.pool.said))
    world.manager.machine_changed(world.machine)
    assert (dict(world.manager.transfers()), list(world.pool.said)) == before


def test_a_request_by_a_local_app_is_in_the_outbox_and_starts_without_the_feed() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id, requested_by="player"))
    assert world.running() == [key]
    assert len(world.outbox.pending()) == 1
    assert world.library.flushes == 1
    assert world.machine["queue"] == []
    world.take_edits()
    assert world.machine["queue"][0]["file_id"] == file.file_id
    assert world.running() == [key]


def test_an_older_revision_that_comes_late_does_not_take_a_request_back() -> None:
    world = World()
    file = world.add_file(a_file())
    old = dict(world.machine)
    (key,) = world.queue(Entry(file.file_id))
    world.take_edits()
    world.manager.machine_changed(old)
    assert world.status(key) == "ongoing"
    world.manager.machine_changed(world.machine)
    assert world.status(key) == "ongoing"


def test_asking_twice_for_the_same_is_one_transfer_and_one_entry() -> None:
    world = World()
    file = world.add_file(a_file())
    assert world.queue(Entry(file.file_id), Entry(file.file_id)) * 1 == [download_of(file)] * 2
    world.queue(Entry(file.file_id))
    world.take_edits()
    assert len(world.machine["queue"]) <= 2
    assert world.running() == [download_of(file)]


def test_several_entries_for_one_file_are_one_transfer_and_end_together() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue(
        {"id": "a", "file_id": file.file_id, "paused": True, "priority": 5},
        {"id": "b", "file_id": file.file_id, "priority": -10},
        file.file_id,
    )
    key = download_of(file)
    assert world.manager.transfers()[key].priority == 5
    assert world.status(key) == "ongoing"
    world.end(key)
    world.clock.advance(1)
    world.take_edits()
    assert world.machine["queue"] == []


def test_a_bad_entry_is_told_of_and_disturbs_no_other() -> None:
    world = World()
    file = world.add_file(a_file())
    bad = {"file_id": "../../etc/passwd"}
    world.edit_queue(bad, {"id": "one", "file_id": file.file_id})
    assert world.running() == [download_of(file)]
    (problem,) = world.manager.summary().problems
    assert "queue.0.file_id" in problem
    world.end(download_of(file))
    world.clock.advance(1)
    world.take_edits()
    assert world.machine["queue"] == [bad]


def test_an_invalid_machine_document_leaves_the_last_good_queue_in_force() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    world.manager.machine_changed({**world.machine, "queue": "nonsense", "_rev": "9-x"})
    assert world.status(download_of(file)) == "ongoing"
    assert "queue" in world.manager.summary().problems[0]


def test_a_file_without_a_document_waits_for_it() -> None:
    world = World()
    file = a_file()
    world.edit_queue({"id": "one", "file_id": file.file_id})
    key = download_of(file)
    assert world.status(key) == "suspended (no-source)"
    assert world.library.watched == [file.file_id]
    world.add_file(file)
    world.manager.file_changed(file.file_id)
    world.answer()
    assert world.status(key) == "ongoing"


def test_a_file_whose_document_is_wrong_fails_with_the_reason() -> None:
    world = World()
    file = a_file()
    world.manager.queue([Entry(file.file_id)])
    world.manager.files_known({file.file_id: InvalidDocument(file.file_id, "bytes", "is missing")})
    transfer = world.manager.transfers()[download_of(file)]
    assert transfer.status is Status.FAILED
    assert transfer.failure is not None
    assert "bytes" in transfer.failure.message


def test_a_file_that_no_usable_store_has_says_why_of_each() -> None:
    world = World()
    file = world.add_file(a_file(), STORE_ID, "Z" * 24)
    world.stores.remote[STORE_ID] = AccessDenied("it was not enabled on this machine")
    (key,) = world.queue(Entry(file.file_id))
    assert world.status(key) == "suspended (no-source)"
    message = str(world.manager.transfers()[key].failure)
    assert "not enabled" in message
    assert "Z" * 24 in message


def test_what_waits_for_a_store_goes_on_when_the_store_is_there() -> None:
    world = World()
    file = world.add_file(a_file())
    spec = world.stores.remote.pop(STORE_ID)
    (key,) = world.queue(Entry(file.file_id))
    assert world.status(key) == "suspended (no-source)"
    world.stores.remote[STORE_ID] = spec
    world.manager.stores_changed()
    assert world.status(key) == "ongoing"


def test_a_full_disk_suspends_and_goes_on_by_itself_when_there_is_room() -> None:
    world = World()
    file = world.add_file(a_file())
    world.stores.trouble = DiskFull("no room above the floor")
    (key,) = world.queue(Entry(file.file_id))
    assert world.status(key) == "suspended (disk-full)"
    world.clock.advance(20)
    assert world.status(key) == "suspended (disk-full)"
    world.stores.trouble = None
    world.clock.advance(6)
    assert world.status(key) == "ongoing"


def test_a_download_of_a_file_that_is_here_is_done_at_once_and_recorded() -> None:
    world = World()
    file = world.add_file(a_file())
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id))
    assert world.status(key) == "done"
    assert world.running() == []
    world.clock.advance(1)
    assert any(isinstance(edit, RecordStored) and edit.store_id == HOME_ID for edit in world.take_edits())


def test_sources_are_the_preferred_one_first_and_then_the_cheapest() -> None:
    world = World()
    file = world.add_file(a_file(), STORE_ID, OTHER_STORE_ID)
    world.queue(Entry(file.file_id))
    (job,) = world.pool.jobs.values()
    assert isinstance(job, Download)
    assert [store.store_id for store in job.sources] == [OTHER_STORE_ID, STORE_ID]

    other = world.add_file(a_file(1), STORE_ID, OTHER_STORE_ID)
    (key,) = world.queue(Entry(other.file_id, store_id=STORE_ID))
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    assert [store.store_id for store in job.sources] == [STORE_ID, OTHER_STORE_ID]

    third = world.add_file(a_file(2), STORE_ID, OTHER_STORE_ID)
    (key,) = world.queue(Entry(third.file_id, store_id=STORE_ID, only=True))
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    assert [store.store_id for store in job.sources] == [STORE_ID]


def test_an_upload_goes_from_the_filestore_that_has_the_file_and_is_recorded() -> None:
    world = World()
    file = world.add_file(a_file(), HOME_ID)
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id, Direction.UPLOAD, STORE_ID))
    (job,) = world.pool.jobs.values()
    assert isinstance(job, Upload)
    assert (job.source.store_id, job.destination.store_id) == (HOME_ID, STORE_ID)
    world.end(key)
    world.clock.advance(1)
    assert any(isinstance(edit, RecordStored) and edit.store_id == STORE_ID for edit in world.take_edits())


def test_an_upload_of_a_file_that_is_not_here_waits_for_it_to_arrive() -> None:
    world = World()
    file = world.add_file(a_file())
    upload, download = world.queue(Entry(file.file_id, Direction.UPLOAD, OTHER_STORE_ID), Entry(file.file_id))
    assert world.status(upload) == "suspended (no-source)"
    world.end(download)
    world.clock.advance(6)
    assert world.status(upload) == "ongoing"


def test_an_upload_without_a_store_is_refused() -> None:
    world = World()
    with pytest.raises(InvalidRequest, match="store"):
        world.manager.queue([Entry("A" * 48, Direction.UPLOAD)])


def test_no_more_transfers_run_than_the_limit_and_they_run_in_order() -> None:
    world = World(settings=Settings(max_transfers=2))
    files = [world.add_file(a_file(seed)) for seed in range(4)]
    world.edit_queue(*({"id": f"e{n}", "file_id": file.file_id} for n, file in enumerate(files)))
    keys = [download_of(file) for file in files]
    assert world.running() == keys[:2]
    world.end(keys[1])
    assert world.running() == [keys[0], keys[2]]
    world.manager.set_limits(max_transfers=3)
    assert world.running() == [keys[0], keys[2], keys[3]]


def test_a_store_has_a_limit_of_its_own_and_others_go_by() -> None:
    world = World(settings=Settings(max_transfers=4, max_transfers_per_store=1))
    files = [world.add_file(a_file(seed), OTHER_STORE_ID if seed == 2 else STORE_ID) for seed in range(3)]
    keys = world.queue(*(Entry(file.file_id) for file in files))
    assert world.running() == [keys[0], keys[2]]
    world.end(keys[0])
    assert world.running() == [keys[2], keys[1]]


def test_the_order_of_the_queue_can_be_changed_from_elsewhere() -> None:
    world = World(settings=Settings(max_transfers=1))
    files = [world.add_file(a_file(seed)) for seed in range(3)]
    entries = [{"id": f"e{n}", "file_id": file.file_id} for n, file in enumerate(files)]
    world.edit_queue(*entries)
    world.edit_queue(entries[0], entries[2], entries[1])
    world.end(download_of(files[0]))
    assert world.running() == [download_of(files[2])]


def test_a_download_of_priority_now_preempts_the_least_urgent_one() -> None:
    world = World(settings=Settings(max_transfers=2))
    files = [world.add_file(a_file(seed)) for seed in range(3)]
    low, normal = world.queue(Entry(files[0].file_id, priority=-10), Entry(files[1].file_id))
    (urgent,) = world.queue(Entry(files[2].file_id, priority=100))
    assert world.status(low) == "suspended (preempted)"
    assert ("stop", world.pool.run_of(low)) in world.pool.said
    world.end(low, Outcome.STOPPED)
    assert world.running() == [normal, urgent]
    world.end(urgent)
    assert world.status(low) == "ongoing"


def test_a_transient_error_is_tried_again_after_a_while() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.end(key, Outcome.FAILED, TRANSIENT)
    assert world.status(key) == "suspended (backoff)"
    assert world.manager.transfers()[key].failure == TRANSIENT
    world.clock.advance(1)
    assert world.status(key) == "ongoing"
    world.end(key, Outcome.FAILED, TRANSIENT)
    assert world.manager.transfers()[key].attempts == 2
    world.clock.advance(2)
    world.move(key, 10, leaves=1)
    assert world.manager.transfers()[key].attempts == 0


def test_a_worker_that_dies_is_replaced() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.end(key, Outcome.LOST, Failure("WorkerLost", "killed by signal 9", transient=True))
    world.clock.advance(2)
    assert world.status(key) == "ongoing"


def test_a_job_that_kills_every_worker_fails_in_the_end() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    for _ in range(5):
        assert world.status(key) == "ongoing"
        world.end(key, Outcome.LOST, Failure("WorkerLost", "killed by signal 11", transient=True))
        world.clock.advance(300)
        if world.status(key) == "failed":
            break
    assert world.status(key) == "failed"


def test_a_failed_transfer_stays_visible_over_a_restart_until_a_person_retries() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.take_edits()
    world.end(key, Outcome.FAILED, BROKEN)
    assert world.status(key) == "failed"
    world.clock.advance(3600)
    world.boot()
    world.answer()
    assert world.status(key) == "failed"
    assert world.manager.transfers()[key].failure == BROKEN
    old_id = world.machine["queue"][0]["id"]
    assert world.manager.retry(key)
    world.answer()
    assert world.status(key) == "ongoing"
    assert not world.manager.retry(key)
    world.take_edits()
    assert world.machine["queue"][0]["id"] != old_id


def test_another_device_retries_by_a_new_id() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    key = download_of(file)
    world.end(key, Outcome.FAILED, BROKEN)
    world.edit_queue({"id": "two", "file_id": file.file_id})
    assert world.status(key) == "ongoing"


def test_pause_and_resume_are_idempotent_and_say_whether_they_changed_anything() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    assert world.manager.pause(key)
    assert world.status(key) == "pausing"
    assert not world.manager.pause(key)
    world.end(key, Outcome.STOPPED)
    assert world.status(key) == "paused"
    assert not world.manager.pause(key)
    assert world.manager.resume(key)
    assert world.status(key) == "ongoing"
    assert not world.manager.resume(key)
    assert [word for word, _ in world.pool.said] == ["run", "drain", "run"]


def test_a_resume_while_pausing_goes_straight_on_and_no_paused_is_ever_seen() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.pause(key)
    world.manager.resume(key)
    assert world.status(key) == "ongoing"
    assert world.pool.said[-1][0] == "carry on"
    assert Status.PAUSED not in world.recorder.statuses[key]


def test_a_worker_that_let_go_before_the_resume_reached_it_is_started_again() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.pause(key)
    world.manager.resume(key)
    world.end(key, Outcome.STOPPED)
    assert world.status(key) == "ongoing"
    assert Status.PAUSED not in world.recorder.statuses[key]


def test_pausing_frees_the_slot_for_the_next() -> None:
    world = World(settings=Settings(max_transfers=1))
    files = [world.add_file(a_file(seed)) for seed in range(2)]
    first, second = world.queue(*(Entry(file.file_id) for file in files))
    world.manager.pause(first)
    assert world.running() == [first]
    world.end(first, Outcome.STOPPED)
    assert world.running() == [second]


def test_paused_stays_paused_over_restarts() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.pause(key)
    world.boot()
    world.answer()
    assert world.status(key) == "paused"


def test_another_device_pauses_and_resumes_by_editing_the_entry() -> None:
    world = World()
    file = world.add_file(a_file())
    key = download_of(file)
    world.edit_queue({"id": "one", "file_id": file.file_id, "paused": True})
    assert world.status(key) == "paused"
    world.edit_queue({"id": "one", "file_id": file.file_id, "paused": False})
    assert world.status(key) == "ongoing"
    world.edit_queue({"id": "one", "file_id": file.file_id, "paused": True})
    assert world.status(key) == "pausing"


def test_the_whole_queue_is_held_and_each_transfer_keeps_its_own_state() -> None:
    world = World()
    files = [world.add_file(a_file(seed)) for seed in range(3)]
    running, paused = world.queue(Entry(files[0].file_id), Entry(files[1].file_id, paused=True))
    assert world.manager.pause_all()
    assert not world.manager.pause_all()
    assert world.manager.summary().queue_paused
    world.end(running, Outcome.STOPPED)
    (new,) = world.queue(Entry(files[2].file_id))
    assert world.running() == []
    assert [world.status(key) for key in (running, paused, new)] == ["queued", "paused", "queued"]
    assert world.manager.resume_all()
    assert [world.status(key) for key in (running, paused, new)] == ["ongoing", "paused", "ongoing"]


def test_a_held_queue_that_is_let_go_at_once_goes_straight_on() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.pause_all()
    world.manager.resume_all()
    assert [word for word, _ in world.pool.said] == ["run", "drain", "carry on"]
    assert world.status(key) == "ongoing"


def test_cancelling_a_download_stops_the_worker_and_removes_what_arrived() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.stores.partials[file.file_id] = 0.0
    assert world.manager.cancel(key)
    assert world.status(key) == "cancelled"
    assert not world.manager.cancel(key)
    world.end(key, Outcome.STOPPED)
    assert world.discarding() == [key]
    world.end(key)
    world.take_edits()
    assert world.machine["queue"] == []


def test_an_entry_that_another_device_removes_is_cancelled_here() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    world.edit_queue()
    assert world.status(download_of(file)) == "cancelled"


def test_cancelling_an_upload_aborts_it_at_the_store() -> None:
    world = World()
    file = world.add_file(a_file(), HOME_ID)
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id, Direction.UPLOAD, STORE_ID))
    world.ledger.left_uploads[key] = 0.0
    world.manager.pause(key)
    world.end(key, Outcome.STOPPED)
    world.manager.cancel(key)
    assert world.discarding() == [key]


def test_a_file_asked_for_again_while_its_cancel_is_under_way_starts_when_the_worker_has_let_go() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.cancel(key)
    world.queue(Entry(file.file_id))
    assert world.status(key) == "queued"
    world.end(key, Outcome.STOPPED)
    assert world.status(key) == "ongoing"


def test_a_download_that_finishes_as_it_is_cancelled_is_recorded_all_the_same() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.cancel(key)
    world.end(key, Outcome.FINISHED)
    assert world.status(key) == "cancelled"
    world.clock.advance(1)
    assert any(isinstance(edit, RecordStored) for edit in world.take_edits())


def test_an_entry_that_ended_here_does_not_run_again_because_an_old_revision_came_back() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    key = download_of(file)
    world.end(key)
    world.clock.advance(1)
    world.take_edits()
    world.clock.advance(60)
    world.stores.files.clear()
    world.edit_queue({"id": "one", "file_id": file.file_id})
    assert key not in world.manager.transfers()
    world.clock.advance(1)
    world.take_edits()
    assert world.machine["queue"] == []
    world.edit_queue({"id": "two", "file_id": file.file_id})
    assert world.status(key) == "ongoing"


def test_a_crash_before_the_end_was_written_ends_the_transfer_once_more() -> None:
    world = World()
    file = world.add_file(a_file())
    world.edit_queue({"id": "one", "file_id": file.file_id})
    world.end(download_of(file))
    assert world.outbox.pending() == []
    world.boot()
    world.answer()
    assert world.status(download_of(file)) == "done"
    assert world.running() == []


def test_edits_that_were_not_taken_are_in_force_after_a_restart() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.boot()
    world.answer()
    assert world.status(key) == "ongoing"
    assert world.library.flushes == 2


def test_a_shutdown_suspends_what_moves_and_a_start_goes_on_by_itself() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.shutdown()
    assert world.status(key) == "suspended (shutdown)"
    assert world.pool.said[-1][0] == "stop"
    world.boot()
    world.answer()
    assert world.status(key) == "ongoing"


def test_progress_never_goes_back_and_never_exceeds_the_total() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    for done in (100, 900, 300, 5000):
        world.move(key, done)
    assert world.recorder.progress[key] == [100, 900, 900, 1000]


def test_resolve_gives_the_path_or_asks_for_the_file_now() -> None:
    world = World()
    file = world.add_file(a_file())
    assert world.manager.resolve(file.file_id) == ("queued", "")
    world.answer()
    assert world.manager.transfers()[download_of(file)].priority == 100
    world.end(download_of(file))
    status, path = world.manager.resolve(file.file_id)
    assert status == "here"
    assert path.endswith(file.file_id)


def test_a_command_for_a_transfer_that_is_not_there_is_an_error() -> None:
    world = World()
    with pytest.raises(Unknown):
        world.manager.pause(download_of(a_file()))


@pytest.mark.parametrize("limits", [{"max_transfers": 0}, {"connections": 1000}, {"download_bps": -1.0}])
def test_limits_out_of_range_are_refused_by_name(limits: dict[str, Any]) -> None:
    world = World()
    with pytest.raises(InvalidRequest, match=next(iter(limits))):
        world.manager.set_limits(**limits)


def test_a_problem_is_shown_until_it_is_right_again() -> None:
    world = World()
    world.manager.set_problem("database", "CouchDB does not answer")
    assert world.manager.summary().problems == ("CouchDB does not answer",)
    world.manager.set_problem("database", None)
    assert world.manager.summary().problems == ()


def test_a_failure_that_names_a_reason_waits_for_it() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.end(key, Outcome.FAILED, Failure("DiskFull", "the disk is full", reason=Reason.DISK_FULL))
    assert world.status(key) == "suspended (disk-full)"
    world.clock.advance(6)
    assert world.status(key) == "ongoing"


def test_a_database_that_was_restored_hears_again_what_is_here_and_what_was_sent() -> None:
    world = World()
    fetched, dropped, sent = (world.add_file(a_file(seed)) for seed in (1, 2, 3))
    world.stores.files.add(sent.file_id)
    for file in (fetched, dropped):
        world.end(world.queue(Entry(file.file_id))[0])
    world.end(world.queue(Entry(sent.file_id, Direction.UPLOAD, OTHER_STORE_ID))[0])
    world.clock.advance(60)
    world.take_edits()
    world.stores.files.remove(dropped.file_id)

    world.manager.database_changed()
    world.clock.advance(60)

    again = {(edit.file_id, edit.store_id) for edit in world.take_edits() if isinstance(edit, RecordStored)}
    assert again == {(fetched.file_id, HOME_ID), (sent.file_id, OTHER_STORE_ID)}


def test_a_paused_download_whose_file_arrived_just_before_a_crash_ends_after_the_restart() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.pause(key)
    world.take_edits()
    world.end(key)
    world.boot()
    world.answer()
    assert world.status(key) == "done"
    world.clock.advance(60)
    world.take_edits()
    assert world.machine["queue"] == []


@pytest.mark.parametrize("direction", Direction)
def test_a_store_that_may_not_be_used_any_more_is_let_go_of_at_once(direction: Direction) -> None:
    world = World()
    file = world.add_file(a_file())
    world.stores.files |= {file.file_id} if direction is Direction.UPLOAD else set()
    (key,) = world.queue(Entry(file.file_id, direction, STORE_ID))
    assert world.status(key) == "ongoing"
    world.manager.stores_changed()
    assert world.status(key) == "ongoing"
    assert world.pool.said[-1][0] == "run"

    world.stores.remote[STORE_ID] = AccessDenied("the machine was forgotten")
    world.manager.stores_changed()
    world.manager.stores_changed()
    assert [said[0] for said in world.pool.said] == ["run", "stop"]
    world.end(key, Outcome.STOPPED)
    assert world.status(key).startswith("suspended")
    assert "was forgotten" in str(world.manager.transfers()[key].failure)


def test_a_machine_that_has_moved_is_spoken_to_where_it_is_now() -> None:
    world = World()
    file = world.add_file(a_file())

    def at(*addresses: str) -> None:
        world.stores.remote[STORE_ID] = StoreSpec(STORE_ID, "peer", {"addresses": list(addresses)})

    at("192.0.2.7:1", "192.0.2.8:1")
    (key,) = world.queue(Entry(file.file_id))
    at("192.0.2.8:1", "192.0.2.9:1")  # one of them still holds
    world.manager.stores_changed()
    assert [said[0] for said in world.pool.said] == ["run"]
    at("192.0.2.9:1")
    world.manager.stores_changed()
    assert world.status(key) == "ongoing"
    assert [said[0] for said in world.pool.said] == ["run", "sources"]
    (job,) = world.pool.jobs.values()
    assert isinstance(job, Download)
    assert job.sources[0].settings == {"addresses": ["192.0.2.9:1"]}


def test_what_a_worker_is_at_can_be_asked_for_while_it_is() -> None:
    world = World()
    file = world.add_file(a_file())
    (key,) = world.queue(Entry(file.file_id))
    world.manager.report(Moved(world.pool.run_of(key), 10, 0, in_flight=(2, 3), wrong=(1,)))
    assert world.manager.pieces(key) == ((2, 3), (1,))
    world.end(key, Outcome.STOPPED)
    assert world.manager.pieces(key).in_flight == ()
    with pytest.raises(Unknown):
        world.manager.pieces(key._replace(file_id="Z" * 48))


def test_a_person_moves_transfers_in_the_queue_and_the_next_one_is_picked_accordingly() -> None:
    world = World(settings=Settings(max_transfers=1))
    files = [world.add_file(file_spec(content(1000, seed=seed))) for seed in range(4)]
    first, second, third, fourth = world.queue(*(Entry(file.file_id) for file in files))
    assert world.running() == [first]
    assert world.manager.put_before([fourth], second)
    orders = {key: transfer.order for key, transfer in world.manager.transfers().items()}
    assert sorted(orders, key=lambda key: orders[key]) == [first, fourth, second, third]
    world.end(first)
    assert world.running() == [fourth]
    world.take_edits()
    written = [raw["file_id"] for raw in world.machine["queue"]]
    assert written[-3:] == [files[3].file_id, files[1].file_id, files[2].file_id]
    assert world.manager.put_before([second], None)
    world.end(fourth)
    assert world.running() == [third]
    world.boot()
    assert world.manager.put_before([third], third) is False
    with pytest.raises(Unknown):
        world.manager.put_before([third], third._replace(file_id="Z" * 48))


def test_what_is_put_before_something_more_urgent_gets_its_priority() -> None:
    world = World(settings=Settings(max_transfers=1))
    files = [world.add_file(file_spec(content(1000, seed=seed))) for seed in range(3)]
    _, low, high = world.queue(*(Entry(file.file_id, priority=seed) for seed, file in enumerate(files)))
    assert world.manager.put_before([low], high)
    assert world.manager.transfers()[low].priority == 2
    assert world.manager.transfers()[low].order < world.manager.transfers()[high].order
