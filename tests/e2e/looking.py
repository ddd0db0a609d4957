"""Looking at a transfer from all sides: on the bus, in the journal, in the FileStore and in the bucket."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, Final

import requests
from botocore.exceptions import ClientError

from dmedia_transfer import documents
from dmedia_transfer.client import TransferState
from dmedia_transfer.errors import TransferError
from dmedia_transfer.journal.leafrecords import unpack_bits
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.device import Device
from tests.e2e.acting import arrived, state_of
from tests.e2e.conftest import Scene
from tests.factories import content
from tests.waiting import WAIT_S, eventually

_seeds: Final = itertools.count(1000)  # servers outlive a test, and what one has uploaded is there for the next


def prepared(scene: Scene, direction: Direction, size: int) -> tuple[TransferKey, bytes]:
    """A new file of this size where a transfer in this direction begins; nothing is asked for yet."""
    data = content(size, seed=next(_seeds))
    if direction is Direction.DOWNLOAD:
        return TransferKey(direction, scene.remote_file(data), ""), data
    return TransferKey(direction, scene.local_file(data), scene.bucket), data


def ask(scene: Scene, key: TransferKey) -> None:
    """Put it into the queue, as another device would: also while the daemon is off, or before its first start."""
    device = scene.device
    with contextlib.suppress(requests.HTTPError):  # it is there already
        device.put(documents.new_machine(device.machine_id, device.folder.name, time=time.time()))
    entry = {"id": f"entry-{len(device.queued())}", "action": str(key.direction), "file_id": key.file_id}
    device.queue(entry | ({"store_id": key.store_id} if key.store_id else {}))


def copies(scene: Scene, key: TransferKey) -> int:
    """How many copies the file's document says are at the destination."""
    store_id = scene.home if key.direction is Direction.DOWNLOAD else scene.bucket
    return int(scene.device.get(key.file_id)["stored"].get(store_id, {}).get("copies", 0))


def status_of(device: Device, key: TransferKey) -> TransferState | None:
    """The transfer on the bus; None while the daemon does not have it, or is not there."""
    with contextlib.suppress(TransferError), device.client() as client:
        return state_of(client, key)
    return None


def wait_until(device: Device, key: TransferKey, *statuses: Status, within_s: float = WAIT_S) -> TransferState:
    """Wait until the transfer has one of these statuses."""

    def found() -> TransferState | None:
        state = status_of(device, key)
        return state if state is not None and state.status in statuses else None

    state: TransferState = eventually(found, within_s=within_s, every_s=0.05)
    return state


# The journal, read while daemon and workers write.


@contextlib.contextmanager
def journal(device: Device) -> Iterator[sqlite3.Connection]:
    """The journal, for reading."""
    path = device.state_dir / "journal.sqlite"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=WAIT_S)
    try:
        yield connection
    finally:
        connection.close()


def rows(device: Device, statement: str, *parameters: object) -> list[Any]:
    """What a SELECT gives; nothing while there is no journal."""
    try:
        with journal(device) as connection:
            return connection.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError:  # not there yet, or its first tables are not
        return []


def recorded(device: Device, key: TransferKey) -> set[int]:
    """The leaves, or the parts, that are on record, counted from 0."""
    if key.direction is Direction.DOWNLOAD:
        found = rows(device, "SELECT leaves FROM downloads WHERE file_id = ?", key.file_id)
        return unpack_bits(found[0][0]) if found else set()
    numbers = rows(
        device,
        "SELECT number FROM parts JOIN uploads ON upload = uploads.id WHERE file_id = ? AND store_id = ? AND wanted",
        key.file_id,
        key.store_id,
    )
    return {number - 1 for (number,) in numbers}


# What is left over.


def unfinished(scene: Scene, key: TransferKey) -> list[str]:
    """The IDs of uploads to the file's name that are neither complete nor aborted.

    One that was begun, and whose answer never came back, is found again by the day it was begun. Where the server does
    not say that, it stays, and only uploads with parts count.
    """
    client, place = scene.s3.client(), {"Bucket": scene.s3.bucket}
    try:
        answer = client.list_multipart_uploads(**place, Prefix=scene.key(key.file_id))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchUpload":  # what rclone says where there is none
            raise
        return []
    return [
        upload["UploadId"]
        for upload in answer.get("Uploads", [])
        if scene.s3.abilities.dates_uploads
        or client.list_parts(**place, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts")
    ]


def left_over(scene: Scene, key: TransferKey) -> dict[str, Any]:
    """All that a transfer which has ended should not have left, by where it is; empty when there is nothing."""
    device = scene.device
    found = {
        "queue": device.queued(),
        "partial": [path.name for path in (device.store_dir / "partial").rglob("*/*")],
        "downloads": rows(device, "SELECT * FROM downloads WHERE file_id = ?", key.file_id),
        "uploads": rows(device, "SELECT * FROM uploads WHERE file_id = ?", key.file_id),
        "outbox": rows(device, "SELECT * FROM outbox"),
        "server": unfinished(scene, key),
    }
    return {place: things for place, things in found.items() if things}


def assert_finished(scene: Scene, key: TransferKey, data: bytes, *, within_s: float = WAIT_S) -> None:
    """Wait for the end; the bytes are equal, the document says so, and nothing is left over."""
    eventually(lambda: copies(scene, key) == 1 or _failed(scene, key), within_s=within_s, every_s=0.05)
    assert arrived(scene, key) == data
    try:
        eventually(lambda: not left_over(scene, key), within_s=within_s, every_s=0.05)
    except AssertionError:
        raise AssertionError(f"left over: {left_over(scene, key)}\n{scene.device.log()[-4000:]}") from None


def _failed(scene: Scene, key: TransferKey) -> bool:
    state = status_of(scene.device, key)
    assert state is None or state.status is not Status.FAILED, f"{key}: {state.error}\n{scene.device.log()[-4000:]}"
    return False
