"""Limits and stalls, as a user sees them: bandwidth, timetable, transfers and connections at once, dead lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dmedia_transfer.client import Client
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.device import Device
from tests.e2e.acting import LEAF, MIB, arrived, begin, hold, moved, on_one_server, wait_for, wait_for_bytes
from tests.e2e.conftest import Scene
from tests.proxy import FaultyProxy
from tests.s3 import S3Server, running_rclone
from tests.waiting import WAIT_S, eventually

MB = 1_000_000
SIZE = 4 * LEAF  # at the limits below it takes half a minute
both_ways = pytest.mark.parametrize("direction", list(Direction))


def bps(scene: Scene, direction: Direction) -> float:
    """Bytes per second on the wire, measured for a moment."""
    begun, before = time.monotonic(), moved(scene, direction)
    time.sleep(1.5)
    return (moved(scene, direction) - before) / (time.monotonic() - begun)


def settles_at(scene: Scene, direction: Direction, rate_bps: float) -> None:
    """Wait until so many bytes per second move, more or less.

    For a while there are more, because the kernel has taken some ahead; and a machine that runs other tests as well
    may stand still, and then make up for it. Where a limit does not hold, it is several times as many all the time.
    """
    eventually(lambda: rate_bps * 0.4 < bps(scene, direction) < rate_bps * 1.25)


def statuses(client: Client, *keys: TransferKey) -> list[Status]:
    now = {state.key: state.status for state in client.transfers()}
    return [now[key] for key in keys]


# Bandwidth


@on_one_server
@pytest.mark.settings(download_limit="1MB/s", upload_limit="500kB/s")
def test_the_limits_of_both_directions_hold_for_all_workers_together(scene: Scene) -> None:
    with scene.device.client() as client:
        client.pause_all()  # until all are there
        keys = [begin(scene, client, Direction.DOWNLOAD, 4 * LEAF, seed=seed)[0] for seed in range(2)]
        keys += [begin(scene, client, Direction.UPLOAD, 3 * LEAF, seed=seed)[0] for seed in range(10, 12)]
        client.resume_all()
        for key in keys:
            wait_for_bytes(client, key, MIB // 8)
        settles_at(scene, Direction.DOWNLOAD, MB)
        settles_at(scene, Direction.UPLOAD, MB / 2)
        assert statuses(client, *keys) == [Status.ONGOING] * 4


@on_one_server
@both_ways
def test_a_limit_is_set_changed_and_removed_while_a_transfer_runs(scene: Scene, direction: Direction) -> None:
    hold(scene, direction, after=3 * MIB)

    def limit(client: Client, rate_bps: int) -> None:
        client.set_limits(**{f"{direction}_bps": rate_bps})

    with scene.device.client() as client:
        key, data = begin(scene, client, direction, SIZE)
        wait_for_bytes(client, key, 2 * MIB)
        limit(client, MB)
        scene.proxy.release()
        assert (client.state().download_limit_bps, client.state().upload_limit_bps) == (
            (MB, None) if direction is Direction.DOWNLOAD else (None, MB)
        )
        settles_at(scene, direction, MB)
        limit(client, MB // 4)
        settles_at(scene, direction, MB / 4)
        limit(client, 0)
        assert client.transfer(key).wait(timeout_s=WAIT_S).status is Status.DONE
        assert client.state().download_limit_bps is None
        assert client.state().upload_limit_bps is None
    assert arrived(scene, key) == data


# Timetable


def follow(device: Device, *lines: str) -> None:
    """Restart the daemon with a timetable: the first line holds since a minute ago, the next one from in five hours."""
    now = datetime.now()  # noqa: DTZ005 - a timetable is in local time
    times = (now - timedelta(minutes=1), now + timedelta(hours=5))
    table = ", ".join(f"{at:%H:%M} {line}" for at, line in zip(times, lines, strict=False))
    device.stop()
    device.start(DMEDIA_TIMETABLE=table)


@on_one_server
def test_a_timetable_stops_transfers_with_its_reason_and_they_go_on_when_it_lets_them(scene: Scene) -> None:
    device = scene.device
    follow(device, "stop", "off")
    with device.client() as client:
        down, down_data = begin(scene, client, Direction.DOWNLOAD, MIB)
        up, up_data = begin(scene, client, Direction.UPLOAD, MIB, seed=50)
        for key in (down, up):
            assert wait_for(client, key, Status.SUSPENDED).reason is Reason.SCHEDULE
            assert client.transfer(key).pause()
            assert client.transfer(key).resume()
            assert wait_for(client, key, Status.SUSPENDED).reason is Reason.SCHEDULE
        assert scene.proxy.connections == 0
    follow(device, "off", "stop")
    eventually(lambda: device.queued() == [])
    assert arrived(scene, down) == down_data
    assert arrived(scene, up) == up_data


@on_one_server
def test_a_timetable_limits_the_rate_and_a_lower_limit_of_ones_own_holds_as_well(scene: Scene) -> None:
    follow(scene.device, "1MB/s", "off")
    with scene.device.client() as client:
        begin(scene, client, Direction.DOWNLOAD, SIZE)
        settles_at(scene, Direction.DOWNLOAD, MB)
        client.set_limits(download_bps=MB // 4)
        settles_at(scene, Direction.DOWNLOAD, MB / 4)


# Transfers and connections at once


@on_one_server
@pytest.mark.settings(connections=1)
def test_how_many_transfers_run_at_once_can_be_changed_at_any_time(scene: Scene) -> None:
    hold(scene, Direction.DOWNLOAD, after=MIB)
    with scene.device.client() as client:
        size = LEAF + MIB  # small files share a place
        keys = [begin(scene, client, Direction.DOWNLOAD, size, seed=seed)[0] for seed in range(4)]
        for key in keys:
            wait_for(client, key, Status.ONGOING)
        client.set_limits(max_transfers=1)
        eventually(lambda: sorted(statuses(client, *keys)) == [Status.ONGOING, *[Status.SUSPENDED] * 3])
        assert client.state().max_transfers == 1
        reasons = {client.transfer(key).state().reason for key in keys}
        assert reasons == {None, Reason.PREEMPTED}
        client.set_limits(max_transfers=3)
        eventually(lambda: statuses(client, *keys).count(Status.ONGOING) == 3)
        time.sleep(0.3)
        assert statuses(client, *keys).count(Status.ONGOING) == 3
        scene.proxy.release()
        for key in keys:
            wait_for(client, key, Status.DONE)


@on_one_server
@both_ways
@pytest.mark.settings(connections=1)
def test_how_many_connections_a_transfer_has_can_be_changed_while_it_runs(scene: Scene, direction: Direction) -> None:
    hold(scene, direction, after=2 * MIB)
    with scene.device.client() as client:
        key, data = begin(scene, client, direction, 4 * LEAF)
        wait_for_bytes(client, key, MIB)
        assert scene.proxy.open_connections == 1
        client.set_limits(connections=4)
        eventually(lambda: scene.proxy.open_connections == 4)
        scene.proxy.release()
        assert client.transfer(key).wait(timeout_s=WAIT_S).status is Status.DONE
    assert arrived(scene, key) == data


# Stalls


@both_ways
@pytest.mark.settings(stall_s=1.5, connections=2)
def test_a_line_on_which_nothing_moves_is_cut_and_tried_again(scene: Scene, direction: Direction) -> None:
    hold(scene, direction, after=LEAF + 2 * MIB)
    with scene.device.client() as client:
        key, data = begin(scene, client, direction, 3 * LEAF)
        wait_for_bytes(client, key, LEAF + MIB)
        scene.proxy.stall()
        state = wait_for(client, key, Status.SUSPENDED)
        assert state.reason is Reason.BACKOFF
        assert "no byte" in state.error
        eventually(lambda: scene.proxy.open_connections == 0 or client.transfer(key).state().status is Status.ONGOING)
        scene.proxy.release()
        scene.proxy.stall(False)
        assert client.transfer(key).wait(timeout_s=WAIT_S).status is Status.DONE
    assert arrived(scene, key) == data


@on_one_server
@pytest.mark.settings(stall_s=1.5, connections=1)
def test_a_listing_that_is_not_answered_is_cut_and_tried_again(scene: Scene) -> None:
    hold(scene, Direction.UPLOAD, after=LEAF + 2 * MIB)
    with scene.device.client() as client:
        key, data = begin(scene, client, Direction.UPLOAD, 3 * LEAF)
        wait_for_bytes(client, key, LEAF + MIB)
        transfer = client.transfer(key)
        transfer.pause()
        scene.proxy.release()
        wait_for(client, key, Status.PAUSED)
        scene.proxy.stall()
        transfer.resume()
        state = wait_for(client, key, Status.SUSPENDED)
        assert state.reason is Reason.BACKOFF
        assert "no byte" in state.error
        scene.proxy.reset_counts()
        scene.proxy.stall(False)
        assert transfer.wait(timeout_s=WAIT_S).status is Status.DONE
    assert arrived(scene, key) == data
    assert scene.proxy.bytes_up < 2 * LEAF + MIB


# Credentials


@pytest.fixture
def own_rclone(tmp_path: Path) -> Iterator[S3Server]:
    """A server whose access key changes in the middle."""
    with running_rclone(tmp_path) as server:
        yield server


def test_an_access_key_that_is_replaced_while_a_transfer_runs_is_loaded_again(
    bare_device: Device, own_rclone: S3Server, tmp_path: Path
) -> None:
    secrets = tmp_path / "credentials"

    def login(server: S3Server) -> None:
        lines = ["[default]", f"aws_access_key_id={server.access_key}", f"aws_secret_access_key={server.secret_key}"]
        secrets.write_text("\n".join(lines))

    login(own_rclone)
    bare_device.extra_env["AWS_SHARED_CREDENTIALS_FILE"] = str(secrets)
    with FaultyProxy(own_rclone.address) as proxy:
        scene = Scene(bare_device, own_rclone, proxy, "", bare_device.add_s3(own_rclone, url=proxy.url))
        scene.home = bare_device.add_filestore()
        bare_device.start()
        proxy.hold(up=False, after=LEAF + 2 * MIB)
        with bare_device.client() as client, running_rclone(tmp_path / "new", access_key="rotated") as rotated:
            key, data = begin(scene, client, Direction.DOWNLOAD, 3 * LEAF)
            rotated.client().put_object(Bucket=rotated.bucket, Key=key.file_id, Body=data)
            wait_for_bytes(client, key, LEAF + MIB)
            login(rotated)
            proxy.upstream = rotated.address
            proxy.cut()
            proxy.release()
            assert client.transfer(key).wait(timeout_s=WAIT_S).status is Status.DONE
    assert arrived(scene, key) == data
    log = bare_device.log()
    assert "access key was replaced" in log
    assert rotated.secret_key not in log
