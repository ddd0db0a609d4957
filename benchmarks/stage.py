"""A daemon at work on loopback, for benchmarks: bus, database, bucket and FileStore.

Its database, its journal and the files are on the disk of temporary files, as with any user.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3

from benchmarks.common import MIB, RunFailed
from dmedia_transfer import documents, leaves
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from dmedia_transfer.model import random_id
from dmedia_transfer.states import Status
from tests.bus import running_bus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import Device
from tests.factories import content

SPARE_BYTES: Final = 512 * MIB  # of the disk, for what else is on it
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark-secret"}  # checked by nobody
BUCKET = "films"


@dataclass
class Stage:
    """All that a benchmark of the daemon needs."""

    folder: Path
    device: Device
    home: str  # the FileStore
    bucket: str  # the store at the S3 endpoint
    endpoint_url: str

    def pids(self) -> list[int]:
        """The daemon, what makes its workers, and these, without a database server of its own."""
        return [self.device.pid, *self.device.forkers(), *self.device.workers()]

    def move(self, direction: str, file_id: str) -> None:
        """Queue a transfer and wait for its end."""
        with self.device.client() as client:
            if direction == "upload":
                end = client.queue_upload(file_id, self.bucket).wait(timeout_s=600)
            else:
                end = client.queue_download(file_id, self.bucket).wait(timeout_s=600)
        if end.status is not Status.DONE:
            raise RuntimeError(f"{direction}: {end.status}: {end.error}")

    def plant(self, size: int, *, seed: int = 0) -> str:
        """Put a file into the FileStore, with its document; its ID."""
        with tempfile.NamedTemporaryFile(dir=self.device.store_dir) as file:
            digests = b""
            for start in range(0, size, leaves.LEAF_BYTES):
                leaf = content(min(leaves.LEAF_BYTES, size - start), seed=seed + start)
                digests += leaves.leaf_digest(leaf)
                file.write(leaf)
            file.flush()
            file_id = leaves.file_id(digests)
            path = self.device.path_of(file_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            os.link(file.name, path)
        stored = {self.home: {"copies": 1, "time": 1.0}}
        self.device.put(documents.new_file(file_id, size, digests, time=1.0, stored=stored))
        return file_id

    def forget(self, key: str) -> None:
        """Remove an object, so that an upload has something to do."""
        self.s3.delete_object(Bucket=BUCKET, Key=key)

    def size_of(self, key: str) -> int:
        """The size of an object, in bytes."""
        return int(self.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"])

    @functools.cached_property
    def s3(self) -> Any:
        """A client of the endpoint, for what is not measured."""
        key, secret = CREDENTIALS.values()
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )


@contextlib.contextmanager
def payload_folder(need_bytes: int) -> Iterator[Path]:
    """Where files are while a benchmark runs: on the disk of temporary files, or where `DMEDIA_BENCH_DIR` says.

    Raises:
        RunFailed: There is no room for them.
    """
    parent = Path(os.environ.get("DMEDIA_BENCH_DIR") or tempfile.gettempdir())
    if shutil.disk_usage(parent).free < need_bytes + SPARE_BYTES:
        raise RunFailed(f"{need_bytes / MIB:,.0f} MiB of files have no room in the folder that DMEDIA_BENCH_DIR names")
    with tempfile.TemporaryDirectory(prefix="dmedia-payload-", dir=parent) as name:
        yield Path(name)


@contextlib.contextmanager
def database_server(folder: Path) -> Iterator[CouchServer]:
    """Apache CouchDB where DMEDIA_TEST_COUCHDB_URL names one, else the embedded server."""
    if given := os.environ.get("DMEDIA_TEST_COUCHDB_URL"):
        parts = urlsplit(given)
        base = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        yield CouchServer(base, parts.username or "", parts.password or "", embedded=False)
        return
    with EmbeddedServer(folder / "couch.sqlite") as server:
        address = server.address
        yield CouchServer(address.url, address.user, address.password, embedded=True)


@contextlib.contextmanager
def stage(
    endpoint_url: str, *, settings: Mapping[str, Any] | None = None, payload: Path | None = None
) -> Iterator[Stage]:
    """Build it around an S3 endpoint, start the daemon, and take all away at the end; its files may be elsewhere."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-benchmark-")))
        couch = stack.enter_context(database_server(folder))
        name = f"benchmark-{uuid.uuid4().hex}"
        session = stack.enter_context(couch.session())
        session.put(f"{couch.base}/{name}", timeout=TIMEOUT_S).raise_for_status()
        stack.callback(session.delete, f"{couch.base}/{name}", timeout=TIMEOUT_S)
        bus = stack.enter_context(running_bus(folder))
        device = Device(
            folder / "device",
            bus=bus,
            couch=couch,
            database=name,
            settings={"log_level": "WARNING", **(settings or {})},
            env=CREDENTIALS,
        )
        stack.callback(device.close)
        bucket = device.add_store(
            documents.new_store(random_id(), "s3", time=1.0, bucket=BUCKET, endpoint_url=endpoint_url)
        )
        if payload is not None:
            device.store_dir = payload / "store"
        home = device.add_filestore()
        device.start()
        yield Stage(folder, device, home, bucket, endpoint_url)
