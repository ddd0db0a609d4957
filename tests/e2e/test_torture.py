"""A big file in each direction over a line that cuts, stalls, slows and garbles, while daemon and workers are killed.

Faults come at random (seeded) while leaves advance: each kind once, or with a server that is slow itself, half of them.
`HYPOTHESIS_PROFILE=soak` asks for a file of 256 MiB and for many more.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from enum import StrEnum
from typing import Final

import pytest
from botocore.exceptions import ClientError

from dmedia_transfer import leaves
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.e2e.acting import LEAF, MIB, moved
from tests.e2e.conftest import Scene
from tests.e2e.looking import ask, assert_finished, prepared, recorded, status_of, unfinished
from tests.waiting import eventually

SOAK: Final = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
CONNECTIONS: Final = 4
STALL_S: Final = 3.0 if SOAK else 1.5
LAST_LEAVES: Final = 6  # no new fault is due while these move, so that none comes too late to be felt
FAULT_S: Final = 1.0  # seconds that what is left to be moved lasts for each fault that is left, once it runs ahead
LEGS: Final = {  # the server, and what it can take: size of the file, bytes per second, faults
    "rclone_s3": (256 * MIB, 24 * MIB, 50) if SOAK else (96 * MIB, 24 * MIB, 8),
    "moto_s3": (50 * MIB, 10 * MIB, 20 if SOAK else 4),  # it reads an object from its start for each range
}


class Fault(StrEnum):
    """What is done to the transfer."""

    KILL_DAEMON = "kill the daemon"
    KILL_WORKER = "kill the worker"
    CUT = "cut all connections"
    CUT_ANSWER = "cut the connection in the middle of an answer"
    STALL = "let no byte pass"
    SLOW = "let few bytes pass"
    GARBLE_HEAD = "change the beginning of an answer"
    GARBLE_BODY = "change an answer somewhere"


class Tormentor:
    """Injects faults into one transfer, and counts those that may cost bytes."""

    def __init__(self, scene: Scene, key: TransferKey, rate_bps: float, chance: random.Random) -> None:
        self.scene, self.key, self.chance = scene, key, chance
        self.full_rate_bps: float = rate_bps
        self.rate_bps: float = rate_bps
        self.ahead = False  # more leaves have arrived than should have by now
        self.costly = 0
        scene.proxy.limit(rate_bps)

    def inject(self, fault: Fault) -> None:
        """One fault; returns when it has been felt and is over."""
        device, proxy = self.scene.device, self.scene.proxy
        self.costly += fault is not Fault.SLOW
        match fault:
            case Fault.KILL_DAEMON:
                device.kill()
                device.start()
            case Fault.KILL_WORKER:
                workers = eventually(device.workers)
                os.kill(self.chance.choice(workers), signal.SIGKILL)
            case Fault.CUT:
                eventually(lambda: proxy.cut() or self.is_over())
            case Fault.CUT_ANSWER:
                proxy.cut_after(self.chance.randrange(1, self._answer_bytes()))
            case Fault.STALL:
                proxy.stall()
                time.sleep(STALL_S + 0.5)
                proxy.stall(False)
            case Fault.SLOW:
                proxy.limit(self.rate_bps / 10)
                time.sleep(1)
                proxy.limit(self.rate_bps)
            case Fault.GARBLE_HEAD:
                self._garble(self.chance.randrange(1, 60), self.chance.randrange(400))
            case Fault.GARBLE_BODY:
                self._garble(self.chance.randrange(1, 3000), self.chance.randrange(self._answer_bytes()))

    def wait_for(self, leaf_count: int) -> None:
        """Wait until so many leaves have arrived."""
        eventually(lambda: self.there() >= leaf_count or self.is_over(), within_s=120, every_s=0.1)

    def there(self) -> int:
        """How many leaves have arrived. Of an upload the server knows more than the journal: answers get lost."""
        device, key, s3 = self.scene.device, self.key, self.scene.s3
        count = len(recorded(device, key))
        if key.direction is Direction.UPLOAD:
            name = {"Bucket": s3.bucket, "Key": self.scene.key(key.file_id)}
            for upload_id in unfinished(self.scene, key):
                with contextlib.suppress(ClientError):  # it has just ended, or has no part yet
                    count = max(count, len(s3.client().list_parts(**name, UploadId=upload_id).get("Parts", [])))
        return count

    def pace(self, size: int, faults_left: int, due: int) -> None:
        """Slow down a transfer that runs ahead of the faults; a leaf that never gets through would end nothing."""
        there, rate_bps = self.there(), self.full_rate_bps
        self.ahead = there > due + CONNECTIONS
        if self.ahead:
            rate_bps = min(rate_bps, max(LEAF, size - there * LEAF) / (faults_left * FAULT_S))
        self.rate_bps = rate_bps
        self.scene.proxy.limit(rate_bps)

    def is_over(self) -> bool:
        """Whether there is nothing left to torment."""
        state = status_of(self.scene.device, self.key)
        assert state is None or state.status is not Status.FAILED, f"{state.error}\n{self.scene.device.log()[-6000:]}"
        return state is not None and state.status.ended

    def _garble(self, count: int, after: int) -> None:
        self.scene.proxy.garble(count, after=after)
        if self.ahead:  # the next answer would end another leaf: rather have the client begin anew, and ask
            self.scene.proxy.cut()
        eventually(lambda: self.scene.proxy.garble_pending == 0 or self.is_over(), every_s=0.05)

    def _answer_bytes(self) -> int:
        return LEAF if self.key.direction is Direction.DOWNLOAD else 1000


@pytest.mark.timeout(1800 if SOAK else 400)
@pytest.mark.settings(stall_s=STALL_S, connections=CONNECTIONS, log_level="INFO")
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(("s3", "size", "rate_bps", "count"), [(s3, *leg) for s3, leg in LEGS.items()], indirect=["s3"])
def test_a_tortured_transfer_ends_with_equal_bytes_and_wastes_few(
    stage: Scene, direction: Direction, size: int, rate_bps: int, count: int
) -> None:
    chance = random.Random(f"{direction} {stage.s3.name} {count}")
    faults = (list(Fault) * -(-count // len(Fault)))[:count]
    chance.shuffle(faults)
    key, data = prepared(stage, direction, size)
    try:
        ask(stage, key)
        stage.proxy.reset_counts()
        tormentor = Tormentor(stage, key, rate_bps, chance)
        stage.device.start()
        due_leaves = max(1, leaves.leaf_count(size) - LAST_LEAVES)
        for number, fault in enumerate(faults):
            due = number * due_leaves // count
            # Where nobody can say when an upload was begun, one of which the answer got lost stays.
            tormentor.wait_for(due if stage.s3.abilities.dates_uploads else max(due, 1))
            assert not tormentor.is_over(), f"it ended after {number} faults"
            tormentor.pace(size, count - number, due)
            time.sleep(chance.uniform(0.0, 0.5))
            tormentor.inject(fault)
        stage.proxy.limit(None)
        assert_finished(stage, key, data, within_s=200)
        spent = moved(stage, direction)
        print(f"{key}: {count} faults, {spent} bytes moved for {size}: {spent / size:.2f}")
        assert spent <= 1.15 * size + tormentor.costly * CONNECTIONS * LEAF
    finally:
        stage.device.close()
        shutil.rmtree(stage.device.store_dir)
        stage.s3.client().delete_object(Bucket=stage.s3.bucket, Key=stage.key(key.file_id))
