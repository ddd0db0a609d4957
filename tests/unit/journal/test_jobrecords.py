"""The tables of long jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.errors import TransferError
from dmedia_transfer.journal import Journal, codec, jobrecords
from dmedia_transfer.model import (
    Failure,
    FileOutcome,
    JobKind,
    JobProblem,
    LongJob,
    PauseQueue,
    Progress,
    RecordStored,
    random_id,
)
from dmedia_transfer.states import Reason, Status

texts = st.text(max_size=20)
counts = st.integers(0, 2**50)
numbers = st.floats(0, 1e12)
jobs = st.builds(
    LongJob,
    id=texts,
    kind=st.sampled_from(JobKind),
    store_id=texts,
    paths=st.lists(texts, max_size=3).map(tuple),
    status=st.sampled_from(Status),
    reason=st.none() | st.sampled_from(Reason),
    progress=st.builds(Progress, counts, counts, numbers, st.none() | numbers),
    files_done=counts,
    files_total=counts,
    listed=st.booleans(),
    outcomes=st.dictionaries(st.sampled_from(FileOutcome), counts),
    failure=st.none() | st.builds(Failure, kind=texts, message=texts, reason=st.none() | st.sampled_from(Reason)),
    attempts=st.integers(0, 100),
    requested_by=texts,
    time=numbers,
    started=numbers,
    ended=numbers,
)
problems = st.builds(
    JobProblem,
    outcome=st.sampled_from(FileOutcome),
    message=texts,
    path=texts,
    file_id=texts,
    store_id=texts,
    leaves=st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
    time=numbers,
)


def a_job(**facts: object) -> LongJob:
    return LongJob(random_id(), JobKind.IMPORT).evolve(**facts)


def a_problem(outcome: FileOutcome = FileOutcome.FAILED, message: str = "it failed") -> JobProblem:
    return JobProblem(outcome, message)


@given(jobs)
def test_a_job_survives_without_loss(job: LongJob) -> None:
    assert codec.read_job(codec.write_job(job)) == job


@given(problems)
def test_a_problem_survives_without_loss(problem: JobProblem) -> None:
    text = codec.write_problem(problem)
    assert text is not None
    assert codec.read_problem(text) == problem


def test_jobs_are_kept_in_order_and_in_their_last_state(journal: Journal) -> None:
    first, second = a_job(), a_job()
    for job in (first, second, listed := first.evolve(listed=True)):
        journal.jobs.put(job)
    assert journal.jobs.load() == [listed, second]


def test_what_is_listed_twice_is_done_once(journal: Journal) -> None:
    job = a_job()
    journal.jobs.put(job)
    journal.jobs.list_files(job.id, [(b"b", 2, None), (b"a", 1, None), (b"x", 0, a_problem(FileOutcome.SKIPPED))])
    journal.jobs.settle(job.id, b"a", FileOutcome.IMPORTED)
    journal.jobs.list_files(job.id, [(b"a", 1, None), (b"b", 2, None), (b"c", 3, None)])
    assert [(file.item, file.size) for file in journal.jobs.open_files(job.id, limit=9)] == [(b"b", 2), (b"c", 3)]
    totals = journal.jobs.totals(job.id)
    assert (totals.files_total, totals.bytes_total, totals.files_done, totals.bytes_done) == (4, 6, 2, 1)
    assert totals.outcomes == {FileOutcome.IMPORTED: 1, FileOutcome.SKIPPED: 1}


def test_what_was_found_out_and_what_it_means_are_there_both_or_not_at_all(journal: Journal, tmp_path: Path) -> None:
    job = a_job()
    journal.jobs.put(job)
    journal.jobs.list_files(job.id, [(b"a", 1, None)])
    edit = RecordStored("F", "S", copies=0, time=1.0, corrupt=(3,))
    journal.jobs.forget(job.id)
    with pytest.raises(TransferError):
        journal.jobs.settle(job.id, b"a", FileOutcome.CORRUPT, edits=[edit])
    assert journal.outbox.pending() == []
    journal.jobs.put(job)
    journal.jobs.settle(job.id, b"a", FileOutcome.CORRUPT, problem=a_problem(), edits=[edit])
    with Journal(tmp_path / "journal.sqlite") as other:
        assert [pending.edit for pending in other.outbox.pending()] == [edit]
        assert other.jobs.problems(job.id) == [a_problem()]


def test_a_file_that_was_left_in_the_middle_is_found_so_until_it_is_settled(journal: Journal) -> None:
    job = a_job()
    journal.jobs.put(job)
    journal.jobs.list_files(job.id, [(b"a", 1, None)])
    journal.jobs.keep(job.id, b"a", b"half")
    assert [file.so_far for file in journal.jobs.open_files(job.id, limit=1)] == [b"half"]
    journal.jobs.settle(job.id, b"a", FileOutcome.VERIFIED)
    assert journal.jobs.open_files(job.id, limit=1) == []


def test_of_a_job_that_ended_the_problems_stay_and_of_a_failed_one_all(journal: Journal) -> None:
    for status, files in ((Status.DONE, 1), (Status.CANCELLED, 1), (Status.FAILED, 3)):
        job = a_job(status=status, ended=1.0)
        journal.jobs.put(job)
        rows = [(b"a", 1, None), (b"b", 1, None), (b"c", 1, a_problem())]
        journal.jobs.list_files(job.id, rows)
        journal.jobs.settle(job.id, b"a", FileOutcome.IMPORTED)
        assert journal.jobs.ended(job) == []
        assert journal.jobs.totals(job.id).files_total == files
        assert journal.jobs.problems(job.id) == [a_problem()]


def test_jobs_that_ended_long_ago_are_forgotten_and_others_are_not(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobrecords, "JOBS_KEPT", 2)
    open_one = a_job()
    journal.jobs.put(open_one)
    ended = [a_job(status=Status.DONE, ended=float(number)) for number in range(1, 4)]
    gone = [journal.jobs.ended(job) for job in ended]
    assert gone == [[], [], [ended[0].id]]
    assert journal.jobs.load() == [open_one, *ended[1:]]


def test_problems_are_read_page_by_page(journal: Journal) -> None:
    job = a_job()
    journal.jobs.put(job)
    journal.jobs.list_files(job.id, [(b"%d" % number, 0, a_problem(message=str(number))) for number in range(5)])
    pages = [journal.jobs.problems(job.id, offset=offset, limit=2) for offset in (0, 2, 4)]
    assert [[each.message for each in page] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]


def test_an_edit_that_was_made_with_a_job_waits_among_the_others(journal: Journal) -> None:
    job = a_job()
    journal.jobs.put(job)
    journal.outbox.add([PauseQueue(paused=True)])
    edit = RecordStored("F", "S", copies=1, time=1.0)
    journal.jobs.settle(job.id, b"a", FileOutcome.FOUND, edits=[edit])
    assert [pending.edit for pending in journal.outbox.pending()] == [PauseQueue(paused=True), edit]
