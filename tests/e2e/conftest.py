"""A device with a database, a bucket and a FileStore, and its daemon running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bus import PrivateBus
from tests.couch import CouchServer
from tests.device import Device
from tests.proxy import FaultyProxy
from tests.s3 import EXTERNAL_URL, S3Server

SERVERS = ["rclone_s3", "moto_s3", *(["external_s3"] if EXTERNAL_URL else [])]


@pytest.fixture(params=SERVERS)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """Each S3-compatible server in turn, with a bucket that nobody else uses."""
    server: S3Server = request.getfixturevalue(request.param)
    with server.own_bucket() as own:
        yield own


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    """Something unreliable between the device and the bucket."""
    with FaultyProxy(s3.address) as proxy:
        yield proxy


@pytest.fixture
def bare_device(
    tmp_path: Path,
    private_bus: PrivateBus,
    couchdb_server: CouchServer,
    database: tuple[str, str],
    request: pytest.FixtureRequest,
) -> Iterator[Device]:
    """A device whose daemon is not started yet; a mark `settings` changes its configuration."""
    mark = request.node.get_closest_marker("settings")
    device = Device(
        tmp_path / "tv",
        bus=private_bus,
        couch=couchdb_server,
        database=database[1],
        settings=mark.kwargs if mark else None,
    )
    yield device
    device.close()


@dataclass
class Scene:
    """A device at work: its daemon runs, it has a FileStore, and a bucket behind a proxy."""

    device: Device
    s3: S3Server
    proxy: FaultyProxy
    home: str  # the FileStore
    bucket: str  # the store in S3

    def put_object(self, file_id: str, data: bytes) -> None:
        """Put a file into the bucket, as an upload from elsewhere would have."""
        self.s3.client().put_object(Bucket=self.s3.bucket, Key=self.key(file_id), Body=data)

    def get_object(self, file_id: str) -> bytes:
        """What the bucket has."""
        body = self.s3.client().get_object(Bucket=self.s3.bucket, Key=self.key(file_id))["Body"]
        return bytes(body.read())

    def key(self, file_id: str) -> str:
        """The object's name."""
        return file_id

    def remote_file(self, data: bytes) -> str:
        """A file that is in the bucket and has a document."""
        file_id = self.device.add_file(data, self.bucket)
        self.put_object(file_id, data)
        return file_id

    def local_file(self, data: bytes) -> str:
        """A file that is in the FileStore and has a document."""
        file_id = self.device.add_file(data, self.home)
        path = self.device.path_of(file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return file_id


@pytest.fixture
def stage(bare_device: Device, s3: S3Server, proxy: FaultyProxy) -> Scene:
    """All of it, but the daemon is not started yet."""
    bare_device.extra_env.update(AWS_ACCESS_KEY_ID=s3.access_key, AWS_SECRET_ACCESS_KEY=s3.secret_key)
    bucket = bare_device.add_s3(s3, url=proxy.url)
    home = bare_device.add_filestore()
    return Scene(bare_device, s3, proxy, home, bucket)


@pytest.fixture
def scene(stage: Scene) -> Scene:
    """All of it, running."""
    stage.device.start()
    return stage
