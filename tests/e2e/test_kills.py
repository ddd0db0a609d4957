"""The worker or the daemon is killed in the middle: nothing that is on record is moved again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dmedia_transfer.model import Direction
from tests.e2e.acting import LEAF, MIB, hold, moved
from tests.e2e.conftest import Scene
from tests.e2e.looking import ask, assert_finished, prepared, recorded
from tests.waiting import eventually

LEAVES = 6  # more than may pass before the transfer is held
SIZE = (LEAVES - 1) * LEAF + 12345
OTHER_TRAFFIC = MIB  # requests, headers, and answers without payload


def has_ended(pid: int) -> bool:
    """Whether a process does nothing any more, be it that nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.settings(connections=2)
@pytest.mark.parametrize("victim", ["worker", "daemon"])
@pytest.mark.parametrize("direction", list(Direction))
def test_after_a_kill_only_what_is_not_on_record_is_moved(scene: Scene, direction: Direction, victim: str) -> None:
    device, proxy = scene.device, scene.proxy
    key, data = prepared(scene, direction, SIZE)
    hold(scene, direction, after=4 * LEAF + MIB)  # two are there, then, and each connection may be within another
    ask(scene, key)
    eventually(lambda: len(recorded(device, key)) >= 2)
    workers = device.workers()
    proxy.refuse()  # so that nothing moves between the kill and the look at what is on record
    if victim == "daemon":
        device.kill()
    for pid in workers if victim == "worker" else ():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(map(has_ended, workers)))
    on_record = recorded(device, key)
    assert 2 <= len(on_record) < LEAVES
    proxy.cut()
    proxy.reset_counts()
    proxy.release()
    proxy.refuse(False)
    if victim == "daemon":
        device.start()
    assert_finished(scene, key, data)
    left = SIZE - sum(min(LEAF, SIZE - index * LEAF) for index in on_record)
    assert moved(scene, direction) <= left + OTHER_TRAFFIC
