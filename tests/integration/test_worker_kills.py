"""A worker is killed just after each answer of the server and each write; the next one ends the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmedia_transfer import faults, leaves
from dmedia_transfer.model import Direction, Discard, Outcome, TransferKey
from tests.factories import STORE_ID, content
from tests.integration.test_workers import Bench, bench

__all__ = ["bench"]

DATA = content(leaves.LEAF_BYTES + 1)
SMALL = content(1000)
JOURNAL_POINTS = ("journal.intent", "journal.upload-id", "journal.part", "journal.upload-forgotten")
PUBLISH_POINTS = ("publish.chmod", "publish.fsync", "publish.rename", "publish.done")


def kill_next_worker(at: str, mark: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("DMEDIA_FAULT", at)
    patch.setenv("DMEDIA_FAULT_MARK", str(mark))


@pytest.mark.parametrize(
    "point", [*faults.DOWNLOAD_POINTS, *PUBLISH_POINTS, "journal.leaf", "journal.leaves-forgotten"]
)
def test_a_download_recovers(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    file = bench.remote_file(DATA)
    kill_next_worker(point, tmp_path / "killed", monkeypatch)
    assert bench.do(1, bench.download(file)).outcome is Outcome.LOST
    assert (tmp_path / "killed").exists()
    again = bench.do(2, bench.download(file))
    assert again.outcome is Outcome.FINISHED
    assert bench.home.path(file.file_id).read_bytes() == DATA
    assert bench.home.partial_mtime(file.file_id) is None
    if point in (*PUBLISH_POINTS, "download.published", "journal.leaves-forgotten"):
        assert again.sent_bytes == 0, "every leaf was there"


@pytest.mark.parametrize(
    "point",
    [point for point in faults.UPLOAD_POINTS if point not in ("upload.put", "upload.abandoned", "upload.listed")]
    + list(JOURNAL_POINTS),
)
def test_an_upload_recovers(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    file = bench.local_file(DATA)
    kill_next_worker(point, tmp_path / "killed", monkeypatch)
    first = bench.do(1, bench.upload(file))
    assert first.outcome is Outcome.LOST
    assert (tmp_path / "killed").exists()
    again = bench.do(2, bench.upload(file))
    assert again.outcome is Outcome.FINISHED
    assert bench.journal.uploads.load(bench.upload(file).key) is None
    assert bench.download_again(file) == DATA


def test_an_upload_recovers_after_the_list_of_parts(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bench.local_file(DATA)
    for run_id, point in enumerate(["upload.part-recorded", "upload.listed"], start=1):
        kill_next_worker(point, tmp_path / point, monkeypatch)
        assert bench.do(run_id, bench.upload(file)).outcome is Outcome.LOST
    again = bench.do(3, bench.upload(file))
    assert again.outcome is Outcome.FINISHED
    assert again.sent_bytes < file.size, "a part that was confirmed is not sent again"
    assert bench.download_again(file) == DATA


def test_a_small_upload_recovers(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bench.local_file(SMALL)
    kill_next_worker("upload.put", tmp_path / "killed", monkeypatch)
    assert bench.do(1, bench.upload(file)).outcome is Outcome.LOST
    again = bench.do(2, bench.upload(file))
    assert (again.outcome, again.sent_bytes) == (Outcome.FINISHED, 0)


@pytest.mark.parametrize("point", ["upload.abandoned", "journal.upload-unwanted", "journal.upload-aborted"])
def test_what_is_discarded_stays_discarded(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    file = bench.local_file(DATA)
    kill_next_worker("upload.part-recorded", tmp_path / "first", monkeypatch)
    assert bench.do(1, bench.upload(file)).outcome is Outcome.LOST
    kill_next_worker(point, tmp_path / "second", monkeypatch)
    discard = Discard(TransferKey(Direction.UPLOAD, file.file_id, STORE_ID), None, bench.store())
    assert bench.do(2, discard).outcome is Outcome.LOST
    assert bench.do(3, discard).outcome is Outcome.FINISHED
    assert not bench.journal.uploads.latest()
