"""Small files that a real worker does together: each ends by itself, and the worker may die at any moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from dmedia_transfer import faults, leaves
from dmedia_transfer.model import Ended, FileSpec, Job, Outcome
from dmedia_transfer.multipart import BufferBody
from tests.factories import content, file_spec
from tests.integration.test_worker_kills import kill_next_worker
from tests.integration.test_workers import CRAWL_BPS, Bench, bench
from tests.waiting import eventually

__all__ = ["bench"]

COUNT = 20
EACH = ("together.written", "together.renamed")  # are passed for each file
DATA = [content(3000 + seed, seed=seed) for seed in range(COUNT)]


def together(bench: Bench, jobs: Sequence[Job], first: int = 1) -> dict[int, Ended]:
    """Do these together, to the end of each; by the numbers of their runs."""
    runs = dict(enumerate(jobs, start=first))
    bench.pool.run_together(runs)
    return all_ended(bench, runs)


def all_ended(bench: Bench, runs: Iterable[int]) -> dict[int, Ended]:
    return {run_id: bench.ended(run_id) for run_id in runs}


def outcomes(ended: dict[int, Ended]) -> list[Outcome]:
    return [report.outcome for _, report in sorted(ended.items())]


def remote_files(bench: Bench, datas: Sequence[bytes] = tuple(DATA)) -> list[FileSpec]:
    return [bench.remote_file(data) for data in datas]


def assert_all_here(bench: Bench, files: Sequence[FileSpec], datas: Sequence[bytes] = tuple(DATA)) -> None:
    for file, data in zip(files, datas, strict=True):
        assert bench.home.path(file.file_id).read_bytes() == data
    assert list(bench.home.partials()) == []


def test_many_come_and_go_through_one_worker(bench: Bench) -> None:
    files = remote_files(bench)
    down = together(bench, [bench.download(file) for file in files])
    assert outcomes(down) == [Outcome.FINISHED] * COUNT
    assert [down[run_id].sent_bytes for run_id in sorted(down)] == [file.size for file in files]
    assert_all_here(bench, files)
    for file in files:
        bench.backend.delete(file)
    up = together(bench, [bench.upload(file) for file in files], first=100)
    assert outcomes(up) == [Outcome.FINISHED] * COUNT
    assert [bench.download_again(file) for file in files] == DATA
    assert len(bench.pool.pids) == 1
    again = together(bench, [bench.upload(file) for file in files], first=200)
    assert {(report.outcome, report.sent_bytes) for report in again.values()} == {(Outcome.FINISHED, 0)}
    assert bench.do(300, bench.download(bench.remote_file(content(leaves.LEAF_BYTES + 1)))).outcome is Outcome.FINISHED


def test_one_that_is_wrong_is_given_back_and_the_others_arrive(bench: Bench) -> None:
    files = remote_files(bench)
    wrong, missing, begun = files[3], files[7], files[11]
    bench.backend.put(wrong, BufferBody(content(wrong.size, seed=99)), lambda _: None)
    bench.backend.delete(missing)
    bench.home.partial(begun.file_id, begun.size).close()
    ended = together(bench, [bench.download(file) for file in files])
    for run_id, report in ended.items():
        odd = files[run_id - 1] in (wrong, missing, begun)
        assert report.outcome is (Outcome.ALONE if odd else Outcome.FINISHED)
        assert (report.failure is not None) == odd
    assert not bench.home.has(wrong.file_id)
    assert bench.do(100, bench.download(begun)).outcome is Outcome.FINISHED
    failed = bench.do(101, bench.download(wrong))
    assert failed.failure is not None
    assert failed.failure.kind == "CorruptLeaf"


def test_an_upload_that_is_not_what_it_should_be_is_given_back(bench: Bench) -> None:
    files = [bench.local_file(data) for data in DATA[:6]]
    other, damaged = files[1], files[4]
    bench.backend.put(other, BufferBody(content(other.size, seed=98)), lambda _: None)
    path = bench.home.path(damaged.file_id)
    path.chmod(0o600)
    path.write_bytes(b"!" + DATA[4][1:])
    ended = together(bench, [bench.upload(file) for file in files])
    alone = Outcome.ALONE
    done = Outcome.FINISHED
    assert outcomes(ended) == [done, alone, done, done, alone, done]
    assert bench.download_again(other) != DATA[1][: other.size]
    assert bench.backend.stat(damaged) is None


def test_a_store_that_tells_no_checksums_gets_many_together_and_is_not_believed_what_it_had(bench: Bench) -> None:
    files = [bench.local_file(data) for data in DATA[:6]]
    there = files[3]
    bench.backend.put(there, BufferBody(DATA[3]), lambda _: None)
    ended = together(bench, [bench.upload(file, tells_sha256=False, verifies_sha256=False) for file in files])
    done = Outcome.FINISHED
    assert outcomes(ended) == [done, done, done, Outcome.ALONE, done, done]
    assert [bench.download_again(file) for file in files] == DATA[:6]


def test_what_is_not_begun_is_let_go_at_once_and_the_rest_goes_on(bench: Bench) -> None:
    files = remote_files(bench)
    jobs = {run_id: bench.download(file, rate_bps=CRAWL_BPS / 100) for run_id, file in enumerate(files, start=1)}
    bench.pool.run_together(jobs)
    bench.ended(1)
    bench.pool.drain(20, 5.0)
    bench.pool.stop(19)
    assert (bench.ended(20).outcome, bench.ended(19).outcome) == (Outcome.STOPPED, Outcome.STOPPED)
    bench.pool.give_back(list(jobs)[:18])
    ended = all_ended(bench, jobs)
    finished = {run_id for run_id, report in ended.items() if report.outcome is Outcome.FINISHED}
    assert {report.outcome for report in ended.values()} == {Outcome.STOPPED, Outcome.FINISHED}
    assert finished == {run_id for run_id in jobs if bench.home.has(files[run_id - 1].file_id)}
    assert len(bench.pool.pids) == 1


def test_one_in_flight_is_cut_and_the_others_are_fetched_again(bench: Bench) -> None:
    files = remote_files(bench, [content(400_000, seed=seed) for seed in range(4)])
    jobs = {run_id: bench.download(file, rate_bps=CRAWL_BPS) for run_id, file in enumerate(files, start=1)}
    bench.pool.run_together(jobs)
    bench.pool.stop(1)
    ended = all_ended(bench, jobs)
    assert outcomes(ended) == [Outcome.STOPPED, *[Outcome.FINISHED] * 3]
    assert [bench.home.has(file.file_id) for file in files] == [False, True, True, True]
    assert list(bench.home.partials()) == []


def test_nothing_is_lost_when_connections_are_cut(bench: Bench) -> None:
    files = remote_files(bench, [content(300_000, seed=seed) for seed in range(6)])
    jobs = {run_id: bench.download(file, rate_bps=CRAWL_BPS) for run_id, file in enumerate(files, start=1)}
    bench.pool.run_together(jobs)
    bench.ended(1)
    bench.pool.cut()
    assert set(outcomes(all_ended(bench, jobs))) == {Outcome.FINISHED}


def test_all_of_a_worker_that_is_killed_are_to_be_tried_by_themselves(bench: Bench) -> None:
    files = remote_files(bench)
    jobs = {run_id: bench.download(file, rate_bps=CRAWL_BPS / 100) for run_id, file in enumerate(files, start=1)}
    bench.pool.run_together(jobs)
    eventually(lambda: bench.pool.pids)
    os.kill(bench.pool.pids[0], signal.SIGKILL)
    ended = all_ended(bench, jobs)
    assert set(outcomes(ended)) == {Outcome.ALONE}
    assert all(report.failure is not None and report.failure.kind == "WorkerLost" for report in ended.values())


def test_a_source_that_is_not_there_does_not_hold_up_a_whole_bundle(bench: Bench) -> None:
    files = [file_spec(data) for data in DATA]  # the store has none of them
    ended = together(bench, [bench.download(file) for file in files])
    assert set(outcomes(ended)) == {Outcome.ALONE}
    assert sum(report.failure is not None for report in ended.values()) < COUNT, "most were not even asked for"


@pytest.mark.parametrize(
    "point",
    ["download.fetched:7", *(point + (":7" if point in EACH else "") for point in faults.TOGETHER_POINTS)],
)
def test_downloads_recover_from_a_kill(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    files = remote_files(bench)
    kill_next_worker(point, tmp_path / "killed", monkeypatch)
    first = together(bench, [bench.download(file) for file in files])
    assert (tmp_path / "killed").exists()
    assert {Outcome.ALONE} <= set(outcomes(first)) <= {Outcome.ALONE, Outcome.FINISHED}
    for file, data in zip(files, DATA, strict=True):
        if bench.home.has(file.file_id):
            assert bench.home.path(file.file_id).read_bytes() == data
    # The next worker does them together once more, and one by one what it is given back.
    second = together(bench, [bench.download(file) for file in files], first=100)
    for run_id, report in second.items():
        if report.outcome is not Outcome.FINISHED:
            assert bench.do(run_id + 100, bench.download(files[run_id - 100])).outcome is Outcome.FINISHED
    assert_all_here(bench, files)


@pytest.mark.parametrize("point", ["upload.stat:5", "upload.put:5"])
def test_uploads_recover_from_a_kill(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    files = [bench.local_file(data) for data in DATA[:8]]
    kill_next_worker(point, tmp_path / "killed", monkeypatch)
    assert Outcome.ALONE in outcomes(together(bench, [bench.upload(file) for file in files]))
    assert (tmp_path / "killed").exists()
    second = together(bench, [bench.upload(file) for file in files], first=100)
    assert set(outcomes(second)) == {Outcome.FINISHED}
    assert [bench.download_again(file) for file in files] == DATA[:8]
