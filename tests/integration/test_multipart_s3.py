"""`dmedia_transfer.MultipartUpload` with boto3's client, against real servers."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dmedia_transfer
from dmedia_transfer.errors import AccessDenied, InvalidInput, TransferError
from dmedia_transfer.multipart import Paused
from tests.factories import content
from tests.s3 import S3Server
from tests.waiting import eventually

PART = 5 * 1024 * 1024
DATA = content(3 * PART + 1234)


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found = request.getfixturevalue(f"{request.param}_s3")
    assert isinstance(found, S3Server)
    return found


@pytest.fixture
def key() -> str:
    return f"films/{secrets.token_hex(8)} ö.mkv"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "film"
    path.write_bytes(DATA)
    yield path
    path.unlink(missing_ok=True)


class OneWay:
    """A stream that cannot go back."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def stored(server: S3Server, key: str) -> bytes:
    data = server.client().get_object(Bucket=server.bucket, Key=key)["Body"].read()
    assert isinstance(data, bytes)
    return data


def new(server: S3Server, key: str, source: Any, **options: Any) -> dmedia_transfer.MultipartUpload:
    return dmedia_transfer.MultipartUpload(server.client(), server.bucket, key, source, part_bytes=PART, **options)


def paused_session(upload: dmedia_transfer.MultipartUpload) -> dict[str, Any]:
    """Pause after the first part; the session as a later process reads it."""
    told: list[Paused] = []
    upload.on("paused", told.append)
    upload.on("part", lambda event: upload.pause())
    upload.start()
    eventually(lambda: bool(told))
    session = json.loads(json.dumps(told[0].session))
    assert isinstance(session, dict)
    return session


@pytest.mark.parametrize("kind", ["path", "file", "bytes", "stream"])
def test_what_is_sent_arrives(server: S3Server, key: str, path: Path, kind: str) -> None:
    with path.open("rb") as file:
        sources: dict[str, Any] = {"path": path, "file": file, "bytes": io.BytesIO(DATA), "stream": OneWay(DATA)}
        upload = new(server, key, sources[kind], extra_args={"ContentType": "video/x-matroska"})
        upload.start()
        assert upload.wait(30)
    assert stored(server, key) == DATA
    assert upload.bytes_sent == upload.bytes_done == len(DATA)
    head = server.client().head_object(Bucket=server.bucket, Key=key)
    assert head["ContentType"] == "video/x-matroska"


def test_a_file_is_sent_from_where_it_stands(server: S3Server, key: str) -> None:
    file = io.BytesIO(DATA)
    file.seek(1000)
    upload = new(server, key, file)
    upload.start()
    assert upload.wait(30)
    assert stored(server, key) == DATA[1000:]


def test_a_session_of_a_file_goes_on_later_with_no_part_sent_twice(server: S3Server, key: str, path: Path) -> None:
    session = paused_session(new(server, key, path, connections=1))
    assert 0 < session["bytes_sent"] < len(DATA)
    sent: list[int] = []
    upload = new(server, key, path, session=session)
    upload.on("part", lambda event: sent.append(event.part.number))
    upload.start()
    assert upload.wait(30)
    assert sorted(sent) == [n for n in range(1, 5) if n not in {part["number"] for part in session["parts"]}]
    assert stored(server, key) == DATA


def test_a_session_of_a_stream_goes_on_later_from_bytes_sent(server: S3Server, key: str) -> None:
    session = paused_session(new(server, key, OneWay(DATA), connections=2))
    assert session["unsent"] == []
    upload = new(server, key, OneWay(DATA[session["bytes_sent"] :]), session=session)
    upload.start()
    assert upload.wait(30)
    assert stored(server, key) == DATA


def test_aborting_leaves_nothing_at_the_server(server: S3Server, key: str, path: Path) -> None:
    upload = new(server, key, path, connections=1)
    session = paused_session(upload)
    upload.abort()
    client = server.client()
    assert session["upload_id"] not in [
        found["UploadId"] for found in client.list_multipart_uploads(Bucket=server.bucket).get("Uploads", [])
    ]


def test_a_session_of_something_else_is_refused(moto_s3: S3Server, key: str, path: Path, tmp_path: Path) -> None:
    session = paused_session(new(moto_s3, key, path, connections=1))
    with pytest.raises(InvalidInput, match="not of"):
        new(moto_s3, "other", path, session=session)
    other = tmp_path / "other"
    other.write_bytes(DATA[:-1])
    with pytest.raises(InvalidInput, match="bytes"):
        new(moto_s3, key, other, session=session)
    with pytest.raises(InvalidInput, match="stream"):
        new(moto_s3, key, OneWay(DATA), session=session)
    stream_session = paused_session(new(moto_s3, key, OneWay(DATA), connections=1))
    with pytest.raises(InvalidInput, match="stream"):
        new(moto_s3, key, path, session=stream_session)


def test_what_cannot_be_sent_is_refused_before_anything_is_asked(moto_s3: S3Server, key: str, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="cannot be read"):
        new(moto_s3, key, tmp_path / "nothing")
    with pytest.raises(InvalidInput):
        new(moto_s3, key, tmp_path)
    with pytest.raises(InvalidInput):
        new(moto_s3, key, io.StringIO("text"))
    with pytest.raises(InvalidInput):
        new(moto_s3, key, 5)
    with pytest.raises(InvalidInput, match="parts of"):
        dmedia_transfer.MultipartUpload(moto_s3.client(), moto_s3.bucket, key, OneWay(b""), part_bytes=1000)


def test_nothing_at_all_is_an_object_too(moto_s3: S3Server, key: str) -> None:
    upload = new(moto_s3, key, OneWay(b""))
    upload.start()
    assert upload.wait(30)
    assert stored(moto_s3, key) == b""


def test_an_error_of_the_server_is_told_as_ours(rclone_s3: S3Server, key: str, path: Path) -> None:
    client = rclone_s3.session().client(
        "s3", endpoint_url=rclone_s3.url, aws_access_key_id="nobody", aws_secret_access_key="wrong"
    )
    upload = dmedia_transfer.MultipartUpload(client, rclone_s3.bucket, key, path)
    told: list[Any] = []
    upload.on("error", told.append)
    upload.start()
    with pytest.raises(AccessDenied):
        upload.wait(30)
    assert isinstance(told[0].error, AccessDenied)
