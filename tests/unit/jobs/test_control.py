"""LongJobs: what is decided, with workers, documents and a journal that are not real."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.errors import DiskFull, StoreMissing, TransferError, Unknown, WorkerLost
from dmedia_transfer.jobs.control import MAX_JOBS, RECHECK_S, LongJobs
from dmedia_transfer.journal import OpenFile, Totals
from dmedia_transfer.model import (
    Advanced,
    Direction,
    Ended,
    Failure,
    FileOutcome,
    ImportFiles,
    Job,
    JobProblem,
    LongJob,
    LongRun,
    Outcome,
    ScanFolders,
    ScanStore,
    StoreSpec,
    TransferKey,
    VerifyFiles,
)
from dmedia_transfer.ports import KnownFile
from dmedia_transfer.states import Reason, Status
from tests.factories import STORE_ID, file_spec
from tests.fakes import FakeClock, FakePool

HOME = StoreSpec("H" * 24, "filestore", {"path": "/home"}, cost=0, local=True)
REMOTE = StoreSpec(STORE_ID, "memory")
FILES = [file_spec(b"%d" % number) for number in range(3)]


class Pool(FakePool):
    """Workers that do nothing until a test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[int, LongRun] = {}

    def run(self, run_id: int, job: Job | LongRun) -> None:
        assert run_id < 0
        assert not isinstance(job, Job)
        assert all(other.key != job.key for other in self.runs.values()), "two workers on one job"
        self.runs[run_id] = job

    def _say(self, word: str, run_id: int) -> None:
        assert run_id in self.runs, f"{word} to a run that is over"
        self.said.append((word, run_id))

    def set_share(self, run_id: int, download_bps: float | None, upload_bps: float | None) -> None:
        self.shares[run_id] = (download_bps, upload_bps)


class Records:
    """The journal, which survives what a test calls a crash."""

    def __init__(self) -> None:
        self.kept: dict[str, LongJob] = {}
        self.files: dict[str, dict[bytes, tuple[int, str]]] = {}

    def load(self) -> list[LongJob]:
        return list(self.kept.values())

    def put(self, job: LongJob) -> None:
        self.kept[job.id] = job
        self.files.setdefault(job.id, {})

    def ended(self, job: LongJob) -> list[str]:
        self.put(job)
        return []

    def forget(self, job_id: str) -> None:
        del self.kept[job_id]

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> list[JobProblem]:
        return []

    def list_files(self, job_id: str, files: Iterable[tuple[bytes, int, JobProblem | None]]) -> None:
        for item, size, _ in files:
            self.files[job_id].setdefault(item, (size, ""))

    def open_files(self, job_id: str, *, limit: int, after: bytes = b"") -> list[OpenFile]:
        rows = sorted(self.files[job_id].items())
        return [OpenFile(item, size) for item, (size, outcome) in rows if not outcome and item > after][:limit]

    def keep(self, job_id: str, item: bytes, so_far: bytes) -> None:
        raise AssertionError("a worker does that")

    def together(self) -> contextlib.AbstractContextManager[object]:
        raise AssertionError("a worker does that")

    def settle(self, job_id: str, item: bytes, outcome: FileOutcome, **_: Any) -> None:
        size, before = self.files[job_id][item]
        assert not before, f"{item!r} is done a second time"
        self.files[job_id][item] = (size, outcome)

    def totals(self, job_id: str) -> Totals:
        rows = self.files[job_id].values()
        done = [(size, outcome) for size, outcome in rows if outcome]
        outcomes: dict[FileOutcome, int] = {}
        for _, outcome in done:
            outcomes[FileOutcome(outcome)] = outcomes.get(FileOutcome(outcome), 0) + 1
        return Totals(len(rows), sum(size for size, _ in rows), len(done), sum(size for size, _ in done), outcomes)


class World:
    """Long jobs among fakes. `settle`, `end` and `answer` are what the others do."""

    def __init__(self) -> None:
        self.records = Records()
        self.limit_bps: float | None = None
        self.trouble: TransferError | None = None
        self.healed: list[str] = []
        self.boot()

    def boot(self) -> None:
        """Start, as after a crash."""
        self.clock = FakeClock()
        self.pool = Pool()
        self.questions: list[Callable[[], object]] = []
        self.flushes = 0
        self.jobs = LongJobs(
            pool=self.pool,
            inquiries=self,
            stores=self,
            records=self.records,
            heal=self._heal,
            download_bps=lambda: self.limit_bps,
            call_later=self.clock.call_later,
            stall_s=20.0,
            clock=self.clock,
            wall=self.clock,
            chance=lambda: 0.5,
        )
        self.jobs.start()

    def spec(self, store_id: str) -> StoreSpec:
        if self.trouble is not None:
            raise self.trouble
        for store in (HOME, REMOTE):
            if store.store_id == store_id:
                return store
        raise Unknown(f"there is no store {store_id}")

    def homes(self) -> list[StoreSpec]:
        return [] if self.trouble is not None else [HOME]

    def read_files(
        self, file_ids: Sequence[str], answer: Callable[[Mapping[str, KnownFile | TransferError]], object]
    ) -> None:
        known = {file.file_id: KnownFile(file, {STORE_ID: 1}) for file in FILES}
        self.questions.append(lambda: answer({each: known[each] for each in file_ids}) and None)

    def list_stored(
        self, store_id: str, after: str, limit: int, answer: Callable[[Sequence[tuple[str, int]]], object]
    ) -> None:
        page = sorted((file.file_id, file.size) for file in FILES if file.file_id > after)
        self.questions.append(lambda: answer(page[:limit]) and None)

    def flush(self) -> None:
        self.flushes += 1

    def _heal(self, file_id: str) -> TransferKey:
        self.healed.append(file_id)
        return TransferKey(Direction.DOWNLOAD, file_id, "")

    # What the others do.

    def answer(self) -> None:
        """The library answers what it was asked."""
        asked, self.questions = self.questions, []
        for question in asked:
            question()

    def run_of(self, job_id: str) -> int | None:
        """The number of the run that a job has."""
        return next((run_id for run_id, run in self.pool.runs.items() if run.key.id == job_id), None)

    def work(self, run_id: int, *, files: int = 99) -> None:
        """A worker does a part of what it was given."""
        run = self.pool.runs[run_id]
        match run:
            case ScanFolders() | ScanStore():
                rows: list[tuple[bytes, int, JobProblem | None]] = [
                    (each.file_id.encode(), each.size, None) for each in FILES
                ]
                self.records.list_files(run.key.id, rows)
                report = Advanced(run_id, 0, (), sum(size for _, size, _ in rows), len(rows))
            case ImportFiles() | VerifyFiles():
                done = self.records.open_files(run.key.id, limit=files)
                for file in done:
                    self.records.settle(run.key.id, file.item, FileOutcome.VERIFIED)
                report = Advanced(run_id, sum(file.size for file in done), ((FileOutcome.VERIFIED, len(done)),))
        self.jobs.report(report)

    def end(self, run_id: int, outcome: Outcome = Outcome.FINISHED, failure: Failure | None = None) -> None:
        """A worker lets go."""
        del self.pool.runs[run_id]
        self.jobs.report(Ended(run_id, outcome, failure))

    def proceed(self) -> None:
        """Let all that there is to do be done."""
        while self.pool.runs or self.questions:
            self.answer()
            for run_id in list(self.pool.runs):
                self.work(run_id)
                self.end(run_id)

    def status(self, job_id: str) -> str:
        """What the job is doing, and why."""
        job = self.jobs.jobs()[job_id]
        return str(job.status) + (f" ({job.reason})" if job.reason else "")


@pytest.fixture
def world() -> World:
    return World()


def test_a_verification_goes_through_its_steps(world: World) -> None:
    job_id = world.jobs.verify(HOME.store_id)
    assert isinstance(world.pool.runs[-1], ScanStore)
    world.work(-1)
    assert world.jobs.jobs()[job_id].files_total == 3
    world.end(-1)
    world.answer()  # the documents' part of the list
    world.answer()  # the first batch
    run = world.pool.runs[-2]
    assert isinstance(run, VerifyFiles)
    assert [file.file_id for file in run.files] == sorted(file.file_id for file in FILES)
    assert run.said == frozenset()  # they are elsewhere, by their documents
    world.work(-2)
    assert world.jobs.jobs()[job_id].files_done == 3
    assert world.flushes
    world.end(-2)
    job = world.jobs.jobs()[job_id]
    assert (job.status, job.ended, job.progress.bytes_done) == (Status.DONE, 1000.0, 3)


def test_a_bucket_is_read_with_half_of_the_limit(world: World) -> None:
    world.limit_bps = 1000.0
    job_id = world.jobs.verify(STORE_ID)
    world.answer()
    world.answer()
    (run_id,) = world.pool.runs
    assert world.pool.shares == {run_id: (500.0, None)}
    world.proceed()
    assert world.status(job_id) == "done"


def test_no_more_than_a_few_run_at_once_and_the_others_follow(world: World, tmp_path: Path) -> None:
    ids = [world.jobs.import_files([str(tmp_path)]) for _ in range(MAX_JOBS + 2)]
    assert [world.status(each) for each in ids] == ["ongoing"] * MAX_JOBS + ["queued"] * 2
    world.proceed()
    assert {world.status(each) for each in ids} == {"done"}


def test_a_resume_before_the_pause_is_in_force_carries_on(world: World, tmp_path: Path) -> None:
    job_id = world.jobs.import_files([str(tmp_path)])
    assert world.jobs.pause(job_id)
    assert world.status(job_id) == "pausing"
    assert world.jobs.resume(job_id)
    assert world.pool.said == [("drain", -1), ("carry on", -1)]
    world.end(-1, Outcome.STOPPED)  # it had let go already
    assert world.status(job_id) == "ongoing"
    world.proceed()
    assert world.status(job_id) == "done"


def test_a_pause_while_the_library_is_asked_is_in_force_at_once(world: World) -> None:
    job_id = world.jobs.verify(STORE_ID)
    world.jobs.pause(job_id)
    assert world.status(job_id) == "paused"
    world.answer()
    assert world.pool.runs == {}
    world.jobs.resume(job_id)
    world.proceed()
    assert world.status(job_id) == "done"


def test_a_full_disk_is_waited_for(world: World, tmp_path: Path) -> None:
    job_id = world.jobs.import_files([str(tmp_path)])
    world.end(-1, Outcome.FAILED, Failure.of(DiskFull("it is full")))
    assert world.status(job_id) == "suspended (disk-full)"
    world.clock.advance(RECHECK_S)
    assert world.status(job_id) == "ongoing"


def test_a_store_that_comes_back_is_noticed_at_once(world: World) -> None:
    job_id = world.jobs.verify(HOME.store_id)
    world.trouble = StoreMissing("it is not mounted")
    world.work(-1)
    world.end(-1)
    assert world.status(job_id) == "suspended (store-missing)"
    world.trouble = None
    world.jobs.stores_changed()
    assert world.status(job_id) == "ongoing"


def test_a_job_that_kills_its_workers_fails_and_can_be_retried(world: World, tmp_path: Path) -> None:
    job_id = world.jobs.import_files([str(tmp_path)])
    for _ in range(5):
        world.end(min(world.pool.runs), Outcome.LOST, Failure.of(WorkerLost("it died")))
        world.clock.advance(60)
    assert world.status(job_id) == "failed"
    assert world.jobs.jobs()[job_id].ended
    assert world.jobs.retry(job_id)
    assert not world.jobs.retry(job_id)
    world.proceed()
    job = world.jobs.jobs()[job_id]
    assert (job.status, job.failure, job.files_done) == (Status.DONE, None, 3)


def test_a_cancelled_job_ends_when_its_worker_has_let_go(world: World, tmp_path: Path) -> None:
    job_id = world.jobs.import_files([str(tmp_path)])
    world.jobs.cancel(job_id)
    assert world.jobs.jobs()[job_id].ended == 0
    assert not world.jobs.forget(job_id)
    world.end(-1, Outcome.STOPPED)
    assert world.jobs.jobs()[job_id].ended
    assert world.jobs.forget(job_id)
    with pytest.raises(Unknown):
        world.jobs.pause(job_id)


COMMANDS = ("pause", "resume", "cancel", "retry")
acts = st.lists(
    st.one_of(
        st.sampled_from(COMMANDS),
        st.sampled_from(["answer", "work", "finish", "stop", "lose", "fail", "tick", "crash", "restart"]),
    ),
    max_size=40,
)


@given(acts, st.sampled_from([HOME.store_id, STORE_ID]))
def test_whatever_happens_each_file_is_done_once_and_none_is_missed(told: list[str], store_id: str) -> None:
    world = World()
    job_id = world.jobs.verify(store_id)
    shown = 0
    for act in told:
        run_id = world.run_of(job_id)
        match act:
            case "pause" | "resume" | "cancel" | "retry":
                getattr(world.jobs, act)(job_id)
            case "answer":
                world.answer()
            case "tick":
                world.clock.advance(400)
            case "crash":
                world.boot()
                shown = 0
            case "restart":
                world.jobs.shutdown()
                world.boot()
                shown = 0
            case "work" if run_id is not None:
                world.work(run_id, files=1)
            case "finish" if run_id is not None:
                world.work(run_id)
                world.end(run_id)
            case "stop" if run_id is not None and ("drain", run_id) in world.pool.said:
                world.end(run_id, Outcome.STOPPED)
            case "lose" if run_id is not None:
                world.end(run_id, Outcome.LOST, Failure.of(WorkerLost("it died")))
            case "fail" if run_id is not None:
                world.end(run_id, Outcome.FAILED, Failure("Odd", "it failed"))
        job = world.jobs.jobs()[job_id]
        assert world.records.kept[job_id].status is job.status
        assert (job.reason is not None) == (job.status is Status.SUSPENDED)
        assert shown <= job.progress.bytes_done <= max(job.progress.bytes_total, shown)
        shown = job.progress.bytes_done
    if world.jobs.jobs()[job_id].status is Status.CANCELLED:
        return
    world.jobs.retry(job_id)
    world.jobs.resume(job_id)
    for _ in range(3):
        world.clock.advance(400)
        world.proceed()
    job = world.jobs.jobs()[job_id]
    assert (job.status, job.files_done, dict(job.outcomes)) == (Status.DONE, 3, {FileOutcome.VERIFIED: 3})
    assert job.reason is not Reason.BACKOFF
