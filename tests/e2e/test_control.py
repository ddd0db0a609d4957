"""Pause, resume, cancel, retry and priority, as a user sees them: over D-Bus, in the document, on the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.client import Client
from dmedia_transfer.model import PRIORITY_HIGH, PRIORITY_NOW, Direction, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.e2e.acting import (
    LEAF,
    MIB,
    arrived,
    begin,
    download_of,
    hold,
    moved,
    on_one_server,
    state_of,
    wait_for,
    wait_for_bytes,
    witness,
)
from tests.e2e.conftest import Scene
from tests.factories import content
from tests.waiting import eventually

SIZE = 2 * LEAF + 12345
IN_THE_MIDDLE = LEAF + 2 * MIB  # one leaf is there, and the next has begun
OVERHEAD = MIB // 2  # of requests and answers, and what is on its way when something is cut
one_connection = pytest.mark.settings(connections=1)
both_ways = pytest.mark.parametrize("direction", list(Direction))


def pause_after(scene: Scene, client: Client, key: TransferKey, count: int) -> int:
    """Pause a transfer that is held once it has done so many bytes; returns what it has done when it is paused."""
    wait_for_bytes(client, key, count)
    transfer = client.transfer(key)
    assert transfer.pause()
    scene.proxy.release()
    wait_for(client, key, Status.PAUSED)
    assert not transfer.pause()
    return transfer.state().progress.bytes_done


def assert_nothing_moves(scene: Scene, direction: Direction, *, for_s: float = 0.5) -> None:
    before = moved(scene, direction)
    time.sleep(for_s)
    assert moved(scene, direction) - before < OVERHEAD


@contextlib.contextmanager
def frozen_worker(scene: Scene) -> Iterator[None]:
    """The only worker does nothing, as if the machine was very busy."""
    (pid,) = scene.device.workers()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def partials(scene: Scene) -> list[Path]:
    return list((scene.device.store_dir / "partial").rglob("*/*"))


# Pause and resume


@one_connection
@both_ways
def test_what_is_paused_stays_so_over_a_stop_and_a_kill_and_then_goes_on_with_what_is_missing(
    scene: Scene, direction: Direction
) -> None:
    hold(scene, direction, after=IN_THE_MIDDLE)
    with scene.device.client() as client:
        key, data = begin(scene, client, direction, SIZE)
        pause_after(scene, client, key, LEAF + MIB)
        assert_nothing_moves(scene, direction)
    scene.device.stop()
    scene.device.start()
    with scene.device.client() as client:
        assert client.transfer(key).state().status is Status.PAUSED
    scene.device.kill()
    scene.device.start()
    scene.proxy.reset_counts()
    with scene.device.client() as client:
        transfer = client.transfer(key)
        assert transfer.state().status is Status.PAUSED
        assert_nothing_moves(scene, direction)
        assert transfer.resume()
        assert not transfer.resume()
        assert transfer.wait(timeout_s=60).status is Status.DONE
    assert arrived(scene, key) == data
    assert moved(scene, direction) < SIZE - LEAF + OVERHEAD


@one_connection
@on_one_server
def test_a_pause_lets_the_part_in_flight_finish_and_sends_it_only_once(scene: Scene) -> None:
    hold(scene, Direction.UPLOAD, after=IN_THE_MIDDLE)
    with scene.device.client() as client, witness(scene) as heard:
        key, data = begin(scene, client, Direction.UPLOAD, SIZE)
        pause_after(scene, client, key, LEAF + MIB)
        heard.wait(key, Status.PAUSED)
        assert heard.of(key)[-2:] == [Status.PAUSING, Status.PAUSED]
        assert client.transfer(key).resume()
        assert client.transfer(key).wait(timeout_s=60).status is Status.DONE
    assert arrived(scene, key) == data
    assert scene.proxy.bytes_up < SIZE + OVERHEAD


@pytest.mark.settings(connections=1, pause_grace_s=0.3)
@on_one_server
def test_a_part_that_takes_longer_than_its_grace_is_cut_and_sent_again(scene: Scene) -> None:
    hold(scene, Direction.UPLOAD, after=2 * MIB)
    with scene.device.client() as client:
        key, data = begin(scene, client, Direction.UPLOAD, SIZE)
        wait_for_bytes(client, key, MIB)
        assert client.transfer(key).pause()
        wait_for(client, key, Status.PAUSED)  # though the part cannot end
        scene.proxy.release()
        assert client.transfer(key).resume()
        assert client.transfer(key).wait(timeout_s=60).status is Status.DONE
    assert arrived(scene, key) == data


@one_connection
@on_one_server
@both_ways
def test_a_resume_during_pausing_goes_straight_on_and_nobody_sees_paused(scene: Scene, direction: Direction) -> None:
    hold(scene, direction, after=2 * MIB)
    with scene.device.client() as client, witness(scene) as heard:
        key, data = begin(scene, client, direction, SIZE)
        transfer = client.transfer(key)
        for _ in range(2):
            wait_for_bytes(client, key, MIB)
            eventually(lambda: scene.proxy.holding)
            with frozen_worker(scene):  # it is still pausing, then, when the resume comes
                assert transfer.pause()
                assert transfer.state().status is Status.PAUSING
                assert transfer.resume()
                assert transfer.state().status is Status.ONGOING
            hold(scene, direction, after=2 * MIB)
        scene.proxy.release()
        assert transfer.wait(timeout_s=60).status is Status.DONE
        heard.wait(key, Status.DONE)
        assert heard.of(key).count(Status.PAUSING) == 2
        assert Status.PAUSED not in heard.of(key)
    assert arrived(scene, key) == data


@pytest.mark.settings(max_transfers=1, connections=1)
@on_one_server
def test_a_pause_frees_the_slot_for_the_next_in_the_queue(scene: Scene) -> None:
    hold(scene, Direction.DOWNLOAD, after=2 * MIB)
    with scene.device.client() as client:
        first, _ = begin(scene, client, Direction.DOWNLOAD, SIZE)
        second, _ = begin(scene, client, Direction.DOWNLOAD, MIB, seed=1)
        wait_for_bytes(client, first, MIB)
        assert client.transfer(second).state().status is Status.QUEUED
        assert client.transfer(first).pause()
        wait_for(client, first, Status.PAUSED)
        scene.proxy.release()
        wait_for(client, second, Status.DONE)
        assert client.transfer(first).state().status is Status.PAUSED
        assert client.transfer(first).resume()
        wait_for(client, first, Status.DONE)


@on_one_server
def test_what_waits_for_a_reason_is_paused_at_once_and_stays_so_when_the_reason_goes_away(scene: Scene) -> None:
    scene.proxy.refuse()
    with scene.device.client() as client:
        key, _ = begin(scene, client, Direction.DOWNLOAD, MIB)
        assert wait_for(client, key, Status.SUSPENDED).reason is Reason.BACKOFF
        assert client.transfer(key).pause()
        assert client.transfer(key).state().status in (Status.PAUSING, Status.PAUSED)
        wait_for(client, key, Status.PAUSED)
        scene.proxy.refuse(False)
        time.sleep(2)  # longer than the first backoff
        assert client.transfer(key).state().status is Status.PAUSED
        assert client.transfer(key).resume()
        wait_for(client, key, Status.DONE)


@on_one_server
def test_commands_that_change_nothing_say_so(scene: Scene) -> None:
    hold(scene, Direction.DOWNLOAD, after=MIB)
    with scene.device.client() as client:
        key, _ = begin(scene, client, Direction.DOWNLOAD, SIZE)
        transfer = client.transfer(key)
        assert not transfer.resume()
        assert not transfer.retry()
        assert not transfer.set_priority(0)
        assert transfer.set_priority(3)
        assert not transfer.set_priority(3)
        scene.proxy.release()
        transfer.wait(timeout_s=60)
        assert not transfer.pause()
        assert not transfer.resume()
        assert not transfer.cancel()
        assert not transfer.retry()
        assert transfer.state().status is Status.DONE


# The whole queue


@one_connection
@on_one_server
def test_a_held_queue_keeps_each_transfers_own_state_and_new_entries_wait(scene: Scene) -> None:
    device = scene.device
    hold(scene, Direction.DOWNLOAD, after=IN_THE_MIDDLE)
    with device.client() as client:
        going, data = begin(scene, client, Direction.DOWNLOAD, SIZE)
        paused, _ = begin(scene, client, Direction.DOWNLOAD, MIB, seed=1)
        client.transfer(paused).pause()
        wait_for_bytes(client, going, LEAF + MIB)
        assert client.pause_all()
        assert not client.pause_all()
        wait_for(client, going, Status.QUEUED)
        scene.proxy.release()
        new, _ = begin(scene, client, Direction.DOWNLOAD, MIB, seed=2)
        assert_nothing_moves(scene, Direction.DOWNLOAD)
        eventually(lambda: device.get(device.machine_id).get("queue_paused") is True)
    device.kill()
    device.start()
    scene.proxy.reset_counts()
    with device.client() as client:
        assert client.state().queue_paused
        assert client.transfer(going).state().status is Status.QUEUED
        assert client.transfer(new).state().status is Status.QUEUED
        assert_nothing_moves(scene, Direction.DOWNLOAD)
        assert client.resume_all()
        assert not client.resume_all()
        wait_for(client, going, Status.DONE)
        wait_for(client, new, Status.DONE)
        assert client.transfer(paused).state().status is Status.PAUSED
    assert arrived(scene, going) == data
    assert scene.proxy.bytes_down < SIZE - LEAF + MIB + OVERHEAD


# Edits of the document


@one_connection
@on_one_server
def test_another_device_pauses_resumes_and_removes_by_editing_the_queue(scene: Scene) -> None:
    device = scene.device
    hold(scene, Direction.DOWNLOAD, after=2 * MIB)
    file_id = scene.remote_file(content(SIZE))
    key = download_of(file_id)

    def edit(**changes: Any) -> None:
        device.edit_machine(lambda raw: raw["queue"][0].update(changes))

    with device.client() as client:
        device.queue({"id": "from-the-phone", "file_id": file_id, "paused": True})
        wait_for(client, key, Status.PAUSED)
        edit(paused=False)
        wait_for(client, key, Status.ONGOING)
        wait_for_bytes(client, key, MIB)
        edit(paused=True)
        wait_for(client, key, Status.PAUSED)
        device.edit_machine(lambda raw: raw.update(queue_paused=True))
        eventually(lambda: client.state().queue_paused)
        edit(paused=False)
        wait_for(client, key, Status.QUEUED)
        device.edit_machine(lambda raw: raw.update(queue_paused=False))
        wait_for(client, key, Status.ONGOING)
        device.edit_machine(lambda raw: raw.update(queue=[]))
        wait_for(client, key, Status.CANCELLED)
        eventually(lambda: partials(scene) == [])
    assert not device.path_of(file_id).exists()
    assert device.queued() == []


@pytest.mark.settings(max_transfers=1, connections=1)
@on_one_server
def test_a_changed_priority_changes_the_order_of_what_waits(scene: Scene) -> None:
    device = scene.device
    hold(scene, Direction.DOWNLOAD, after=MIB)
    with device.client() as client, witness(scene) as heard:
        running, _ = begin(scene, client, Direction.DOWNLOAD, 2 * LEAF)
        keys = [begin(scene, client, Direction.DOWNLOAD, 1000, seed=seed)[0] for seed in (1, 2, 3)]
        assert client.transfer(keys[2]).set_priority(PRIORITY_HIGH)
        eventually(lambda: [entry["priority"] for entry in device.queued()] == [0, 0, 0, PRIORITY_HIGH])
        device.edit_machine(lambda raw: raw["queue"][2].update(priority=PRIORITY_HIGH + 1))
        eventually(lambda: client.transfer(keys[1]).state().priority == PRIORITY_HIGH + 1)
        assert client.transfer(running).state().status is Status.ONGOING
        scene.proxy.release()
        for key in keys:
            heard.wait(key, Status.DONE)
        paths = [client.transfer(key).path for key in (running, keys[1], keys[2], keys[0])]
        assert heard.order(Status.DONE) == paths


@pytest.mark.settings(max_transfers=1, connections=1)
@on_one_server
def test_now_takes_the_slot_of_another_which_goes_on_by_itself(scene: Scene) -> None:
    hold(scene, Direction.DOWNLOAD, after=IN_THE_MIDDLE)
    with scene.device.client() as client, witness(scene) as heard:
        victim, data = begin(scene, client, Direction.DOWNLOAD, SIZE)
        wait_for_bytes(client, victim, LEAF + MIB)
        urgent, _ = begin(scene, client, Direction.DOWNLOAD, LEAF, seed=1, priority=PRIORITY_NOW)
        assert wait_for(client, victim, Status.SUSPENDED).reason is Reason.PREEMPTED
        scene.proxy.release()
        for key in (urgent, victim):
            heard.wait(key, Status.DONE)
        assert heard.order(Status.DONE) == [client.transfer(key).path for key in (urgent, victim)]
        assert heard.of(victim).count(Status.ONGOING) == 2
    assert arrived(scene, victim) == data
    # The first leaf of the victim once, and what was cut of the second.
    assert scene.proxy.bytes_down < SIZE + LEAF + LEAF + OVERHEAD


# Cancel


@on_one_server
@pytest.mark.parametrize("paused", [False, True], ids=["ongoing", "paused"])
def test_a_cancelled_download_leaves_nothing_behind(scene: Scene, paused: bool) -> None:
    hold(scene, Direction.DOWNLOAD, after=2 * MIB)
    with scene.device.client() as client:
        key, _ = begin(scene, client, Direction.DOWNLOAD, SIZE)
        wait_for_bytes(client, key, MIB)
        transfer = client.transfer(key)
        if paused:
            transfer.pause()
            wait_for(client, key, Status.PAUSED)
        assert partials(scene)
        assert transfer.cancel()
        assert not transfer.cancel()
        assert transfer.state().status is Status.CANCELLED
        eventually(lambda: partials(scene) == [])
    eventually(lambda: scene.device.queued() == [])
    assert not scene.device.path_of(key.file_id).exists()


@one_connection
@pytest.mark.parametrize("paused", [False, True], ids=["ongoing", "paused"])
def test_a_cancelled_upload_is_aborted_at_the_server(scene: Scene, paused: bool) -> None:
    def unfinished(file_id: str) -> list[Any]:
        listed = scene.s3.client().list_multipart_uploads(Bucket=scene.s3.bucket).get("Uploads", [])
        return [upload for upload in listed if upload["Key"] == file_id]

    hold(scene, Direction.UPLOAD, after=IN_THE_MIDDLE)
    with scene.device.client() as client:
        key, _ = begin(scene, client, Direction.UPLOAD, SIZE)
        wait_for_bytes(client, key, LEAF + MIB)
        assert unfinished(key.file_id)
        transfer = client.transfer(key)
        if paused:
            pause_after(scene, client, key, LEAF + MIB)
        assert transfer.cancel()
        assert not transfer.cancel()
        scene.proxy.release()
        eventually(lambda: unfinished(key.file_id) == [])
        assert state_of(client, key) is None or client.transfer(key).state().status is Status.CANCELLED
    eventually(lambda: scene.device.queued() == [])
    listed = scene.s3.client().list_objects_v2(Bucket=scene.s3.bucket, Prefix=key.file_id)
    assert listed.get("Contents", []) == []


# Failures


@on_one_server
def test_a_failed_transfer_stays_visible_over_restarts_until_it_is_retried_or_removed(scene: Scene) -> None:
    device = scene.device
    data = content(1000)
    missing = download_of(device.add_file(data, scene.bucket))
    unwanted = download_of(device.add_file(content(1001), scene.bucket))
    with device.client() as client:
        for key in (missing, unwanted):
            client.queue_download(key.file_id, scene.bucket)
            error = wait_for(client, key, Status.FAILED).error
            assert key.file_id in error
    device.stop()
    device.start()
    device.kill()
    device.start()
    scene.put_object(missing.file_id, data)
    with device.client() as client:
        for key in (missing, unwanted):
            state = client.transfer(key).state()
            assert state.status is Status.FAILED
            assert key.file_id in state.error
        assert client.transfer(missing).retry()
        wait_for(client, missing, Status.DONE)
        assert not client.transfer(missing).retry()
        assert client.transfer(unwanted).cancel()
    eventually(lambda: device.queued() == [])
    device.stop()
    device.start()
    with device.client() as client:
        assert client.transfers() == []


# A stop of the daemon


@one_connection
@on_one_server
@both_ways
def test_a_stop_suspends_and_a_start_goes_on_by_itself_with_what_is_missing(scene: Scene, direction: Direction) -> None:
    hold(scene, direction, after=IN_THE_MIDDLE)
    with witness(scene) as heard:
        with scene.device.client() as client:
            key, data = begin(scene, client, direction, SIZE)
            wait_for_bytes(client, key, LEAF + MIB)
        assert scene.device.stop() == 0
        eventually(lambda: (Status.SUSPENDED, "shutdown") in [told[1:] for told in heard.told])
    scene.proxy.cut()  # else what the kernel still has of it would count
    scene.proxy.reset_counts()
    scene.proxy.release()
    scene.device.start()
    eventually(lambda: scene.device.queued() == [])
    assert arrived(scene, key) == data
    assert moved(scene, direction) < SIZE - LEAF + OVERHEAD


# The command line


@one_connection
@on_one_server
def test_the_command_line_steers_transfers_by_name_and_says_what_changed(scene: Scene) -> None:
    device = scene.device
    hold(scene, Direction.DOWNLOAD, after=MIB)

    def said(*arguments: str) -> Any:
        return json.loads(device.cli(*arguments, "--json").stdout)

    with device.client() as client:
        key, _ = begin(scene, client, Direction.DOWNLOAD, SIZE)
        name = key.file_id[:8]
        assert [one["changed"] for one in said("pause", name)] == [True]
        assert [one["changed"] for one in said("pause", name)] == [False]
        wait_for(client, key, Status.PAUSED)
        assert [one["changed"] for one in said("prioritize", "high", name)] == [True]
        assert client.transfer(key).state().priority == PRIORITY_HIGH
        assert said("pause", "--all")["changed"]
        assert client.state().queue_paused
        assert [one["changed"] for one in said("resume", name)] == [True]
        assert client.transfer(key).state().status is Status.QUEUED
        assert said("resume", "--all")["changed"]
        wait_for(client, key, Status.ONGOING)
        assert [one["changed"] for one in said("cancel", "--all")] == [True]
        assert client.transfer(key).state().status is Status.CANCELLED
        assert said("cancel", "--all") == []
