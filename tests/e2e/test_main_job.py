"""The main job, as a user sees it: an entry in the queue, and the bytes arrive, verified."""

from __future__ import annotations

import base64
import contextlib
import threading

import pytest
import requests

from dmedia_transfer.client import TransferState
from dmedia_transfer.errors import InvalidRequest, TransferError
from dmedia_transfer.model import PRIORITY_NOW, Direction, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument, read_status, transfers_id
from tests.e2e.acting import download_of, hold, on_one_server, wait_for
from tests.e2e.conftest import Scene
from tests.factories import content
from tests.waiting import WAIT_S, eventually

MIB = 1024 * 1024
SIZE = 17 * MIB + 12345  # three leaves

SECRET_WORD_MAX = 12  # of a server that others have set up; a short one may be a word that stands in the log anyway


def test_an_entry_that_another_device_wrote_is_downloaded_and_leaves_the_queue(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.remote_file(data)
    scene.device.queue({"id": "from-the-phone", "file_id": file_id, "store_id": scene.bucket})
    eventually(lambda: scene.device.path_of(file_id).exists())
    assert scene.device.path_of(file_id).read_bytes() == data
    assert scene.device.path_of(file_id).stat().st_mode & 0o777 == 0o444
    eventually(lambda: scene.device.queued() == [])
    stored = scene.device.get(file_id)["stored"]
    assert stored[scene.home]["copies"] == 1
    assert stored[scene.bucket]["copies"] == 1
    assert list((scene.device.store_dir / "partial").rglob("*/*")) == []


@on_one_server
def test_a_local_app_asks_and_sees_the_progress_all_the_way(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.remote_file(data)
    scene.proxy.hold(up=False, after=SIZE // 4)
    seen: list[TransferState] = []

    def see(state: TransferState) -> None:
        seen.append(state)
        if scene.proxy.holding:
            scene.proxy.hold(up=False, after=SIZE // 4)  # on to the next quarter

    with scene.device.client() as client:
        end = client.queue_download(file_id, requested_by="player").wait(see, timeout_s=WAIT_S)
    assert end.status is Status.DONE
    done = [state.progress.bytes_done for state in seen]
    assert done == sorted(done)
    assert done[-1] == SIZE
    assert len(set(done)) >= 3
    assert {state.requested_by for state in seen} == {"player"}
    assert scene.device.path_of(file_id).read_bytes() == data
    eventually(lambda: scene.device.queued() == [])


@on_one_server
def test_the_other_devices_can_see_what_this_one_does(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.remote_file(data)
    document_id = transfers_id(scene.device.machine_id)

    def told() -> StatusDocument | None:
        with contextlib.suppress(requests.HTTPError):
            return read_status(scene.device.get(document_id))
        return None

    scene.proxy.hold(up=False, after=MIB)
    scene.device.queue({"id": "watched", "file_id": file_id})
    status = eventually(lambda: (found := told()) and found.counts.get("ongoing") and found)
    assert status.transfers[0].file_id == file_id
    scene.proxy.release()
    status = eventually(lambda: (found := told()) and found.finished and found)
    assert (status.finished[0].file_id, status.finished[0].status) == (file_id, Status.DONE)
    eventually(lambda: not told().transfers)  # type: ignore[union-attr]


def test_an_upload_reaches_the_bucket_and_is_recorded(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.local_file(data)
    with scene.device.client() as client:
        end = client.queue_upload(file_id, scene.bucket).wait(timeout_s=WAIT_S)
    assert (end.status, end.error) == (Status.DONE, "")
    assert scene.get_object(file_id) == data
    eventually(lambda: scene.device.get(file_id)["stored"].get(scene.bucket, {}).get("copies") == 1)
    eventually(lambda: scene.device.queued() == [])


def test_a_small_file_goes_both_ways(scene: Scene) -> None:
    data = content(1000)
    file_id = scene.local_file(data)
    with scene.device.client() as client:
        assert client.queue_upload(file_id, scene.bucket).wait(timeout_s=WAIT_S).status is Status.DONE
        eventually(lambda: scene.device.get(file_id)["stored"].get(scene.bucket))
        scene.device.path_of(file_id).unlink()
        assert client.queue_download(file_id).wait(timeout_s=WAIT_S).status is Status.DONE
    assert scene.device.path_of(file_id).read_bytes() == data


def test_an_object_that_is_there_already_is_not_sent_again(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.local_file(data)
    with scene.device.client() as client:
        client.queue_upload(file_id, scene.bucket).wait(timeout_s=WAIT_S)
        scene.proxy.reset_counts()
        client.queue_upload(file_id, scene.bucket).wait(timeout_s=WAIT_S)
    assert scene.proxy.bytes_up < MIB


def test_a_corrupt_object_publishes_nothing_names_the_leaf_and_keeps_the_rest(scene: Scene) -> None:
    data = content(SIZE)
    file_id = scene.device.add_file(data, scene.bucket)
    damaged = bytearray(data)
    damaged[9 * MIB] ^= 1
    scene.put_object(file_id, bytes(damaged))
    with scene.device.client() as client:
        end = client.queue_download(file_id).wait(timeout_s=WAIT_S)
        assert end.status is Status.FAILED
        for fact in (file_id, "leaf 1", scene.bucket):
            assert fact in end.error
        assert not scene.device.path_of(file_id).exists()

        scene.put_object(file_id, data)
        scene.proxy.reset_counts()
        transfer = client.transfer(download_of(file_id))
        assert transfer.retry()
        assert transfer.wait(timeout_s=WAIT_S).status is Status.DONE
    assert scene.device.path_of(file_id).read_bytes() == data
    assert scene.proxy.bytes_down < 9 * MIB  # the other leaves were kept


@on_one_server
def test_resolve_says_where_a_file_is_or_asks_for_it_now(scene: Scene) -> None:
    file_id = scene.remote_file(content(1000))
    with scene.device.client() as client:
        assert client.resolve(file_id).path == ""
        assert client.transfer(download_of(file_id)).state().priority == PRIORITY_NOW
        eventually(lambda: client.resolve(file_id).status == "here")
        assert client.resolve(file_id).path == str(scene.device.path_of(file_id))


@on_one_server
def test_a_wrong_argument_is_refused_by_name(scene: Scene) -> None:
    with scene.device.client() as client, pytest.raises(InvalidRequest, match="file_id"):
        client.queue_download("../../etc/passwd")


@on_one_server
def test_a_bad_document_gives_one_clear_message_and_disturbs_nothing_else(scene: Scene) -> None:
    device = scene.device
    good = scene.remote_file(content(1000))
    liar = device.add_file(content(2000), scene.bucket)
    raw = device.get(liar)
    device.put({**raw, "bytes": 3 * 8 * MIB})
    device.put({"_id": "X" * 24, "type": "dmedia/store", "time": 1, "ver": 0, "plugin": "carrier-pigeon"})
    device.put({"_id": "Y" * 24, "type": "dmedia/store", "time": 1, "ver": 0})
    elsewhere = device.add_file(content(3000), "X" * 24)
    device.queue({"file_id": "../../etc/passwd"}, {"nothing": "here"}, liar, elsewhere, good)
    eventually(lambda: device.path_of(good).exists())
    with device.client() as client:
        assert "leaf digests" in wait_for(client, download_of(liar), Status.FAILED).error
        assert "carrier-pigeon" in wait_for(client, download_of(elsewhere), Status.SUSPENDED).error
        problems = client.state().problems
        assert any("queue.0.file_id" in problem for problem in problems)
        assert any("queue.1.file_id" in problem and "missing" in problem for problem in problems)
        assert any("Y" * 24 in problem and "plugin" in problem for problem in problems)
    eventually(lambda: len(device.queued()) == 4)
    assert device.queued()[:2] == [{"file_id": "../../etc/passwd"}, {"nothing": "here"}]


@on_one_server
def test_a_store_that_came_in_a_document_is_used_only_after_it_was_enabled_here(scene: Scene) -> None:
    device = scene.device
    spec = scene.s3.spec(url=scene.proxy.url, store_id="E" * 24, prefix="other/")
    raw = {"_id": "E" * 24, "type": "dmedia/store", "time": 1, "ver": 0, "plugin": "s3", **spec.settings}
    device.add_store(raw, enable=False)
    data = content(1000)
    file_id = device.add_file(data, "E" * 24)
    scene.s3.client().put_object(Bucket=scene.s3.bucket, Key=f"other/{file_id}", Body=data)
    device.queue(file_id)
    with device.client() as client:
        assert "enable" in wait_for(client, download_of(file_id), Status.SUSPENDED).error
        device.add_store({**device.get("E" * 24)})
        wait_for(client, download_of(file_id), Status.DONE)


@on_one_server
def test_the_first_request_of_a_worker_waits_for_nothing_but_the_documents(scene: Scene) -> None:
    with scene.device.client() as client:
        for seed in range(3):  # the pool is warm after the first
            file_id = scene.remote_file(content(1000, seed=seed))
            client.queue_download(file_id).wait(timeout_s=WAIT_S)
    assert len(scene.device.workers()) == 1


@on_one_server
@pytest.mark.parametrize("direction", list(Direction))
def test_sigterm_ends_the_daemon_whatever_hangs_and_a_start_goes_on_by_itself(
    scene: Scene, direction: Direction
) -> None:
    data = content(SIZE)
    hold(scene, direction, after=MIB)
    with scene.device.client() as client:
        if direction is Direction.DOWNLOAD:
            file_id = scene.remote_file(data)
            client.queue_download(file_id)
            key = download_of(file_id)
        else:
            file_id = scene.local_file(data)
            client.queue_upload(file_id, scene.bucket)
            key = TransferKey(Direction.UPLOAD, file_id, scene.bucket)
        eventually(lambda: client.transfer(key).state().progress.bytes_done > 0)
    assert scene.device.stop() == 0
    scene.proxy.release()
    scene.device.start()
    eventually(lambda: scene.device.queued() == [])
    arrived = (
        scene.device.path_of(file_id).read_bytes() if direction is Direction.DOWNLOAD else scene.get_object(file_id)
    )
    assert arrived == data


@on_one_server
def test_a_second_daemon_refuses_to_start_beside_the_first(scene: Scene) -> None:
    scene.device.extra_env["DMEDIA_LOG_LEVEL"] = "INFO"  # a developer who asks for more gets the traceback
    done = scene.device.cli("daemon", check=False)
    assert done.returncode == 1
    assert "already running" in done.stderr
    assert "Traceback" not in done.stderr


@on_one_server
def test_the_password_is_in_no_line_that_the_daemon_logs(scene: Scene) -> None:
    file_id = scene.remote_file(content(1000))
    scene.device.queue(file_id)
    eventually(lambda: scene.device.path_of(file_id).exists())
    log = scene.device.log()
    assert scene.device.couch is not None
    for user, secret in (
        (scene.device.couch.user, scene.device.couch.password),
        (scene.s3.access_key, scene.s3.secret_key),
    ):
        basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
        for shown in (f":{secret}@", f"'{secret}'", f'"{secret}"', basic):
            assert shown not in log
        if len(secret) > SECRET_WORD_MAX:
            assert secret not in log


@on_one_server
def test_errors_of_commands_for_a_transfer_that_is_not_there_have_a_type(scene: Scene) -> None:
    with scene.device.client() as client, pytest.raises(TransferError):
        client.transfer(download_of("A" * 48)).pause()


@on_one_server
def test_many_listeners_and_requests_at_once_are_served(scene: Scene) -> None:
    files = [scene.remote_file(content(50_000, seed=seed)) for seed in range(20)]
    ends: list[Status] = []

    def watch(file_id: str) -> None:
        with scene.device.client() as client:
            ends.append(client.queue_download(file_id).wait(timeout_s=WAIT_S).status)

    threads = [threading.Thread(target=watch, args=(file_id,)) for file_id in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert ends == [Status.DONE] * 20
    eventually(lambda: scene.device.queued() == [])
