"""Downloads and uploads with a real FileStore, a real journal and real servers, behind a proxy that misbehaves.

In one process and with small leaves, so that there are many of them; `test_workers` has the processes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.download import Download, Source
from dmedia_transfer.errors import CorruptLeaf, Interrupted, ObjectDiffers, Transient
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import Direction, FileSpec, TransferKey
from dmedia_transfer.multipart import BufferBody
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload import Upload
from tests.engine import HOME_ID, Shown, in_background, no_pace
from tests.factories import STORE_ID, content, file_spec
from tests.proxy import FaultyProxy
from tests.s3 import S3Server
from tests.waiting import WAIT_S, eventually

LEAF = 256 * 1024
LEAVES = 40
CONNECTIONS = 4
FAULTS = 25
ATTEMPTS = 200


@pytest.fixture(autouse=True)
def leaves_of_256_kib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "LEAF_BYTES", LEAF)


@dataclass
class Rig:
    """One file between a FileStore and a server."""

    server: S3Server
    proxy: FaultyProxy
    home: FileStore
    journal: Journal
    backend: S3Backend
    data: bytes
    file: FileSpec
    errors: list[Exception] = field(default_factory=list)

    def download(self, crew: Crew, tally: Tally) -> Download:
        return Download(
            TransferKey(Direction.DOWNLOAD, self.file.file_id, ""),
            self.file,
            sources=[Source(STORE_ID, self.backend)],
            destination=self.home,
            records=self.journal.leaves,
            crew=crew,
            buffers=LeafBuffers(CONNECTIONS),
            tally=tally,
            pace=no_pace,
        )

    def upload(self, crew: Crew, tally: Tally) -> Upload:
        return Upload(
            TransferKey(Direction.UPLOAD, self.file.file_id, STORE_ID),
            self.file,
            local=self.home.open(self.file.file_id),
            backend=self.backend,
            records=self.journal.uploads,
            crew=crew,
            buffers=LeafBuffers(CONNECTIONS),
            tally=tally,
            pace=no_pace,
        )

    def until_done(self, make: Callable[[Crew, Tally], Download | Upload]) -> int:
        """Run again and again until it is done; how many bytes it moved."""
        moved = 0
        for _ in range(ATTEMPTS):
            tally = Tally(self.file.size, Shown(self.file.size))
            try:
                make(Crew(CONNECTIONS), tally).run()
            except (Transient, CorruptLeaf) as error:
                self.errors.append(error)
                moved += tally.sent_bytes
            else:
                return moved + tally.sent_bytes
        raise AssertionError(f"it does not come to an end: {self.errors[-1]!r}")

    def stored(self) -> bytes:
        client = self.server.client()
        data = client.get_object(Bucket=self.server.bucket, Key=self.file.file_id)["Body"].read()
        assert isinstance(data, bytes)
        return data

    def put_object(self, data: bytes) -> None:
        self.server.client().put_object(Bucket=self.server.bucket, Key=self.file.file_id, Body=data)

    def put_local(self) -> None:
        with self.home.partial(self.file.file_id, self.file.size) as partial:
            for index in range(leaves.leaf_count(self.file.size)):
                span = leaves.leaf_span(self.file.size, index)
                partial.write_leaf(index, memoryview(self.data)[span.start : span.end])
            partial.publish()


@pytest.fixture(params=["moto", "rclone"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    data = content(LEAF * (LEAVES - 1) + 1000, seed=random.randrange(1 << 30))
    FileStore.create(tmp_path / "home", HOME_ID)
    home = FileStore(HOME_ID, tmp_path / "home", floor_bytes=0)
    with FaultyProxy(server.address) as proxy, Journal(tmp_path / "journal.sqlite", owner=True) as journal:
        mark = request.node.get_closest_marker("settings")
        stall_s = mark.kwargs["stall_s"] if mark else WAIT_S
        backend = server.backend(url=proxy.url, stall_s=stall_s, connections=CONNECTIONS)
        yield Rig(server, proxy, home, journal, backend, data, file_spec(data))
        backend.close()


class Trouble:
    """Disturbs the proxy until the block ends, or the faults are used up."""

    def __init__(self, proxy: FaultyProxy, kinds: list[str]) -> None:
        self._proxy = proxy
        self._kinds = kinds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.faults = 0

    def _run(self) -> None:
        chance = random.Random(7)
        while self.faults < FAULTS and not self._end.wait(chance.uniform(0.01, 0.15)):
            self.faults += 1
            match chance.choice(self._kinds):
                case "cut":
                    self._proxy.cut()
                case "cut later":
                    self._proxy.cut_after(chance.randrange(200_000))
                case "stall":
                    self._proxy.stall()
                    self._end.wait(0.7)
                    self._proxy.stall(False)
                case "refuse":
                    self._proxy.refuse()
                    self._end.wait(0.05)
                    self._proxy.refuse(False)
                case "garble":
                    self._proxy.garble(5, after=chance.randrange(100_000))

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.settings(stall_s=0.5)
def test_a_download_ends_with_the_bytes_through_every_trouble(rig: Rig) -> None:
    rig.put_object(rig.data)
    rig.proxy.limit(8_000_000)
    with Trouble(rig.proxy, ["cut", "cut later", "stall", "refuse", "garble"]) as trouble:
        moved = rig.until_done(rig.download)
    assert rig.home.path(rig.file.file_id).read_bytes() == rig.data
    assert rig.errors, "there was trouble"
    assert moved <= rig.file.size * 1.15 + trouble.faults * CONNECTIONS * LEAF


@pytest.mark.settings(stall_s=0.5)
def test_an_upload_ends_with_the_bytes_through_every_trouble(rig: Rig) -> None:
    rig.put_local()
    rig.proxy.limit(8_000_000)
    with Trouble(rig.proxy, ["cut", "cut later", "stall", "refuse"]) as trouble:
        moved = rig.until_done(rig.upload)
    assert rig.stored() == rig.data
    assert rig.errors, "there was trouble"
    assert moved <= rig.file.size * 1.15 + trouble.faults * CONNECTIONS * LEAF
    client = rig.server.client()
    assert not [
        upload
        for upload in client.list_multipart_uploads(Bucket=rig.server.bucket).get("Uploads", [])
        if upload["Key"] == rig.file.file_id and upload["UploadId"] in _known_ids(rig)
    ]


def _known_ids(rig: Rig) -> set[str]:
    return {record.upload_id for record in [*rig.journal.uploads.under_way(), *rig.journal.uploads.to_abort()]}


def test_a_pause_of_a_download_and_a_resume_fetch_no_leaf_twice(rig: Rig) -> None:
    rig.put_object(rig.data)
    rig.proxy.limit(4_000_000)
    crew, tally = Crew(CONNECTIONS), Tally(rig.file.size)
    outcome = in_background(rig.download(crew, tally).run)
    next(outcome)
    eventually(lambda: tally.pieces_done >= 5)
    crew.pause(0)
    assert isinstance(next(outcome), Interrupted)
    rig.proxy.limit(None)
    kept = tally.pieces_done
    again = Tally(rig.file.size)
    rig.download(Crew(CONNECTIONS), again).run()
    assert again.sent_bytes <= rig.file.size - kept * LEAF
    assert rig.home.path(rig.file.file_id).read_bytes() == rig.data


def test_a_pause_of_an_upload_and_a_resume_send_no_part_twice(rig: Rig) -> None:
    rig.put_local()
    rig.proxy.limit(4_000_000)
    crew, tally = Crew(CONNECTIONS), Tally(rig.file.size)
    outcome = in_background(rig.upload(crew, tally).run)
    next(outcome)
    eventually(lambda: tally.pieces_done >= 5)
    crew.pause(5)
    assert isinstance(next(outcome), Interrupted)
    assert tally.sent_bytes == tally.pieces_done * LEAF, "no part was cut"
    rig.proxy.limit(None)
    again = Tally(rig.file.size)
    rig.upload(Crew(CONNECTIONS), again).run()
    assert again.sent_bytes == rig.file.size - tally.sent_bytes
    assert rig.stored() == rig.data


def test_what_is_there_already_is_not_sent_and_what_differs_is_left_alone(rig: Rig) -> None:
    rig.put_local()
    rig.backend.put(rig.file, BufferBody(rig.data), lambda count: None)
    tally = Tally(rig.file.size)
    rig.upload(Crew(CONNECTIONS), tally).run()
    assert tally.bytes_done == rig.file.size
    other = bytearray(rig.data)
    other[LEAF * 7] ^= 1
    rig.put_object(bytes(other))
    with pytest.raises(ObjectDiffers, match="leaf 7"):
        rig.upload(Crew(CONNECTIONS), Tally(rig.file.size)).run()
    assert rig.stored() == bytes(other)
