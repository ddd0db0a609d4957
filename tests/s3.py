"""Real S3-compatible servers on loopback, for every test that wants one.

`rclone serve s3` checks signatures; moto keeps checksums and pages its listings. What each of them lacks is in its
`Abilities`, so that tests hold the degraded behaviour against it and skip nothing. `DMEDIA_TEST_S3_URL` (with
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, and `DMEDIA_TEST_S3_BUCKET` for a bucket that is there) adds one more;
`DMEDIA_TEST_S3_LACKS` names what of `Abilities` it does not have, with commas between.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.model import StoreSpec
from tests.factories import STORE_ID

START_TIMEOUT_S: Final = 60.0  # moto imports for seconds on a busy machine
EXTERNAL_URL: Final = os.environ.get("DMEDIA_TEST_S3_URL", "")
EXTERNAL: Final = "external"
_BUCKET: Final = "films"
_REGION: Final = os.environ.get("DMEDIA_TEST_AWS_DEFAULT_REGION", "us-east-1")


@dataclass(frozen=True)
class Abilities:
    """What a server can do beyond what every one can."""

    part_checksums: bool = True  # confirms the SHA-256 of parts, and makes the composite
    lists_checksums: bool = True  # tells the SHA-256 of parts also in the list of them
    put_checksums: bool = True  # keeps the SHA-256 of an object that came in one request
    refuses_wrong_md5: bool = True
    replaces_parts: bool = True
    knows_ended_uploads: bool = True  # says NoSuchUpload to parts and completions that come too late
    checks_signatures: bool = True
    knows_content: bool = False  # refuses bytes that are not the file's; it is there with its last byte
    tells_etags: bool = True  # of parts: their MD5
    deletes: bool = True
    lists_uploads: bool = True
    dates_uploads: bool = True  # says when an upload was begun, and not the same day of 2010 for all


@dataclass(frozen=True)
class S3Server:
    """A server that is running, with a bucket in it."""

    name: str
    url: str
    access_key: str
    secret_key: str = field(repr=False)
    abilities: Abilities = Abilities()
    bucket: str = _BUCKET

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a proxy in front of it."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    def session(self) -> boto3.session.Session:
        """boto3 with this server's credentials, whatever the environment says."""
        return boto3.session.Session(self.access_key, self.secret_key, region_name=_REGION)

    def client(self) -> Any:
        """A plain boto3 client, for looking at what a test has done; one for each server, as making one is slow."""
        return _client(self.url, self.access_key, self.secret_key)

    @contextmanager
    def own_bucket(self) -> Iterator[S3Server]:
        """This server with a bucket that is new and empty, so that no test finds what another one has left.

        Of an external server, which may not let us make one, it is the bucket that it has.
        """
        if self.name == EXTERNAL:
            yield self
            return
        own = replace(self, bucket=f"test-{uuid.uuid4().hex}")
        self.client().create_bucket(Bucket=own.bucket)
        yield own
        own._remove_bucket()

    def _remove_bucket(self) -> None:
        """moto keeps everything in memory, and rclone on the disk; what stays all the same disturbs nobody."""
        client = self.client()
        with suppress(ClientError):
            for found in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
                for each in found.get("Contents", []):
                    client.delete_object(Bucket=self.bucket, Key=each["Key"])
            client.delete_bucket(Bucket=self.bucket)

    def spec(self, *, url: str = "", store_id: str = STORE_ID, **settings: Any) -> StoreSpec:
        """This server as a store; `url` puts a proxy in front of it."""
        return StoreSpec(
            store_id, "s3", {"bucket": self.bucket, "endpoint_url": url or self.url, "region": _REGION, **settings}
        )

    def backend(self, *, url: str = "", stall_s: float = 10.0, connections: int = 4, **settings: Any) -> S3Backend:
        """A backend for this server."""
        spec = self.spec(url=url, **settings)
        return S3Backend(spec, stall_s=stall_s, connections=connections, sessions=self.session)


RCLONE_ABILITIES: Final = Abilities(part_checksums=False, replaces_parts=False)
MOTO_ABILITIES: Final = Abilities(
    lists_checksums=False,
    refuses_wrong_md5=False,
    knows_ended_uploads=False,
    checks_signatures=False,
    dates_uploads=False,
)


@contextmanager
def running_rclone(
    folder: Path, *, certificate: tuple[Path, Path] | None = None, access_key: str = "rclone-test"
) -> Iterator[S3Server]:
    """`rclone serve s3` over a folder of this disk, each folder in it a bucket; over TLS with a certificate and key."""
    secret_key = f"{access_key}-secret"
    root = folder / "buckets"
    (root / _BUCKET).mkdir(parents=True)
    command = [_program("rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{access_key},{secret_key}"]
    command += ["--config", str(folder / "rclone.conf"), "--cache-dir", str(folder / "cache"), str(root)]
    if certificate:
        command += ["--cert", str(certificate[0]), "--key", str(certificate[1])]
    with _server(command, folder / "rclone.log", r"Starting s3 server on \[(https?://127\.0\.0\.1:\d+)/?\]") as url:
        yield S3Server("rclone", url, access_key, secret_key, RCLONE_ABILITIES)


@contextmanager
def running_moto(folder: Path) -> Iterator[S3Server]:
    """moto's server, everything in its memory: small objects only."""
    command = [_program("moto_server"), "-H", "127.0.0.1", "-p", "0"]
    environment = {"S3_UPLOAD_PART_MIN_SIZE": "1"}
    with _server(command, folder / "moto.log", r"Running on (http://127\.0\.0\.1:\d+)", environment) as url:
        server = S3Server("moto", url, "moto-test", "moto-test-secret", MOTO_ABILITIES)
        server.client().create_bucket(Bucket=_BUCKET)
        yield server


@contextmanager
def external_server() -> Iterator[S3Server]:
    """The server that the environment names; a bucket that is made for the tests goes with them."""
    bucket = os.environ.get("DMEDIA_TEST_S3_BUCKET", "")
    lacks = [name for name in os.environ.get("DMEDIA_TEST_S3_LACKS", "").replace(" ", "").split(",") if name]
    server = S3Server(
        EXTERNAL,
        EXTERNAL_URL,
        os.environ["DMEDIA_TEST_AWS_ACCESS_KEY_ID"],
        os.environ["DMEDIA_TEST_AWS_SECRET_ACCESS_KEY"],
        replace(Abilities(), **dict.fromkeys(lacks, False)),
        bucket or f"dmedia-transfer-test-{uuid.uuid4().hex[:12]}",
    )
    if bucket:
        yield server
        return
    place = {} if _REGION == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": _REGION}}
    server.client().create_bucket(Bucket=server.bucket, **place)
    yield server
    server._remove_bucket()


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An rclone server that lives as long as the run."""
    with running_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A moto server that lives as long as the run."""
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def external_s3() -> Iterator[S3Server]:
    """The server that `DMEDIA_TEST_S3_URL` names."""
    with external_server() as server:
        yield server


@functools.cache
def _client(url: str, access_key: str, secret_key: str) -> Any:
    session = boto3.session.Session(access_key, secret_key, region_name=_REGION)
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    return session.client("s3", endpoint_url=url, config=config)


def _program(name: str) -> str:
    """A program of this virtual environment, else of the machine."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: pip install 'dmedia-transfer[test]'"
    return found


def _die_with_parent() -> None:
    """A run that is killed leaves no server behind (Linux: PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def _server(command: list[str], log: Path, pattern: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server until the block ends; its address is what `pattern` finds in its output."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
            preexec_fn=_die_with_parent,
        )
    try:
        yield _address(process, log, pattern)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


def _address(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        if found := re.search(pattern, text):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")
