"""Frozen values: identity, failures, and what an event does to a transfer."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import errors, leaves, model
from dmedia_transfer.errors import CorruptLeaf, DiskFull, ServerBusy
from dmedia_transfer.model import Direction, Entry, Failure, Transfer, TransferKey
from dmedia_transfer.states import TABLE, Event, Reason, Status
from tests.factories import OTHER_STORE_ID, STORE_ID

FILE_ID = "F" * 48
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILE_ID, "")


def test_downloads_of_one_file_are_one_transfer_whatever_store_is_preferred() -> None:
    keys = {Entry(FILE_ID, store_id=store).key for store in ("", STORE_ID, OTHER_STORE_ID)}
    assert keys == {DOWNLOAD}


def test_uploads_of_one_file_to_two_stores_are_two_transfers() -> None:
    keys = {Entry(FILE_ID, Direction.UPLOAD, store).key for store in (STORE_ID, OTHER_STORE_ID)}
    assert keys == {
        TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID),
        TransferKey(Direction.UPLOAD, FILE_ID, OTHER_STORE_ID),
    }


def test_an_entry_is_known_by_its_id_or_else_by_what_it_asks_for() -> None:
    assert Entry(FILE_ID, id="x").identity == "x"
    bare = {
        Entry(FILE_ID, direction, store).identity for direction in Direction for store in ("", STORE_ID, OTHER_STORE_ID)
    }
    assert len(bare) == 6
    assert Entry(FILE_ID).identity == Entry(FILE_ID, priority=10, paused=True, time=5.0).identity


def test_a_key_reads_as_a_sentence_in_the_log() -> None:
    assert str(DOWNLOAD) == f"download {FILE_ID}"
    assert str(TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)) == f"upload {FILE_ID} to {STORE_ID}"


def test_random_ids_are_ids_and_differ() -> None:
    made = {model.random_id() for _ in range(100)}
    assert len(made) == 100
    assert all(leaves.is_random_id(each) for each in made)


def test_a_failure_says_what_the_error_said() -> None:
    assert Failure.of(ServerBusy("store S asks for patience", retry_after_s=3.0), store_id=STORE_ID) == Failure(
        kind="ServerBusy",
        message="store S asks for patience",
        transient=True,
        retry_after_s=3.0,
        store_id=STORE_ID,
    )
    assert Failure.of(DiskFull("no room")).reason is Reason.DISK_FULL


def test_a_failure_about_a_leaf_names_leaf_and_store() -> None:
    failure = Failure.of(CorruptLeaf(FILE_ID, 3, STORE_ID), store_id=OTHER_STORE_ID)
    assert (failure.leaf, failure.store_id, failure.transient) == (3, STORE_ID, False)
    assert "leaf 3" in str(failure)


def test_a_foreign_exception_is_no_reason_to_try_again() -> None:
    assert Failure.of(ZeroDivisionError("by zero")) == Failure("ZeroDivisionError", "ZeroDivisionError: by zero")


@given(message=st.text(max_size=100))
def test_a_failure_reads_as_its_message(message: str) -> None:
    assert str(Failure.of(errors.Permanent(message))) == message


@pytest.mark.parametrize(("status", "event"), list(TABLE))
def test_an_event_moves_a_transfer_as_the_table_says_and_touches_nothing_else(status: Status, event: Event) -> None:
    before = Transfer(DOWNLOAD, status, priority=7, attempts=3, requested_by="tv")
    after = before.on(event, Reason.OFFLINE if event is Event.SUSPEND else None)
    assert after.status is TABLE[status, event]
    assert after.evolve(status=status, reason=None) == before
    assert before.status is status


def test_the_reason_comes_and_goes_with_the_suspension() -> None:
    suspended = Transfer(DOWNLOAD).on(Event.SUSPEND, Reason.OFFLINE)
    assert suspended.reason is Reason.OFFLINE
    assert suspended.on(Event.SUSPEND, Reason.SCHEDULE).reason is Reason.SCHEDULE
    assert suspended.on(Event.STOPPED).reason is Reason.OFFLINE, "the worker's last word changes no reason"
    assert suspended.on(Event.RESUME).reason is Reason.OFFLINE
    for event in (Event.CLEAR, Event.PAUSE, Event.CANCEL, Event.FAIL, Event.FINISH):
        assert suspended.on(event).reason is None


@pytest.mark.parametrize("status", [Status.PAUSING, Status.PAUSED, Status.DONE, Status.FAILED, Status.CANCELLED])
def test_a_suspension_that_does_not_happen_leaves_no_reason(status: Status) -> None:
    assert Transfer(DOWNLOAD, status).on(Event.SUSPEND, Reason.OFFLINE).reason is None


VALUES = [value for value in vars(model).values() if inspect.isclass(value) and dataclasses.is_dataclass(value)]


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_is_frozen_and_has_slots(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert hasattr(kind, "__slots__")


def test_a_job_crosses_a_pipe_and_does_not_print_its_digests() -> None:
    file = model.FileSpec(FILE_ID, 1, b"d" * 32, ext="mp4")
    store = model.StoreSpec(STORE_ID, "s3", {"bucket": "films"})
    run = model.Run(7, model.Download(DOWNLOAD, file, store, (store,), connections=4, stall_s=60.0))
    assert pickle.loads(pickle.dumps(run)) == run
    assert "dddd" not in repr(run)


def test_what_crosses_by_the_thousand_crosses_as_its_fields() -> None:
    ended = model.Several(tuple(model.Ended(number, model.Outcome.FINISHED, None, 4096) for number in range(100)))
    crossing = pickle.dumps(ended)
    assert pickle.loads(crossing) == ended
    assert b"setstate" not in crossing
    assert len(crossing) < 100 * 20


def test_what_somebody_should_look_at_is_counted() -> None:
    words = {outcome: number for number, outcome in enumerate(model.FileOutcome, start=1)}
    good = {model.FileOutcome.IMPORTED, model.FileOutcome.KNOWN, model.FileOutcome.VERIFIED, model.FileOutcome.GONE}
    job = model.LongJob("J", model.JobKind.VERIFY, outcomes=words)
    assert job.problem_count == sum(number for outcome, number in words.items() if outcome not in good)


def test_a_long_job_obeys_the_table_of_transfers() -> None:
    job = model.LongJob("J", model.JobKind.IMPORT).on(Event.START).on(Event.SUSPEND, Reason.DISK_FULL)
    assert (job.status, job.reason) == (Status.SUSPENDED, Reason.DISK_FULL)
    job = job.on(Event.CLEAR)
    assert (job.status, job.reason) == (Status.QUEUED, None)
