"""Real worker processes: jobs, pauses, and every way to die. The store is a folder that they share."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.config import Config
from dmedia_transfer.errors import UploadGone
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.journal import Journal
from dmedia_transfer.journal.leafrecords import unpack_bits
from dmedia_transfer.model import (
    Direction,
    Discard,
    Download,
    Ended,
    FileSpec,
    Job,
    Logged,
    Moved,
    Outcome,
    Report,
    Several,
    StoreSpec,
    TransferKey,
    Upload,
)
from dmedia_transfer.multipart import BufferBody
from dmedia_transfer.workers.nursery import SEND_TIMEOUT_S
from dmedia_transfer.workers.pool import WorkerPool
from tests.engine import HOME_ID
from tests.factories import STORE_ID, content, file_spec
from tests.waiting import WAIT_S, eventually

LEAVES = 4
SLOW_BPS = 16_000_000  # of each connection: a leaf takes half a second
CRAWL_BPS = 500_000  # ... or a quarter of a minute


class Bench:
    """A pool, a FileStore, a journal, and a store whose speed a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: queue.Queue[Report] = queue.Queue()
        self.seen: list[Report] = []
        self.config = Config(state_dir=folder / "state", runtime_dir=folder, worker_idle_s=60.0)
        self.home = FileStore(FileStore.create(folder / "home", HOME_ID).store_id, folder / "home", floor_bytes=0)
        self.journal = Journal(folder / "state" / "journal.sqlite", owner=True)
        self.pool = self.make_pool()

    def make_pool(self, **options: Any) -> WorkerPool:
        """A pool that reports to this bench."""
        options.setdefault("config", self.config)
        return WorkerPool(on_report=self._take, call_soon=lambda call, *args: call(*args), **options)

    def _take(self, report: Report) -> None:
        for one in report.reports if isinstance(report, Several) else (report,):
            self.reports.put(one)

    def close(self) -> None:
        """End all workers."""
        self.pool.shutdown(1.0)
        self.journal.close()

    def store(self, *, rate_bps: float = 0.0, **settings: Any) -> StoreSpec:
        """The shared store, as fast as this, and with more settings of the memory backend."""
        return StoreSpec(STORE_ID, "memory", {"folder": "store", "rate_bps": rate_bps, **settings})

    @property
    def backend(self) -> MemoryBackend:
        """The shared store, for the test's own use."""
        return MemoryBackend(self.store())

    def other_filestore(self) -> FileStore:
        """A second FileStore of this machine."""
        FileStore.create(self.folder / "other", "O" * 24)
        return FileStore("O" * 24, self.folder / "other", floor_bytes=0)

    def remote_file(self, data: bytes) -> FileSpec:
        """A file that the store has."""
        file = file_spec(data)
        self.backend.put(file, BufferBody(data), lambda count: None)
        return file

    def local_file(self, data: bytes) -> FileSpec:
        """A file that the FileStore has."""
        source = self.folder / "import"
        source.write_bytes(data)
        self.home.import_file(source)
        return file_spec(data)

    def download(self, file: FileSpec, *, rate_bps: float = 0.0) -> Download:
        key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
        return Download(key, file, self.home.spec, (self.store(rate_bps=rate_bps),), connections=2, stall_s=60.0)

    def upload(self, file: FileSpec, **settings: Any) -> Upload:
        key = TransferKey(Direction.UPLOAD, file.file_id, STORE_ID)
        return Upload(key, file, self.home.spec, self.store(**settings), connections=2, stall_s=60.0)

    def download_again(self, file: FileSpec) -> bytes:
        """What the store has, as this machine would get it."""
        data = bytearray(file.size)
        self.backend.fetch(file, 0, memoryview(data), lambda count: None)
        return bytes(data)

    def next(self, wanted: Callable[[Report], bool], timeout_s: float = WAIT_S) -> Report:
        """The next report of a kind."""
        until = time.monotonic() + timeout_s
        while True:
            report = self.reports.get(timeout=max(0.01, until - time.monotonic()))
            self.seen.append(report)
            if wanted(report):
                return report

    def ended(self, run_id: int) -> Ended:
        """How a run ended."""
        for earlier in self.seen:
            if isinstance(earlier, Ended) and earlier.run_id == run_id:
                return earlier
        report = self.next(lambda report: isinstance(report, Ended) and report.run_id == run_id)
        assert isinstance(report, Ended)
        return report

    def moved(self, run_id: int, bytes_done: int = 1) -> Moved:
        """Progress of a run."""
        report = self.next(
            lambda report: isinstance(report, Moved) and report.run_id == run_id and report.bytes_done >= bytes_done
        )
        assert isinstance(report, Moved)
        return report

    def moved_last(self, run_id: int) -> Moved:
        """The last progress of a run that has ended."""
        return [report for report in self.seen if isinstance(report, Moved) and report.run_id == run_id][-1]

    def do(self, run_id: int, job: Job) -> Ended:
        """Run a job to its end."""
        self.pool.run(run_id, job)
        return self.ended(run_id)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("DMEDIA_MEMORY_ROOT", str(tmp_path / "stores"))
    bench = Bench(tmp_path)
    yield bench
    bench.close()
    assert not [pid for pid in bench.pool.pids if alive(pid)]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


DATA = content(leaves.LEAF_BYTES * (LEAVES - 1) + 1000)


def received(report: Moved) -> dict[str, int]:
    """The bytes that each source gave."""
    return {one.store_id: one.received_bytes for one in report.sources}


def test_a_file_goes_up_and_comes_down_through_one_worker(bench: Bench) -> None:
    file = bench.local_file(DATA)
    up = bench.do(1, bench.upload(file))
    assert (up.outcome, up.sent_bytes) == (Outcome.FINISHED, file.size)
    pids = bench.pool.pids
    bench.home.remove(file.file_id)
    down = bench.do(2, bench.download(file))
    assert (down.outcome, down.sent_bytes) == (Outcome.FINISHED, file.size)
    assert bench.home.path(file.file_id).read_bytes() == DATA
    assert bench.pool.pids == pids, "the worker is used again"
    last = bench.moved_last(2)
    assert (last.bytes_done, last.leaves_done) == (file.size, LEAVES)
    assert received(last) == {STORE_ID: file.size}


def test_a_download_keeps_what_is_good_of_a_corrupt_copy(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    path = bench.home.path(file.file_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"!" + DATA[1:])
    assert bench.home.quarantine(file.file_id)
    down = bench.do(1, bench.download(file))
    assert (down.outcome, down.sent_bytes) == (Outcome.FINISHED, leaves.leaf_span(file.size, 0).size)
    assert path.read_bytes() == DATA
    assert not bench.home.quarantined(file.file_id)


def test_progress_is_reported_at_most_ten_times_a_second(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    begun = time.monotonic()
    bench.do(1, bench.download(file, rate_bps=20_000_000))
    seconds = time.monotonic() - begun
    moved = [report for report in bench.seen if isinstance(report, Moved)]
    assert 3 <= len(moved) <= seconds * 10 + 3
    assert [report.bytes_done for report in moved] == sorted(report.bytes_done for report in moved)


def test_what_a_worker_logs_reaches_the_daemon_with_its_transfer(bench: Bench) -> None:
    file = bench.remote_file(content(1000))
    job = bench.download(file)
    bench.do(1, job)
    lines = [report for report in bench.seen if isinstance(report, Logged)]
    assert ("published", job.key) in [(line.message, line.key) for line in lines]


def test_a_worker_that_is_killed_is_reported_lost_at_once_and_the_next_one_goes_on(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS))
    eventually(lambda: recorded(bench, file))
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGKILL)
    ended = bench.ended(1)
    assert ended.outcome is Outcome.LOST
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.transient) == ("WorkerLost", True)
    assert "SIGKILL" in ended.failure.message
    assert not alive(pid), "it was reaped"
    kept = written(bench, file)
    assert recorded(bench, file) <= kept
    again = bench.do(2, bench.download(file))
    assert again.outcome is Outcome.FINISHED
    # A leaf that was written, but not recorded any more, is read back rather than fetched.
    assert again.sent_bytes == sum(leaves.leaf_span(file.size, index).size for index in set(range(LEAVES)) - kept)
    assert bench.home.path(file.file_id).read_bytes() == DATA


def recorded(bench: Bench, file: FileSpec) -> set[int]:
    """The leaves on record, under whatever identity the worker saw."""
    rows = bench.journal._database.rows("SELECT leaves FROM downloads WHERE file_id = ?", (file.file_id,))
    return {index for row in rows for index in unpack_bits(row[0])}


def written(bench: Bench, file: FileSpec) -> set[int]:
    """The leaves that are in the partial file as they should be; nobody writes it."""
    found = set()
    with bench.home.partial(file.file_id, file.size) as partial:
        for index in range(leaves.leaf_count(file.size)):
            span = leaves.leaf_span(file.size, index)
            data = bytearray(span.size)
            if partial.read_leaf(index, memoryview(data)) and data == DATA[span.start : span.end]:
                found.add(index)
    return found


def test_a_worker_that_dies_in_an_upload_sends_no_confirmed_part_again(bench: Bench) -> None:
    file = bench.local_file(DATA)
    job = bench.upload(file, rate_bps=SLOW_BPS)
    bench.pool.run(1, job)
    eventually(lambda: bool(bench.journal.uploads.parts(job.key)))
    os.kill(bench.pool.pids[0], signal.SIGKILL)
    assert bench.ended(1).outcome is Outcome.LOST
    record = bench.journal.uploads.load(job.key)
    assert record is not None
    there = sum(part.size for part in bench.backend.list_parts(file, record.upload_id))
    again = bench.do(2, bench.upload(file))
    assert (again.outcome, again.sent_bytes) == (Outcome.FINISHED, file.size - there)
    assert bench.journal.uploads.load(job.key) is None


def test_workers_are_started_as_needed_and_the_last_used_one_is_used_first(bench: Bench) -> None:
    files = [bench.remote_file(content(1000, seed=seed)) for seed in range(3)]
    slow = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(slow, rate_bps=SLOW_BPS / 20))
    bench.moved(1)
    bench.do(2, bench.download(files[0]))
    two = set(bench.pool.pids)
    assert len(two) == 2
    bench.do(3, bench.download(files[1]))
    bench.do(4, bench.download(files[2]))
    assert set(bench.pool.pids) == two
    bench.pool.stop(1)
    bench.ended(1)


def test_workers_are_forked_by_one_process_which_leaves_with_the_last_of_them(bench: Bench) -> None:
    bench.pool.warm(2)
    eventually(lambda: len(bench.pool.pids) == 2)
    forker = bench.pool.forker
    assert forker is not None
    assert {parent(pid) for pid in bench.pool.pids} == {forker}
    bench.pool.change(idle_s=0.1, log_level="DEBUG")
    eventually(lambda: bench.pool.forker is None)
    eventually(lambda: not alive(forker))


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_process_that_dies_with_all_workers_is_followed_by_another(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS))
    bench.moved(1)
    (pid,), forker = bench.pool.pids, bench.pool.forker
    assert forker is not None
    os.kill(forker, signal.SIGKILL)
    ended = bench.ended(1)
    assert (ended.outcome, ended.failure and ended.failure.transient) == (Outcome.LOST, True)
    eventually(lambda: has_ended(pid))
    assert bench.do(2, bench.download(file)).outcome is Outcome.FINISHED
    assert bench.pool.forker != forker


def has_ended(pid: int) -> bool:
    """Also of a process without a parent, of which nobody here asks how it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_idle_worker_leaves_after_a_while(bench: Bench) -> None:
    bench.pool = bench.make_pool(config=bench.config.model_copy(update={"worker_idle_s": 0.3}))
    bench.do(1, bench.download(bench.remote_file(content(1000))))
    (pid,) = bench.pool.pids
    eventually(lambda: not bench.pool.pids)
    assert not alive(pid)
    assert bench.do(2, bench.download(bench.remote_file(content(1000, seed=5)))).outcome is Outcome.FINISHED


def test_a_worker_can_be_started_ahead_of_need(bench: Bench) -> None:
    bench.pool.warm()
    bench.pool.warm()
    eventually(lambda: bench.pool.pids)
    (pid,) = bench.pool.pids
    bench.do(1, bench.download(bench.remote_file(content(1000))))
    assert bench.pool.pids == [pid]


def test_a_stop_lets_go_at_once_and_the_worker_is_used_again(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=CRAWL_BPS))
    bench.moved(1)
    bench.pool.stop(1)
    assert bench.ended(1).outcome is Outcome.STOPPED
    assert bench.ended(1).sent_bytes < leaves.LEAF_BYTES, "no leaf was waited for"
    pids = bench.pool.pids
    assert bench.do(2, bench.download(file)).outcome is Outcome.FINISHED
    assert bench.pool.pids == pids


def test_a_stop_that_follows_the_job_at_once_is_obeyed(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS))
    bench.pool.stop(1)
    assert bench.ended(1).outcome is Outcome.STOPPED


def test_a_pause_of_a_download_cuts_the_leaves_in_flight(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=CRAWL_BPS))
    bench.moved(1)
    bench.pool.drain(1, 5.0)
    assert bench.ended(1).outcome is Outcome.STOPPED
    assert bench.ended(1).sent_bytes < leaves.LEAF_BYTES, "no leaf was waited for"


def test_a_pause_of_an_upload_lets_parts_in_flight_finish(bench: Bench) -> None:
    file = bench.local_file(DATA)
    job = bench.upload(file, rate_bps=SLOW_BPS)
    bench.pool.run(1, job)
    bench.moved(1, 6_000_000)
    bench.pool.drain(1, 5.0)
    ended = bench.ended(1)
    confirmed = sum(part.size for part in bench.journal.uploads.parts(job.key))
    assert (ended.outcome, ended.sent_bytes) == (Outcome.STOPPED, confirmed), "nothing was cut"
    again = bench.do(2, bench.upload(file))
    assert again.sent_bytes == file.size - confirmed


def test_a_pause_that_is_taken_back_in_time_goes_straight_on(bench: Bench) -> None:
    file = bench.local_file(DATA)
    bench.pool.run(1, bench.upload(file, rate_bps=SLOW_BPS * 4))
    bench.moved(1, 1_000_000)
    bench.pool.drain(1, 5.0)
    bench.pool.carry_on(1)
    ended = bench.ended(1)
    assert (ended.outcome, ended.sent_bytes) == (Outcome.FINISHED, file.size), "nothing was sent twice"


def test_parts_that_outlast_the_grace_are_cut(bench: Bench) -> None:
    file = bench.local_file(DATA)
    bench.pool.run(1, bench.upload(file, rate_bps=CRAWL_BPS))
    bench.moved(1)
    said = time.monotonic()
    bench.pool.drain(1, 0.3)
    assert bench.ended(1).outcome is Outcome.STOPPED
    assert time.monotonic() - said > 0.25
    assert bench.ended(1).sent_bytes < leaves.LEAF_BYTES, "no part was waited for"


def test_a_share_of_the_bandwidth_is_kept(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file))
    bench.pool.set_share(1, download_bps=1_000_000, upload_bps=None)
    bench.moved(1)
    begun = time.monotonic()
    bench.moved(1, 5_000_000)  # each connection has begun with a piece of a mebibyte
    assert time.monotonic() - begun > 1
    bench.pool.set_share(1, download_bps=50_000, upload_bps=None)
    bench.pool.stop(1)
    assert bench.ended(1).outcome is Outcome.STOPPED
    # With the share of that run it would take longer than anybody waits.
    assert bench.do(2, bench.download(file)).outcome is Outcome.FINISHED


def test_cutting_all_connections_ends_no_transfer(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS * 4))
    bench.moved(1)
    bench.pool.cut()
    assert bench.ended(1).outcome is Outcome.FINISHED
    assert bench.home.path(file.file_id).read_bytes() == DATA


def test_an_error_of_a_job_crosses_with_its_kind_and_the_worker_goes_on(bench: Bench) -> None:
    file = file_spec(content(1000, seed=7))
    ended = bench.do(1, bench.download(file))
    assert ended.outcome is Outcome.FAILED
    assert ended.failure is not None
    assert (ended.failure.kind, ended.failure.store_id) == ("ObjectMissing", STORE_ID)
    pids = bench.pool.pids
    unknown = StoreSpec(STORE_ID, "no-such-plugin")
    job = Download(TransferKey(Direction.DOWNLOAD, file.file_id, ""), file, bench.home.spec, (unknown,), 1, 60.0)
    failure = bench.do(2, job).failure
    assert failure is not None
    assert failure.kind == "Unknown"
    assert bench.pool.pids == pids


def test_a_file_that_is_not_here_cannot_be_sent(bench: Bench) -> None:
    failure = bench.do(1, bench.upload(file_spec(content(1000, seed=8)))).failure
    assert failure is not None
    assert (failure.kind, failure.store_id) == ("FileMissing", HOME_ID)


def test_a_drive_that_is_not_there_is_a_reason_to_wait(bench: Bench) -> None:
    file = bench.remote_file(content(1000))
    (bench.home.root / "filestore.json").unlink()
    failure = bench.do(1, bench.download(file)).failure
    assert failure is not None
    assert (failure.kind, failure.reason, failure.store_id) == ("StoreMissing", "store-missing", HOME_ID)


def test_a_file_is_copied_from_another_filestore_of_this_machine(bench: Bench) -> None:
    file = bench.local_file(DATA)
    other = FileStore(
        FileStore.create(bench.folder / "other", "O" * 24).store_id, bench.folder / "other", floor_bytes=0
    )
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    job = Download(key, file, other.spec, (bench.home.spec, bench.store()), connections=2, stall_s=60.0)
    assert bench.do(1, job).outcome is Outcome.FINISHED
    assert other.path(file.file_id).read_bytes() == DATA
    assert received(bench.moved_last(1)) == {HOME_ID: file.size, STORE_ID: 0}


def test_a_source_joins_a_download_that_runs(bench: Bench) -> None:
    file = bench.local_file(DATA)
    bench.remote_file(DATA)
    other, slow = bench.other_filestore(), bench.store(rate_bps=1000)
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    bench.pool.run(1, Download(key, file, other.spec, (slow,), connections=2, stall_s=60.0))
    bench.pool.use_sources(1, (bench.home.spec, slow))
    assert bench.ended(1).outcome is Outcome.FINISHED
    assert received(bench.moved_last(1))[HOME_ID] == file.size
    assert other.path(file.file_id).read_bytes() == DATA


def test_a_copy_to_another_filestore_is_cut_short_and_goes_on_where_it_was(bench: Bench) -> None:
    file = bench.local_file(DATA)
    other = bench.other_filestore()
    key = TransferKey(Direction.UPLOAD, file.file_id, other.store_id)
    partial = other.partial(file.file_id, file.size)
    partial.write_leaf(1, memoryview(DATA)[leaves.LEAF_BYTES : 2 * leaves.LEAF_BYTES])
    bench.journal.leaves.record(key, other.store_id, partial.identity, 1)
    partial.close()
    job = Download(key, file, other.spec, (bench.home.spec,), connections=2, stall_s=60.0)
    ended = bench.do(1, job)
    assert (ended.outcome, ended.sent_bytes) == (Outcome.FINISHED, 0), "nothing crosses the wire"
    assert other.path(file.file_id).read_bytes() == DATA
    assert received(bench.moved_last(1)) == {HOME_ID: file.size - leaves.LEAF_BYTES}


def test_a_local_source_that_is_damaged_is_not_believed(bench: Bench) -> None:
    file = bench.local_file(DATA)
    path = bench.home.path(file.file_id)
    path.chmod(0o644)
    with path.open("r+b") as damaged:
        damaged.seek(leaves.LEAF_BYTES + 5)
        damaged.write(b"damage")
    bench.remote_file(DATA)
    other = FileStore(
        FileStore.create(bench.folder / "other", "O" * 24).store_id, bench.folder / "other", floor_bytes=0
    )
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    job = Download(key, file, other.spec, (bench.home.spec, bench.store()), connections=1, stall_s=60.0)
    assert bench.do(1, job).outcome is Outcome.FINISHED
    assert other.path(file.file_id).read_bytes() == DATA
    assert received(bench.moved_last(1))[STORE_ID] == leaves.LEAF_BYTES


def test_discarding_a_download_removes_its_partial_file(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    job = bench.download(file, rate_bps=SLOW_BPS)
    bench.pool.run(1, job)
    bench.moved(1)
    bench.pool.stop(1)
    bench.ended(1)
    assert bench.home.partial_mtime(file.file_id) is not None
    assert bench.do(2, Discard(job.key, None, bench.home.spec)).outcome is Outcome.FINISHED
    assert bench.home.partial_mtime(file.file_id) is None
    assert recorded(bench, file) == set()
    assert bench.do(3, Discard(job.key, None, bench.home.spec)).outcome is Outcome.FINISHED


def test_discarding_an_upload_leaves_nothing_at_the_store(bench: Bench) -> None:
    file = bench.local_file(DATA)
    job = bench.upload(file, rate_bps=SLOW_BPS)
    bench.pool.run(1, job)
    eventually(lambda: bool(bench.journal.uploads.parts(job.key)))
    bench.pool.stop(1)
    bench.ended(1)
    record = bench.journal.uploads.load(job.key)
    assert record is not None
    assert bench.do(2, Discard(job.key, None, bench.store())).outcome is Outcome.FINISHED
    with pytest.raises(UploadGone):
        bench.backend.list_parts(file, record.upload_id)
    assert not bench.journal.uploads.latest()


def test_what_is_to_be_removed_gets_one_worker_more_and_then_waits(bench: Bench) -> None:
    slow = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(slow, rate_bps=SLOW_BPS / 20))
    keys = [TransferKey(Direction.DOWNLOAD, file_spec(content(10, seed=seed)).file_id, "") for seed in range(20)]
    for run_id, key in enumerate(keys, start=2):
        bench.pool.run(run_id, Discard(key, None, bench.home.spec))
    eventually(lambda: len(bench.pool.pids) == 2)
    bench.pool.stop(21)  # the last one, which waits
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < 20:
        report = bench.next(lambda report: isinstance(report, Ended))
        assert isinstance(report, Ended)
        outcomes[report.run_id] = report.outcome
    assert outcomes.pop(21) is Outcome.STOPPED
    assert set(outcomes.values()) == {Outcome.FINISHED}
    bench.pool.stop(1)
    bench.ended(1)


def test_workers_leave_at_once_when_the_daemon_dies(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS / 10))
    bench.moved(1)
    (process,) = bench.pool._processes
    (pid,) = bench.pool.pids
    with socket.socket(fileno=os.dup(process.connection.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_WR)  # what the worker sees of a daemon that has died
    assert bench.ended(1).outcome is Outcome.LOST
    assert not alive(pid)


def test_a_signal_from_the_terminal_is_not_for_workers(bench: Bench) -> None:
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS * 4))
    bench.moved(1)
    (pid,) = bench.pool.pids
    assert os.getpgid(pid) != os.getpgrp()
    os.kill(pid, signal.SIGINT)
    assert bench.ended(1).outcome is Outcome.FINISHED


def test_a_worker_that_does_not_obey_is_killed(bench: Bench) -> None:
    bench.pool = bench.make_pool(obey_s=0.3)
    file = bench.remote_file(DATA)
    bench.pool.run(1, bench.download(file, rate_bps=SLOW_BPS))
    bench.moved(1)
    (pid,) = bench.pool.pids
    os.kill(pid, signal.SIGSTOP)
    bench.pool.stop(1)
    assert bench.ended(1).outcome is Outcome.LOST
    assert not alive(pid)


def test_a_worker_that_is_slow_to_start_is_not_taken_for_one_that_does_not_obey(bench: Bench) -> None:
    program = "import time; time.sleep(0.8); from dmedia_transfer.workers.forker import main; main()"
    bench.pool = bench.make_pool(obey_s=0.3, command=[sys.executable, "-c", program])
    bench.pool.run(1, bench.download(bench.remote_file(DATA), rate_bps=SLOW_BPS))
    bench.pool.stop(1)
    assert bench.ended(1).outcome is Outcome.STOPPED


def test_a_shutdown_ends_whatever_workers_do(bench: Bench) -> None:
    files = [bench.remote_file(DATA), bench.remote_file(content(len(DATA), seed=1))]
    for run_id, file in enumerate(files, start=1):
        bench.pool.run(run_id, bench.download(file, rate_bps=SLOW_BPS))
        bench.moved(run_id)
    pids = bench.pool.pids
    os.kill(pids[0], signal.SIGSTOP)
    bench.pool.shutdown(1.0)
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize(
    "program",
    ["raise SystemExit(3)", "import os, sys; os.write(int(sys.argv[1]), b'\\0\\0\\0\\5hello'); input()"],
    ids=["dies at once", "talks nonsense"],
)
def test_a_program_that_is_no_worker_harms_nobody(bench: Bench, program: str) -> None:
    bench.pool = bench.make_pool(command=[sys.executable, "-c", program])
    ended = bench.do(1, bench.download(file_spec(content(10))))
    assert ended.outcome is Outcome.LOST
    assert ended.failure is not None
    assert ended.failure.kind == "WorkerLost"
    assert not bench.pool.pids


def test_a_program_that_is_not_there_is_a_lost_worker(bench: Bench) -> None:
    bench.pool = bench.make_pool(command=["/nonexistent/worker"])
    assert bench.do(1, bench.download(file_spec(content(10)))).outcome is Outcome.LOST


def test_a_large_job_does_not_block_who_hands_it_over(bench: Bench) -> None:
    bench.pool = bench.make_pool(command=[sys.executable, "-c", "import time; time.sleep(600)"])  # reads nothing
    many = FileSpec("A" * 48, leaves.LEAF_BYTES * 100_000, bytes(32 * 100_000))
    begun = time.monotonic()
    bench.pool.run(1, bench.download(many))
    assert time.monotonic() - begun < SEND_TIMEOUT_S


def test_the_memory_of_a_worker_stays_flat(bench: Bench) -> None:
    for run_id in range(1, 4):
        file = bench.remote_file(content(len(DATA), seed=run_id))
        assert bench.do(run_id, bench.download(file)).outcome is Outcome.FINISHED
    status = Path(f"/proc/{bench.pool.pids[0]}/status").read_text()
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_kib < 150 * 1024
