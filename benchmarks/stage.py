"""A daemon at work on loopback, for benchmarks: bus, database, bucket and FileStore in one folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dmedia_transfer import documents
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from dmedia_transfer.model import random_id
from dmedia_transfer.states import Status
from tests.bus import running_bus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import Device

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
        """The daemon and its workers, without a database server of its own."""
        return [self.device.pid, *self.device.workers()]

    def move(self, direction: str, file_id: str) -> None:
        """Queue a transfer and wait for its end."""
        with self.device.client() as client:
            if direction == "upload":
                end = client.queue_upload(file_id, self.bucket).wait(timeout_s=600)
            else:
                end = client.queue_download(file_id, self.bucket).wait(timeout_s=600)
        if end.status is not Status.DONE:
            raise RuntimeError(f"{direction}: {end.status}: {end.error}")

    def forget(self, file_id: str) -> None:
        """Remove the object, so that an upload has something to do."""
        with self.device.http() as (session, _):
            session.delete(f"{self.endpoint_url}/{BUCKET}/{file_id}", timeout=TIMEOUT_S)


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
def stage(endpoint_url: str, *, settings: Mapping[str, Any] | None = None) -> Iterator[Stage]:
    """Build it around an S3 endpoint, start the daemon, and take all away at the end."""
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
        home = device.add_filestore()
        device.start()
        yield Stage(folder, device, home, bucket, endpoint_url)
