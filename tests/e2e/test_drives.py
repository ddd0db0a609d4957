"""Disks that go away, fill up or fail while files are saved to them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer.model import Direction
from dmedia_transfer.states import Reason, Status
from tests.device import Device
from tests.drives import Drive
from tests.e2e.acting import LEAF, MIB, hold, on_one_server
from tests.e2e.conftest import Scene
from tests.e2e.looking import ask, assert_finished, prepared, recorded, wait_until
from tests.waiting import eventually

pytestmark = on_one_server
CONNECTIONS = 2


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """A removable drive."""
    drive = Drive(tmp_path / "usb", 64 * MIB)
    yield drive
    drive.remove()


@pytest.fixture
def device_with_drive(bare_device: Device, drive: Drive) -> Device:
    """A device that saves to the drive; asked for before the stage is set."""
    bare_device.store_dir = drive.path / "store"
    return bare_device


@pytest.mark.settings(connections=CONNECTIONS)
def test_a_drive_that_is_pulled_out_and_put_back(device_with_drive: Device, stage: Scene, drive: Drive) -> None:
    size = 5 * LEAF + 5
    key, data = prepared(stage, Direction.DOWNLOAD, size)
    ask(stage, key)
    hold(stage, Direction.DOWNLOAD, after=3 * LEAF)  # one is there, then, and each connection is within another
    stage.device.start()
    there = eventually(lambda: recorded(stage.device, key) - {5})  # not the last one alone, which has 5 bytes
    drive.pull()
    stage.proxy.release()
    state = wait_until(stage.device, key, Status.SUSPENDED)
    assert state.reason is Reason.STORE_MISSING, state
    assert stage.home in state.error
    assert list(drive.path.iterdir()) == [], "nothing is written into the empty mount point"
    drive.plug()
    assert_finished(stage, key, data)
    twice = stage.proxy.bytes_down - size
    assert twice <= (5 - len(there)) * LEAF + MIB, "what was on the drive is not fetched again"


def test_a_download_waits_while_the_drive_is_not_there(device_with_drive: Device, stage: Scene, drive: Drive) -> None:
    key, data = prepared(stage, Direction.DOWNLOAD, 1000)
    ask(stage, key)
    drive.pull()
    stage.device.start()
    assert wait_until(stage.device, key, Status.SUSPENDED).reason is Reason.STORE_MISSING
    drive.plug()
    assert_finished(stage, key, data)


def test_a_full_disk_suspends_until_there_is_room(device_with_drive: Device, stage: Scene, drive: Drive) -> None:
    if not drive.mounted:
        pytest.fail("this test needs a file system of its own, and mounting is not permitted here")
    ballast = drive.path / "holidays.mov"
    ballast.write_bytes(bytes(50 * MIB))
    key, data = prepared(stage, Direction.DOWNLOAD, 2 * LEAF + 5)
    ask(stage, key)
    stage.device.start()
    state = wait_until(stage.device, key, Status.SUSPENDED)
    assert state.reason is Reason.DISK_FULL, state
    assert not stage.device.path_of(key.file_id).exists()
    assert stage.proxy.bytes_down < MIB, "nothing is fetched that cannot be kept"
    ballast.unlink()
    assert_finished(stage, key, data)


FAILING_DISK = """
    # Imported by every Python program that is started: in workers, the disk fails once.
    import errno, os, sys
    MARK = {mark!r}

    def failing(real, name):
        def call(fd, *arguments):
            path = os.readlink(f"/proc/self/fd/{{fd}}")
            if "/partial/" in path and name == {verb!r} and os.path.exists(MARK + ".armed"):
                try:
                    os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return real(fd, *arguments)
                # What was written before is lost, as the kernel drops pages that it could not write.
                pwrite(fd, bytes(4096), 4096)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(fd, *arguments)
        return call

    if any("dmedia_transfer.workers" in word for word in sys.orig_argv):
        pwrite = os.pwrite
        for name in ("pwrite", "fsync", "fdatasync"):
            setattr(os, name, failing(getattr(os, name), name))
"""


@pytest.mark.settings(connections=1)
@pytest.mark.parametrize("verb", ["pwrite", "fsync"])
def test_a_disk_that_fails_and_loses_what_was_written_publishes_nothing_corrupt(
    stage: Scene, tmp_path: Path, verb: str
) -> None:
    mark, site = tmp_path / "failed", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(FAILING_DISK.format(mark=str(mark), verb=verb)))
    stage.device.extra_env["PYTHONPATH"] = ":".join([str(site), str(Path(__file__).parents[2])])
    key, data = prepared(stage, Direction.DOWNLOAD, 2 * LEAF + 5)
    ask(stage, key)
    hold(stage, Direction.DOWNLOAD, after=LEAF + MIB)
    stage.device.start()
    eventually(lambda: recorded(stage.device, key))
    Path(f"{mark}.armed").touch()
    stage.proxy.release()
    eventually(mark.exists)
    assert_finished(stage, key, data)
    assert "nothing of what was written is trusted any more" in stage.device.log()
