"""What end-to-end tests do again and again: name transfers, wait for them, and see every status that D-Bus tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from dmedia_transfer.busnames import TRANSFER, path_of
from dmedia_transfer.client import Client, TransferState
from dmedia_transfer.client.connection import Connection, Inbox
from dmedia_transfer.errors import ConnectionLost
from dmedia_transfer.leaves import LEAF_BYTES
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.e2e.conftest import Scene
from tests.factories import content
from tests.waiting import WAIT_S, eventually

MIB = 1024 * 1024
LEAF = LEAF_BYTES

on_one_server = pytest.mark.parametrize("s3", ["rclone_s3"], indirect=True)
"""For what has nothing to do with the server."""


def download_of(file_id: str) -> TransferKey:
    """The download of a file."""
    return TransferKey(Direction.DOWNLOAD, file_id, "")


def wait_for(client: Client, key: TransferKey, *statuses: Status, within_s: float = WAIT_S) -> TransferState:
    """Wait until a transfer has one of these statuses."""

    def found() -> TransferState | None:
        state = state_of(client, key)
        return state if state is not None and state.status in statuses else None

    state: TransferState = eventually(found, within_s=within_s, every_s=0.01)
    return state


def state_of(client: Client, key: TransferKey) -> TransferState | None:
    """What a transfer is now; None if it is gone."""
    return next((one for one in client.transfers() if one.key == key), None)


def wait_for_bytes(client: Client, key: TransferKey, count: int) -> None:
    """Wait until a transfer that is under way has done so many bytes."""
    transfer = client.transfer(key)

    def there() -> bool:
        state = transfer.state()
        assert not state.status.ended, f"{key} was too fast for this test: {state}"
        return state.progress.bytes_done >= count

    eventually(there, every_s=0.01)


def hold(scene: Scene, direction: Direction, *, after: int) -> None:
    """Stop what moves in this direction when so many bytes have passed, until `scene.proxy.release()`.

    What a test does in the middle of a transfer happens there, then, on a machine of any speed.
    """
    scene.proxy.hold(up=direction is Direction.UPLOAD, after=after)


def begin(
    scene: Scene, client: Client, direction: Direction, size: int, *, seed: int = 0, priority: int = 0
) -> tuple[TransferKey, bytes]:
    """Have a file that is on the other side, and ask for its transfer."""
    data = content(size, seed=seed)
    if direction is Direction.DOWNLOAD:
        file_id = scene.remote_file(data)
        return client.queue_download(file_id, priority=priority).key, data
    file_id = scene.local_file(data)
    return client.queue_upload(file_id, scene.bucket, priority=priority).key, data


def arrived(scene: Scene, key: TransferKey) -> bytes:
    """What is on the other side now."""
    if key.direction is Direction.DOWNLOAD:
        return scene.device.path_of(key.file_id).read_bytes()
    return scene.get_object(key.file_id)


def moved(scene: Scene, direction: Direction) -> int:
    """Bytes that went over the wire in this direction, since the counts were reset."""
    return scene.proxy.bytes_down if direction is Direction.DOWNLOAD else scene.proxy.bytes_up


class Told(NamedTuple):
    """A change of status that D-Bus told of."""

    path: str
    status: Status
    reason: str


class Witness:
    """Hears every change of status, in order, however short a status lasts."""

    def __init__(self, address: str) -> None:
        self.told: list[Told] = []
        self._address = address
        self._listening = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="witness", daemon=True)

    def of(self, key: TransferKey) -> list[Status]:
        """The statuses of a transfer, as they came."""
        path = path_of(key)
        return [told.status for told in list(self.told) if told.path == path]

    def order(self, status: Status) -> list[str]:
        """The paths of all transfers in the order in which they got this status."""
        return [told.path for told in list(self.told) if told.status is status]

    def wait(self, key: TransferKey, status: Status) -> None:
        """Wait until it was told that a transfer has this status."""
        eventually(lambda: status in self.of(key))

    def start(self) -> None:
        """Hear all that is said from now on."""
        self._thread.start()
        assert self._listening.wait(WAIT_S)

    def stop(self) -> None:
        """Hear no more."""
        self._over.set()
        self._thread.join(WAIT_S)

    def _listen(self) -> None:
        connection = Connection(self._address, timeout_s=WAIT_S)
        try:
            with connection.listening(None) as inbox:
                self._listening.set()
                while not self._over.is_set():
                    self._hear(inbox)
        finally:
            connection.close()

    def _hear(self, inbox: Inbox) -> None:
        try:
            signals = inbox.next(time.monotonic() + 0.1, or_raise=False)
        except ConnectionLost:  # the daemon went away, and another one may come
            inbox.clear()
            return
        for signal in signals:
            if signal.member == "PropertiesChanged" and signal.arguments[0] == TRANSFER:
                changed = signal.arguments[1]
                if "Status" in changed:
                    self.told.append(Told(signal.path, Status(changed["Status"]), str(changed.get("Reason", ""))))


@contextmanager
def witness(scene: Scene) -> Iterator[Witness]:
    """Somebody who hears every change of status."""
    one = Witness(scene.device.bus.address)
    one.start()
    try:
        yield one
    finally:
        one.stop()
