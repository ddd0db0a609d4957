"""What can happen to an upload, or to its file or object, behind the daemon's back: a sentence and the right step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dmedia_transfer.bindings import Bindings
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.e2e.acting import LEAF, MIB, hold, on_one_server
from tests.e2e.conftest import Scene
from tests.e2e.looking import ask, assert_finished, prepared, recorded, unfinished, wait_until
from tests.waiting import eventually

LEAVES = 3
SIZE = (LEAVES - 1) * LEAF + 12345
slowly = pytest.mark.settings(connections=1, log_level="INFO")


def paused_in_the_middle(scene: Scene, direction: Direction) -> tuple[TransferKey, bytes]:
    """A transfer that was paused when some of it was there, and not all."""
    key, data = prepared(scene, direction, SIZE)
    hold(scene, direction, after=LEAF + MIB)
    ask(scene, key)
    eventually(lambda: recorded(scene.device, key))
    with scene.device.client() as client:
        assert client.transfer(key).pause()
    scene.proxy.release()
    wait_until(scene.device, key, Status.PAUSED)
    assert 0 < len(recorded(scene.device, key)) < LEAVES
    scene.proxy.reset_counts()
    return key, data


def resume(scene: Scene, key: TransferKey) -> None:
    with scene.device.client() as client:
        assert client.transfer(key).resume()


@slowly
def test_an_upload_that_somebody_aborted_is_begun_anew(scene: Scene) -> None:
    key, data = paused_in_the_middle(scene, Direction.UPLOAD)
    name = {"Bucket": scene.s3.bucket, "Key": scene.key(key.file_id)}
    [upload_id] = unfinished(scene, key)
    scene.s3.client().abort_multipart_upload(**name, UploadId=upload_id)
    resume(scene, key)
    assert_finished(scene, key, data)
    assert "looking whether it was completed" in scene.device.log()


@slowly
def test_an_upload_that_somebody_completed_elsewhere_is_recognised(scene: Scene) -> None:
    key, data = paused_in_the_middle(scene, Direction.UPLOAD)
    scene.put_object(key.file_id, data)
    resume(scene, key)
    assert_finished(scene, key, data)
    assert "is there already" in scene.device.log()
    assert scene.proxy.bytes_up < MIB


@slowly
def test_a_completed_object_whose_answer_got_lost_is_recognised(stage: Scene) -> None:
    key, data = prepared(stage, Direction.UPLOAD, SIZE)
    stage.proxy.lose_answer(f"POST /{stage.s3.bucket}/{stage.key(key.file_id)}?uploadId=".encode())
    ask(stage, key)
    stage.device.start()
    assert_finished(stage, key, data)
    assert "the answer to its end got lost, but the object is there" in stage.device.log()
    assert stage.proxy.bytes_up < SIZE + MIB, "nothing is sent twice"


@on_one_server  # the other one says of every upload that it was begun in 2010
@slowly
def test_an_upload_whose_beginning_was_not_answered_leaves_nothing(stage: Scene) -> None:
    key, data = prepared(stage, Direction.UPLOAD, SIZE)
    stage.proxy.lose_answer(f"POST /{stage.s3.bucket}/{stage.key(key.file_id)}?uploads".encode())
    ask(stage, key)
    stage.device.start()
    assert_finished(stage, key, data)
    assert "was begun, but not written down: it ends" in stage.device.log()


def another_prefix(scene: Scene) -> dict[str, str]:
    return {"prefix": "elsewhere/"}


def another_bucket(scene: Scene) -> dict[str, str]:
    name = f"elsewhere-{scene.bucket.lower()}"
    scene.s3.client().create_bucket(Bucket=name)
    return {"bucket": name}


@slowly
@pytest.mark.parametrize("change", [another_prefix, another_bucket])
def test_an_upload_whose_store_moved_ends_at_the_old_place_and_begins_at_the_new(
    scene: Scene, change: Callable[[Scene], dict[str, str]]
) -> None:
    key, data = paused_in_the_middle(scene, Direction.UPLOAD)
    assert unfinished(scene, key)
    raw = {**scene.device.get(scene.bucket), **change(scene)}
    scene.device.put(raw)
    Bindings(scene.device.state_dir / "stores.json").enable(raw)
    # Resumed by an edit, so that the daemon hears of the store first: it hears of both in their order.
    eventually(lambda: [entry["paused"] for entry in scene.device.queued()] == [True])
    scene.device.edit_machine(lambda raw: raw["queue"][0].update(paused=False))
    eventually(lambda: scene.device.queued() == [])
    name = f"{raw.get('prefix', '')}{key.file_id}"

    def body() -> bytes:
        # rclone lists a new folder a moment after it has taken an object into it.
        with contextlib.suppress(scene.s3.client().exceptions.NoSuchKey):
            return bytes(scene.s3.client().get_object(Bucket=raw["bucket"], Key=name)["Body"].read())
        return b""

    assert eventually(body) == data
    assert unfinished(scene, key) == []
    assert "what was begun at" in scene.device.log()


@on_one_server
@slowly
def test_a_file_that_vanished_here_is_waited_for(scene: Scene) -> None:
    key, data = paused_in_the_middle(scene, Direction.UPLOAD)
    path = scene.device.path_of(key.file_id)
    aside = path.rename(Path(scene.device.folder) / "aside")
    resume(scene, key)
    state = wait_until(scene.device, key, Status.SUSPENDED)
    assert state.reason is Reason.NO_SOURCE
    assert f"file {key.file_id} is in no FileStore of this machine" in state.error
    aside.rename(path)
    assert_finished(scene, key, data)
    assert scene.proxy.bytes_up < SIZE - LEAF + MIB, "the parts that had arrived are kept"


@on_one_server
@slowly
def test_a_file_that_changed_here_fails_and_says_so(scene: Scene) -> None:
    key, _ = paused_in_the_middle(scene, Direction.UPLOAD)
    path = scene.device.path_of(key.file_id)
    with path.open("r+b") as file:
        file.seek(SIZE - 5)
        file.write(b"other")
    resume(scene, key)
    state = wait_until(scene.device, key, Status.FAILED)
    assert key.file_id in state.error


@slowly
def test_an_object_that_vanished_fails_and_a_retry_fetches_only_what_is_missing(scene: Scene) -> None:
    key, data = paused_in_the_middle(scene, Direction.DOWNLOAD)
    scene.s3.client().delete_object(Bucket=scene.s3.bucket, Key=scene.key(key.file_id))
    resume(scene, key)
    state = wait_until(scene.device, key, Status.FAILED)
    assert key.file_id in state.error
    scene.put_object(key.file_id, data)
    with scene.device.client() as client:
        assert client.transfer(key).retry()
    assert_finished(scene, key, data)
    assert scene.proxy.bytes_down < SIZE - LEAF + MIB
