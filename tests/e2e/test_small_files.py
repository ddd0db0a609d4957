"""Hundreds of small files at once, as a user has them: photos."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.e2e.acting import hold, wait_for
from tests.e2e.conftest import Scene
from tests.e2e.looking import copies
from tests.factories import content
from tests.s3 import S3Server
from tests.waiting import eventually

COUNT = 200
BYTES = 2000


@pytest.fixture
def s3(rclone_s3: S3Server) -> Iterator[S3Server]:
    """The fastest of the servers."""
    with rclone_s3.own_bucket() as own:
        yield own


def photos(scene: Scene, count: int) -> dict[str, bytes]:
    """Files in the bucket, with documents, by their IDs."""
    return {scene.remote_file(data): data for data in (content(BYTES + n, seed=70_000 + n) for n in range(count))}


def here(scene: Scene, file_ids: dict[str, bytes]) -> list[str]:
    return [file_id for file_id in file_ids if scene.device.path_of(file_id).exists()]


def is_over(scene: Scene) -> bool:
    with scene.device.client() as client:
        state = client.state()
        return state.queued + state.active == 0


def test_hundreds_of_files_arrive_once_each_though_worker_and_daemon_are_killed(scene: Scene) -> None:
    device, proxy = scene.device, scene.proxy
    files = photos(scene, COUNT)
    with device.client() as client:
        client.queue_downloads(list(files))
    eventually(lambda: len(here(scene, files)) >= 20)
    for pid in device.workers():
        os.kill(pid, signal.SIGKILL)
    count = len(here(scene, files))
    eventually(lambda: len(here(scene, files)) >= min(COUNT, count + 50))
    before = set(here(scene, files))
    inodes = {file_id: device.path_of(file_id).stat().st_ino for file_id in before}
    device.kill()
    device.start()
    eventually(lambda: len(here(scene, files)) == COUNT, within_s=120)
    eventually(lambda: is_over(scene))
    for file_id, data in files.items():
        assert device.path_of(file_id).read_bytes() == data
    assert {file_id: device.path_of(file_id).stat().st_ino for file_id in before} == inodes, "none is fetched again"
    eventually(lambda: not device.queued())
    eventually(lambda: all(copies(scene, TransferKey(Direction.DOWNLOAD, one, "")) == 1 for one in list(files)[::30]))
    partial = device.store_dir / "partial"
    eventually(lambda: not [path for path in partial.rglob("*") if path.is_file()])
    proxy.reset_counts()
    with device.client() as client:
        client.queue_downloads(list(files))
    eventually(lambda: is_over(scene))
    assert proxy.bytes_down < COUNT * BYTES / 10, "they are there"


def test_one_of_many_is_paused_and_one_is_cancelled_before_they_are_begun(scene: Scene) -> None:
    device = scene.device
    files = photos(scene, 60)
    keys = [TransferKey(Direction.DOWNLOAD, file_id, "") for file_id in files]
    paused, cancelled = keys[40:42]
    hold(scene, Direction.DOWNLOAD, after=3 * BYTES)
    with device.client() as client:
        client.queue_downloads(list(files))
        wait_for(client, paused, Status.ONGOING)
        wait_for(client, cancelled, Status.ONGOING)
        client.transfer(paused).pause()
        client.transfer(cancelled).cancel()
        wait_for(client, paused, Status.PAUSED)
        wait_for(client, cancelled, Status.CANCELLED)
        scene.proxy.release()
        others = {
            file_id: data for file_id, data in files.items() if file_id not in (paused.file_id, cancelled.file_id)
        }
        eventually(lambda: len(here(scene, others)) == len(others))
        assert here(scene, files) == here(scene, others)
        client.transfer(paused).resume()
        eventually(lambda: device.path_of(paused.file_id).exists())
    assert not device.path_of(cancelled.file_id).exists()


def test_hundreds_of_files_are_sent_though_the_worker_is_killed(scene: Scene) -> None:
    device = scene.device
    files = {scene.local_file(data): data for data in (content(BYTES + n, seed=80_000 + n) for n in range(100))}
    client_of_s3 = scene.s3.client()

    def there() -> set[str]:
        return {one["Key"] for one in client_of_s3.list_objects_v2(Bucket=scene.s3.bucket).get("Contents", [])}

    device.queue(*({"action": "upload", "file_id": file_id, "store_id": scene.bucket} for file_id in files))
    eventually(lambda: len(there()) >= 10)
    for pid in device.workers():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: there() == set(files), within_s=60)
    eventually(lambda: not device.queued())
    for file_id, data in list(files.items())[::10]:
        assert scene.get_object(file_id) == data
