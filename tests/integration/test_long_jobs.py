"""Imports and verifications with real workers: what is found, and what a pause, a kill and a restart leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer import faults, leaves
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.errors import InvalidRequest, Unknown
from dmedia_transfer.states import Reason, Status
from tests.factories import STORE_ID, content
from tests.longjobs import HOME_ID, OTHER_HOME_ID, LongBench, ended_as


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LongBench]:
    monkeypatch.setenv("DMEDIA_MEMORY_ROOT", str(tmp_path / "stores"))
    bench = LongBench(tmp_path / "machine")
    yield bench
    bench.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with four files, one of them twice, and things that are none."""
    folder = tmp_path / "pictures"
    for name, data in {"a": b"a", "b/1": b"b one", "b/2": b"a", "c": b"see"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "empty").touch()
    (folder / "link").symlink_to("a")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_folder_is_imported_with_all_that_is_in_it(bench: LongBench, folder: Path) -> None:
    job_id = bench.jobs.import_files([str(folder)], requested_by="test")
    job = bench.wait(job_id)
    assert (job.status, job.failure, job.listed, job.requested_by) == (Status.DONE, None, True, "test")
    assert bench.outcomes(job_id) == {"imported": 3, "known": 1, "skipped": 3}
    assert (job.files_done, job.files_total) == (7, 7)
    assert job.progress.bytes_done == job.progress.bytes_total == 10
    problems = bench.jobs.problems(job_id)
    assert [(Path(each.path).name, each.message.rpartition(": ")[2]) for each in problems] == [
        ("empty", "it is empty"),
        ("link", "it is a symbolic link"),
        ("pipe", "it is not a file"),
    ]
    bench.papers.flush()
    assert sorted(bench.papers.names.values()) == ["1", "a", "c"]
    for file_id in bench.papers.files:
        (holder,) = (home for home in bench.filestores if home.has(file_id))
        assert bench.papers.copies(file_id, holder.store_id) == 1


def test_what_another_filestore_has_is_not_stored_twice_unless_it_was_named(bench: LongBench, folder: Path) -> None:
    file = bench.put_home(b"see", home=1)
    first = bench.jobs.import_files([str(folder / "c")])
    bench.wait(first)
    assert bench.outcomes(first) == {"known": 1}
    assert not bench.home.has(file.file_id)
    second = bench.jobs.import_files([str(folder / "c")], store_id=HOME_ID)
    bench.wait(second)
    assert bench.outcomes(second) == {"imported": 1}
    assert bench.home.has(file.file_id)
    bench.papers.flush()
    assert bench.papers.copies(file.file_id) == bench.papers.copies(file.file_id, OTHER_HOME_ID) == 1


def test_what_cannot_be_imported_is_said_at_once(bench: LongBench, folder: Path) -> None:
    for path, problem in (("pictures", "absolute"), ("/no/such", "No such file"), ("", "absolute")):
        with pytest.raises(InvalidRequest, match=problem):
            bench.jobs.import_files([path])
    with pytest.raises(InvalidRequest, match="nothing to import"):
        bench.jobs.import_files([])
    with pytest.raises(Unknown):
        bench.jobs.import_files([str(folder)], store_id=STORE_ID)
    assert not bench.jobs.jobs()


@pytest.fixture
def half_way(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: LongBench) -> str:
    """An import of sixteen more files, whose worker was killed when it had settled seven: one, two and four of them."""
    for number in range(16):
        (folder / f"more-{number:03}").write_bytes(b"%d" % number)
    monkeypatch.setenv("DMEDIA_FAULT", "import.settled:3")
    monkeypatch.setenv("DMEDIA_FAULT_MARK", str(tmp_path / "mark"))
    job_id = bench.jobs.import_files([str(folder)])
    job = bench.wait(job_id, lambda job: job.reason is Reason.BACKOFF)
    assert job.failure is not None
    assert job.failure.kind == "WorkerLost"
    assert job.files_done == 7 + 3
    return job_id


DONE = {"imported": 19, "known": 1, "skipped": 3}


def test_a_folder_that_goes_away_is_waited_for(bench: LongBench, half_way: str, folder: Path) -> None:
    away = folder.rename(folder.with_name("away"))
    job = bench.wait(half_way, lambda job: job.reason is Reason.STORE_MISSING)
    assert "failed" not in bench.outcomes(half_way)
    assert job.failure is not None
    assert f"{folder} is not there any more" in job.failure.message
    away.rename(folder)
    bench.jobs.stores_changed()
    bench.wait(half_way)
    assert bench.outcomes(half_way) == DONE


def test_a_file_that_changes_or_goes_fails_alone(bench: LongBench, half_way: str, folder: Path) -> None:
    (folder / "more-015").unlink()
    job = bench.wait(half_way)
    assert (job.status, bench.outcomes(half_way)) == (Status.DONE, DONE | {"imported": 18, "failed": 1})
    (problem,) = (each for each in bench.jobs.problems(half_way) if each.outcome == "failed")
    assert problem.message == f"{folder / 'more-015'} cannot be imported: No such file or directory"


def test_a_killed_import_goes_on_where_it_was(bench: LongBench, half_way: str) -> None:
    settled = bench.settled()
    bench.kill()
    bench.lines.clear()
    bench.boot()
    assert bench.wait(half_way).status is Status.DONE
    assert bench.outcomes(half_way) == DONE
    imported = {line.rpartition(" is file ")[0] for line in bench.lines if " is file " in line}
    assert len(imported) == 13
    assert not imported & settled
    bench.papers.flush()
    assert len(bench.papers.files) == 19


def test_a_file_that_was_published_and_not_settled_is_found_there(
    bench: LongBench, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMEDIA_FAULT", "import.published")
    monkeypatch.setenv("DMEDIA_FAULT_MARK", str(tmp_path / "mark"))
    job_id = bench.jobs.import_files([str(folder / "c")])
    assert bench.wait(job_id).status is Status.DONE
    assert (tmp_path / "mark").exists()
    bench.papers.flush()
    (file_id,) = bench.papers.files
    (holder,) = (home.store_id for home in bench.filestores if home.has(file_id))
    assert bench.papers.copies(file_id, holder) == 1


def test_a_paused_import_stays_paused_over_a_restart(bench: LongBench, half_way: str) -> None:
    assert bench.jobs.pause(half_way)
    assert not bench.jobs.pause(half_way)
    bench.stop()
    bench.boot()
    job = bench.jobs.jobs()[half_way]
    assert (job.status, job.files_done, job.files_total) == (Status.PAUSED, 10, 23)
    assert bench.jobs.resume(half_way)
    bench.wait(half_way)
    assert bench.outcomes(half_way) == DONE


def test_a_running_import_pauses_at_once(bench: LongBench, folder: Path) -> None:
    job_id = bench.jobs.import_files([str(folder)])
    assert bench.jobs.jobs()[job_id].status is Status.ONGOING
    assert bench.jobs.pause(job_id)
    assert bench.wait(job_id, ended_as(Status.PAUSED)).files_done < 7
    assert bench.jobs.resume(job_id)
    assert bench.wait(job_id).files_done == 7


def test_a_daemon_that_stops_suspends_and_goes_on_by_itself(bench: LongBench, folder: Path) -> None:
    job_id = bench.jobs.import_files([str(folder)])
    bench.stop()
    assert bench.jobs.jobs()[job_id].reason is Reason.SHUTDOWN
    bench.boot()
    assert bench.wait(job_id).status is Status.DONE


def test_a_cancelled_import_keeps_what_was_imported(bench: LongBench, half_way: str) -> None:
    assert bench.jobs.cancel(half_way)
    assert bench.jobs.cancel(half_way) is False
    assert bench.wait(half_way).status is Status.CANCELLED
    bench.papers.flush()
    there = {found.file_id for home in bench.filestores for found in home.files()}
    assert set(bench.papers.files) == there
    assert len(there) == 6  # of seven files, two of which are the same
    assert bench.jobs.forget(half_way)
    assert not bench.jobs.jobs()


def test_a_good_filestore_is_verified(bench: LongBench) -> None:
    for data in (b"one", b"two", content(leaves.LEAF_BYTES + 5)):
        bench.put_home(data)
    job_id = bench.jobs.verify(HOME_ID)
    assert bench.jobs.verify(HOME_ID) == job_id
    job = bench.wait(job_id)
    assert (job.status, job.problem_count) == (Status.DONE, 0)
    assert bench.outcomes(job_id) == {"verified": 3}
    assert job.progress.bytes_done == leaves.LEAF_BYTES + 11


def test_each_way_in_which_a_filestore_can_be_wrong_is_found_and_mended(bench: LongBench) -> None:
    good = bench.put_home(b"good")
    flipped = bench.put_home(content(leaves.LEAF_BYTES + 5))
    bench.damage(flipped, leaves.LEAF_BYTES + 1)
    cut = bench.put_home(b"it was longer")
    os.truncate(bench.home.path(cut.file_id), 3)
    grown = bench.put_home(b"it was shorter")
    os.truncate(bench.home.path(grown.file_id), 100)
    gone = bench.put_home(b"gone")
    bench.home.path(gone.file_id).unlink()
    silent = bench.put_home(b"nobody said so")
    bench.papers.stored[silent.file_id].clear()
    stranger = bench.put_home(b"nobody knows it", documented=False)

    job_id = bench.jobs.verify(HOME_ID)
    assert bench.wait(job_id).status is Status.DONE
    assert bench.outcomes(job_id) == {"verified": 1, "corrupt": 3, "missing": 1, "found": 2}
    problems = {problem.file_id: problem for problem in bench.jobs.problems(job_id)}
    assert problems[flipped.file_id].leaves == (1,)
    assert problems[cut.file_id].leaves == problems[grown.file_id].leaves == (0,)
    bench.papers.flush()
    assert bench.papers.stored[flipped.file_id][HOME_ID]["corrupt"] == [1]
    copies = {file.file_id: bench.papers.copies(file.file_id) for file in (good, flipped, cut, grown, gone)}
    assert copies == {good.file_id: 1, flipped.file_id: 0, cut.file_id: 0, grown.file_id: 0, gone.file_id: 0}
    assert bench.papers.copies(silent.file_id) == bench.papers.copies(stranger.file_id) == 1
    for file in (flipped, cut, grown):
        assert not bench.home.has(file.file_id)
        assert bench.home.quarantined(file.file_id)

    again = bench.jobs.verify(HOME_ID)
    assert again != job_id
    bench.wait(again)
    assert bench.outcomes(again) == {"verified": 3}


@pytest.mark.parametrize("point", [*faults.VERIFY_POINTS, "journal.job-settled"])
def test_no_file_is_hashed_twice_wherever_a_verification_is_killed(
    bench: LongBench, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [bench.put_home(b"%d" % number) for number in range(20)]
    bench.damage(files[7], 0)
    monkeypatch.setenv("DMEDIA_FAULT", point if point == "verify.set-aside" else f"{point}:9")
    monkeypatch.setenv("DMEDIA_FAULT_MARK", str(tmp_path / "mark"))
    job_id = bench.jobs.verify(HOME_ID)
    bench.wait(job_id, lambda job: job.reason is Reason.BACKOFF)
    settled = bench.settled()
    bench.kill()
    bench.lines.clear()
    bench.boot()
    assert bench.wait(job_id).status is Status.DONE
    assert bench.outcomes(job_id) == {"verified": 19, "corrupt": 1}
    hashed = [line.rpartition(" of file ")[2].split()[0] for line in bench.lines if "leaves of file" in line]
    assert sorted(hashed) == sorted({file.file_id for file in files} - settled)
    bench.papers.flush()
    assert bench.papers.stored[files[7].file_id][HOME_ID]["corrupt"] == [0]
    assert bench.home.quarantined(files[7].file_id)


def test_a_large_file_goes_on_in_the_middle_after_a_pause(bench: LongBench) -> None:
    file = bench.put_home(bytes(12 * leaves.LEAF_BYTES))
    bench.damage(file, 5)
    job_id = bench.jobs.verify(HOME_ID)
    bench.wait(job_id, lambda job: job.progress.bytes_done > 0)
    bench.jobs.pause(job_id)
    job = bench.wait(job_id, lambda job: job.status in (Status.PAUSED, Status.DONE))
    bench.jobs.resume(job_id)
    bench.wait(job_id)
    (problem,) = bench.jobs.problems(job_id)
    assert problem.leaves == (0,)
    assert job.progress.bytes_done >= leaves.LEAF_BYTES


def test_a_remote_store_is_verified(bench: LongBench) -> None:
    good = bench.put_object(b"proven by the store")
    read = bench.put_object(content(leaves.LEAF_BYTES + 5))
    data = content(leaves.LEAF_BYTES + 6)
    bad = bench.put_object(data, instead=data[:-1] + b"!")
    gone = bench.put_object(b"gone")
    MemoryBackend(bench.spec(STORE_ID)).delete(gone)
    job_id = bench.jobs.verify(STORE_ID)
    bench.wait(job_id)
    assert bench.outcomes(job_id) == {"verified": 2, "corrupt": 1, "missing": 1}
    (corrupt,) = (problem for problem in bench.jobs.problems(job_id) if problem.leaves)
    assert (corrupt.file_id, corrupt.store_id, corrupt.leaves) == (bad.file_id, STORE_ID, (1,))
    bench.papers.flush()
    copies = [bench.papers.copies(file.file_id, STORE_ID) for file in (good, read, bad, gone)]
    assert copies == [1, 1, 0, 0]
    hashed = [line for line in bench.lines if "leaves of file" in line]
    assert good.file_id not in "".join(hashed)
