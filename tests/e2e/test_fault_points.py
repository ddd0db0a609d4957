"""Killed immediately after each write to the journal, each answer of the server and each step of a publication."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import dmedia_transfer
from dmedia_transfer import documents, faults
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.e2e.acting import LEAF, MIB, hold
from tests.e2e.conftest import Scene
from tests.e2e.looking import ask, assert_finished, left_over, prepared, recorded, rows, status_of, wait_until
from tests.factories import content
from tests.s3 import S3Server
from tests.waiting import WAIT_S, eventually

SIZE: Final = 13 * MIB + 5  # two leaves

# Every point of the program is in exactly one of these lists, by where it is passed.
DOWNLOADING: Final = (
    "download.fetched",
    "download.written",
    "journal.leaf",
    "download.recorded",
    "publish.chmod",
    "publish.fsync",
    "publish.rename",
    "publish.done",
    "download.published",
    "journal.leaves-forgotten",
    "journal.outbox",
    "journal.outbox-taken",
    "journal.ended",
    "journal.checkpoint",
    "journal.lineage",
    "machine.written",
)
UPLOADING: Final = (
    "upload.stat",
    "journal.intent",
    "upload.intended",
    "upload.begun",
    "journal.upload-id",
    "upload.recorded",
    "upload.part-sent",
    "journal.part",
    "upload.part-recorded",
    "upload.finished",
    "journal.upload-forgotten",
    "upload.forgotten",
)
RESUMING_AN_UPLOAD: Final = ("upload.listed",)
SENDING_A_SMALL_FILE: Final = ("upload.put",)
CANCELLING_AN_UPLOAD: Final = ("journal.upload-unwanted", "upload.abandoned", "journal.upload-aborted")
MERGING: Final = ("machine.merged",)
FAILING: Final = ("journal.failure",)
SWEEPING: Final = ("journal.failures-forgotten",)
STOPPING: Final = ("journal.base",)
# Written while devices disagree, or by nothing that a single transfer does: the write itself is held to its promise.
_A_JOB: Final = (
    "from dmedia_transfer.model import JobKind, LongJob; "
    "job = LongJob('J' * 24, JobKind.IMPORT); journal.jobs.put(job); "
)
JOURNAL_ALONE: Final = {  # a write, and what is so after it
    "journal.together": (
        "with journal.together(): journal.ledger.removed(['a']); journal.checkpoints.keep('f', '1')",
        "journal.ledger.is_gone('a') and journal.checkpoints.load('f') == '1'",
    ),
    "journal.removed": ("journal.ledger.removed(['a'])", "journal.ledger.is_gone('a')"),
    "journal.checkpoint-forgotten": (
        "journal.checkpoints.keep('f', '1'); journal.checkpoints.forget('f')",
        "journal.checkpoints.load('f') is None",
    ),
    "journal.job": (_A_JOB, "[job.id for job in journal.jobs.load()] == ['J' * 24]"),
    "journal.job-listed": (
        _A_JOB + "journal.jobs.list_files(job.id, [(b'a', 1, None)])",
        "[file.item for file in journal.jobs.open_files('J' * 24, limit=9)] == [b'a']",
    ),
    "journal.job-so-far": (
        _A_JOB + "journal.jobs.list_files(job.id, [(b'a', 1, None)]); journal.jobs.keep(job.id, b'a', b'x')",
        "[file.so_far for file in journal.jobs.open_files('J' * 24, limit=9)] == [b'x']",
    ),
    "journal.job-ended": (
        _A_JOB + "journal.jobs.ended(job.evolve(ended=2.0))",
        "[job.ended for job in journal.jobs.load()] == [2.0]",
    ),
    "journal.job-forgotten": (_A_JOB + "journal.jobs.forget(job.id)", "journal.jobs.load() == []"),
}
RECEIVING_FROM_A_PEER: Final = ("incoming.written", "incoming.recorded")  # tried in `test_peers`
IMPORTING_AND_VERIFYING: Final = (  # tried in `test_long_jobs`
    *faults.IMPORT_POINTS,
    *faults.VERIFY_POINTS,
    "journal.job-settled",
)
TOGETHER: Final = faults.TOGETHER_POINTS  # tried in `tests/integration/test_small_files`
ARRIVING: Final = faults.ARRIVING_POINTS  # tried in `test_web`
ALL: Final = (
    *DOWNLOADING,
    *UPLOADING,
    *RESUMING_AN_UPLOAD,
    *SENDING_A_SMALL_FILE,
    *CANCELLING_AN_UPLOAD,
    *MERGING,
    *FAILING,
    *SWEEPING,
    *STOPPING,
    *JOURNAL_ALONE,
    *RECEIVING_FROM_A_PEER,
    *IMPORTING_AND_VERIFYING,
    *ARRIVING,
    *TOGETHER,
)


@pytest.fixture
def s3(rclone_s3: S3Server) -> Iterator[S3Server]:
    """The one of the servers that says when an upload was begun."""
    with rclone_s3.own_bucket() as own:
        yield own


def points_in_the_program() -> Iterator[str]:
    """Each name that is given to `faults.point`, and each `Database.write` of the journal, read from the source."""
    for path in Path(dmedia_transfer.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            called, first = ast.unparse(node.func), node.args[0]
            if called == "faults.point" and not isinstance(first, ast.JoinedStr):
                assert isinstance(first, ast.Constant), f"a point without a fixed name in {path}"
                yield str(first.value)
            elif called == "self._database.write" and path.parent.name == "journal":
                assert isinstance(first, ast.Constant), f"a write without a fixed name in {path}"
                yield "journal." + str(first.value)


def test_no_point_of_the_program_is_forgotten_here() -> None:
    assert sorted(ALL) == sorted(set(points_in_the_program()))


class Death:
    """A kill that waits at a point, for the daemon and its workers."""

    def __init__(self, stage: Scene, folder: Path, point: str) -> None:
        self._device = stage.device
        self._mark = folder / "mark"
        self._device.extra_env.update(DMEDIA_FAULT=point, DMEDIA_FAULT_MARK=str(self._mark))

    def comes(self) -> None:
        """Wait until it has come; a daemon that died is started again, a dead worker is the daemon's business."""
        eventually(self._mark.exists)
        time.sleep(0.2)  # the kill follows the mark
        if not self._device.is_running:
            self._device.start()


@pytest.mark.parametrize("point", DOWNLOADING)
def test_a_download_survives_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key, data = prepared(stage, Direction.DOWNLOAD, SIZE)
    ask(stage, key)
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert_finished(stage, key, data)


@pytest.mark.parametrize("point", UPLOADING)
def test_an_upload_survives_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key, data = prepared(stage, Direction.UPLOAD, SIZE)
    ask(stage, key)
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert_finished(stage, key, data)


@pytest.mark.parametrize("point", SENDING_A_SMALL_FILE)
def test_a_small_upload_survives_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key, data = prepared(stage, Direction.UPLOAD, 1000)
    ask(stage, key)
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert_finished(stage, key, data)


@pytest.mark.settings(connections=1, log_level="INFO")
@pytest.mark.parametrize("point", RESUMING_AN_UPLOAD)
def test_an_upload_that_is_resumed_survives_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key, data = prepared(stage, Direction.UPLOAD, SIZE)
    ask(stage, key)
    begin_slowly(stage, key)
    stage.device.kill()
    stage.proxy.release()
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert_finished(stage, key, data)


@pytest.mark.settings(connections=1, log_level="INFO")
@pytest.mark.parametrize("point", CANCELLING_AN_UPLOAD)
def test_an_upload_that_is_cancelled_leaves_nothing_after_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key, _ = prepared(stage, Direction.UPLOAD, SIZE)
    ask(stage, key)
    death = Death(stage, tmp_path, point)
    begin_slowly(stage, key)
    with stage.device.client() as client:
        assert client.transfer(key).cancel()
    stage.proxy.release()
    death.comes()
    eventually(lambda: not left_over(stage, key))


def begin_slowly(stage: Scene, key: TransferKey) -> None:
    """Start the daemon, and let one part arrive, but not all."""
    hold(stage, key.direction, after=LEAF + MIB)
    stage.device.start()
    eventually(lambda: recorded(stage.device, key))
    assert len(recorded(stage.device, key)) < 2


@pytest.mark.parametrize("point", MERGING)
def test_a_merge_of_two_queues_survives_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    device = stage.device
    here, data = prepared(stage, Direction.DOWNLOAD, 1000)
    there, other_data = prepared(stage, Direction.DOWNLOAD, 1001)
    machine = documents.new_machine(device.machine_id, "tv", time=time.time())
    parent = device.put(machine)
    ask(stage, here)
    revision = "f" * 32  # of a device that was away
    sibling = {**machine, "queue": [{"id": "from-afar", "file_id": there.file_id}], "_rev": f"2-{revision}"}
    sibling["_revisions"] = {"start": 2, "ids": [revision, parent.partition("-")[2]]}
    with device.http() as (session, url):
        answer = session.post(f"{url}/_bulk_docs", json={"docs": [sibling], "new_edits": False}, timeout=WAIT_S)
        answer.raise_for_status()
    death = Death(stage, tmp_path, point)
    device.launch()
    death.comes()
    assert_finished(stage, here, data)
    assert_finished(stage, there, other_data)


def queue_what_fails(stage: Scene) -> TransferKey:
    """A download that the database promises and the bucket does not have."""
    file_id = stage.device.add_file(content(1000), stage.bucket)
    key = TransferKey(Direction.DOWNLOAD, file_id, "")
    ask(stage, key)
    return key


@pytest.mark.parametrize("point", FAILING)
def test_a_failure_is_still_shown_after_a_kill_at(stage: Scene, tmp_path: Path, point: str) -> None:
    key = queue_what_fails(stage)
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert key.file_id in wait_until(stage.device, key, Status.FAILED).error
    assert len(stage.device.queued()) == 1


@pytest.mark.parametrize("point", SWEEPING)
def test_a_failure_that_is_not_wanted_any_more_is_forgotten_after_a_kill_at(
    stage: Scene, tmp_path: Path, point: str
) -> None:
    key = queue_what_fails(stage)
    stage.device.start()
    wait_until(stage.device, key, Status.FAILED)
    stage.device.stop()
    stage.device.edit_machine(lambda raw: raw.update(queue=[]))
    death = Death(stage, tmp_path, point)
    stage.device.launch()
    death.comes()
    assert rows(stage.device, "SELECT * FROM failures") == []
    assert status_of(stage.device, key) is None


@pytest.mark.parametrize("point", STOPPING)
def test_a_stop_that_is_killed_loses_nothing_at(stage: Scene, tmp_path: Path, point: str) -> None:
    death = Death(stage, tmp_path, point)
    stage.device.start()
    key, data = prepared(stage, Direction.DOWNLOAD, 1000)
    ask(stage, key)
    assert stage.device.stop() == -signal.SIGKILL
    death.comes()
    assert_finished(stage, key, data)


@pytest.mark.parametrize("point", JOURNAL_ALONE)
def test_a_write_to_the_journal_is_there_after_a_kill_at(tmp_path: Path, point: str) -> None:
    write, holds = JOURNAL_ALONE[point]
    program = "import sys, pathlib\nfrom dmedia_transfer.journal import Journal\n"
    program += f"journal = Journal(pathlib.Path(sys.argv[1]), owner=True)\n{write}\n"
    path = tmp_path / "journal.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "DMEDIA_FAULT": point},
        capture_output=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Journal(path, owner=True) as journal:
        assert eval(holds, {"journal": journal})
