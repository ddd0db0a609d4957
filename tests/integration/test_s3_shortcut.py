"""What goes past boto3 is signed as well, answered as well, and fails with the same errors."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient

from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CorruptLeaf,
    CredentialsExpired,
    ObjectMissing,
    Permanent,
    ServerBusy,
    SizeDisputed,
    TransferError,
    Transient,
    UploadGone,
)
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.ports import ObjectInfo
from tests import factories
from tests.factories import STORE_ID, BytesBody
from tests.rogue import RogueServer, answer, s3_error
from tests.s3 import S3Server

DATA = factories.content(3000)
FILE = factories.file_spec(DATA)


def unmetered(_count: int) -> None:
    pass


def fetch(backend: S3Backend, file: FileSpec = FILE, start: int = 0, size: int = len(DATA)) -> bytes:
    buffer = bytearray(size)
    backend.fetch(file, start, memoryview(buffer), unmetered)
    return bytes(buffer)


def send(backend: S3Backend) -> object:
    return backend.put_part(FILE, "upload-1", 1, BytesBody(DATA), unmetered)


def put(backend: S3Backend) -> None:
    backend.put(FILE, BytesBody(DATA), unmetered)


def look(backend: S3Backend) -> ObjectInfo | None:
    return backend.stat(FILE)


@pytest.fixture
def by_boto3(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all requests that boto3 makes."""
    made: list[str] = []
    call: Callable[[Any, str, Any], Any] = BaseClient._make_api_call  # type: ignore[attr-defined]  # not in its stubs

    def counted(self: Any, name: str, parameters: Any) -> Any:
        made.append(name)
        return call(self, name, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", counted)
    return made


@pytest.mark.parametrize("prefix", ["", "a=b@c/d_e-f./"])
def test_a_server_that_checks_signatures_takes_ours(rclone_s3: S3Server, by_boto3: list[str], prefix: str) -> None:
    backend = rclone_s3.backend(prefix=prefix)
    data = factories.content(200_000, seed=secrets.randbits(64))
    file = factories.file_spec(data)
    assert backend.stat(file) is None
    upload_id = backend.begin(file)
    parts = [backend.put_part(file, upload_id, 1, BytesBody(data), unmetered)]
    backend.finish(file, upload_id, parts)
    assert fetch(backend, file, 100, 500) == data[100:600]
    assert fetch(backend, file, 0, len(data)) == data
    assert by_boto3 == ["HeadObject", "CreateMultipartUpload", "CompleteMultipartUpload"]
    backend.close()


def test_small_files_are_looked_for_and_sent_without_boto3(rclone_s3: S3Server, by_boto3: list[str]) -> None:
    backend = rclone_s3.backend(storage_class="STANDARD_IA")
    for _ in range(2):
        data = factories.content(5000, seed=secrets.randbits(64))
        file = replace(factories.file_spec(data), mime="video/x-matroska")
        assert backend.stat(file) is None
        backend.put(file, BytesBody(data), unmetered)
        info = backend.stat(file)
        assert info is not None
        assert (info.size, info.sha256, info.composite_sha256) == (5000, hashlib.sha256(data).digest(), None)
        assert fetch(backend, file, 0, 5000) == data
    assert by_boto3 == ["HeadObject"]
    backend.close()


def test_an_object_is_sent_with_its_kind(rogue: RogueServer, sessions: Sessions, by_boto3: list[str]) -> None:
    settings = {"bucket": "films", "endpoint_url": rogue.url, "storage_class": "STANDARD_IA"}
    backend = S3Backend(StoreSpec(STORE_ID, "s3", settings), stall_s=5, connections=2, sessions=sessions)
    for _ in range(2):
        rogue.will_answer(answer("200 OK", b"", etag='"etag"'))
        backend.put(replace(FILE, mime="video/x-matroska"), BytesBody(DATA), unmetered)
    assert by_boto3 == ["PutObject"]
    first, second = (asked.headers for asked in rogue.asked)
    assert first["content-type"] == "video/x-matroska"
    assert first["x-amz-storage-class"] == "STANDARD_IA"
    changing = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request", "accept-encoding"}
    assert {n: v for n, v in second.items() if n not in changing} == {
        n: v for n, v in first.items() if n not in changing
    }
    backend.close()


def test_a_login_with_a_wrong_secret_is_refused_as_ever(rclone_s3: S3Server) -> None:
    spec = StoreSpec(STORE_ID, "s3", {"bucket": rclone_s3.bucket, "endpoint_url": rclone_s3.url})
    wrong = boto3.session.Session(rclone_s3.access_key, "wrong", region_name="us-east-1")
    backend = S3Backend(spec, stall_s=10, connections=1, sessions=lambda: wrong)
    for _ in range(2):
        with pytest.raises(AccessDenied):
            fetch(backend)
    backend.close()


@pytest.fixture
def rogue() -> Iterator[RogueServer]:
    with RogueServer() as server:
        yield server


class Sessions:
    """Credentials that can be replaced."""

    def __init__(self) -> None:
        self.secret = "secret-1"

    def __call__(self) -> boto3.session.Session:
        return boto3.session.Session("AKIA", self.secret, "token", region_name="us-east-1")


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def backend(rogue: RogueServer, sessions: Sessions, by_boto3: list[str]) -> Iterator[S3Backend]:
    """One that has learned from boto3 how it is done."""
    spec = StoreSpec(STORE_ID, "s3", {"bucket": "films", "endpoint_url": rogue.url})
    backend = S3Backend(spec, stall_s=5, connections=2, sessions=sessions)
    rogue.will_answer(answer("404 Not Found", b""))
    assert backend.stat(FILE) is None
    assert by_boto3 == ["HeadObject"]
    by_boto3.clear()
    yield backend
    backend.close()


@pytest.mark.parametrize("call", [fetch, send, put])
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        ("503 Slow Down", "SlowDown", ServerBusy),
        ("500 Internal Server Error", "InternalError", Transient),
        ("403 Forbidden", "AccessDenied", AccessDenied),
        ("400 Bad Request", "ExpiredToken", CredentialsExpired),
        ("404 Not Found", "NoSuchBucket", Permanent),
    ],
)
def test_a_refusal_is_the_error_that_it_is_with_boto3(
    rogue: RogueServer,
    backend: S3Backend,
    by_boto3: list[str],
    call: Callable[[S3Backend], object],
    status: str,
    code: str,
    error: type[TransferError],
) -> None:
    rogue.will_answer(s3_error(status, code))
    with pytest.raises(error, match=f"{FILE.file_id}.*({code}|no such bucket)"):
        call(backend)
    assert by_boto3 == []


def test_what_is_missing_or_wrong_is_told_apart(rogue: RogueServer, backend: S3Backend, by_boto3: list[str]) -> None:
    cases: list[tuple[Callable[[S3Backend], object], bytes, type[TransferError]]] = [
        (fetch, s3_error("404 Not Found", "NoSuchKey"), ObjectMissing),
        (send, s3_error("404 Not Found", "NoSuchUpload"), UploadGone),
        (fetch, s3_error("416 Range Not Satisfiable", "InvalidRange"), SizeDisputed),
        (fetch, answer("206 Partial Content", DATA, content_range=f"bytes 0-2999/{len(DATA) + 1}"), SizeDisputed),
        (fetch, answer("206 Partial Content", DATA[:9], content_range="bytes 0-8/3000"), ConnectionLost),
        (fetch, answer("200 OK", b"<html>log in first</html>"), SizeDisputed),
        (put, answer("200 OK", b"", etag='"1"', x_amz_checksum_sha256=b64encode(bytes(32)).decode()), CorruptLeaf),
        (look, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", ConnectionLost),
        (send, s3_error("400 Bad Request", "BadDigest"), CorruptLeaf),
    ]
    for call, said, error in cases:
        rogue.will_answer(said)
        with pytest.raises(error, match=FILE.file_id):
            call(backend)
    assert by_boto3 == []


def test_the_refusal_of_a_look_is_the_error_that_it_is_with_boto3(
    rogue: RogueServer, backend: S3Backend, by_boto3: list[str]
) -> None:
    cases: list[tuple[str, type[TransferError]]] = [
        ("503 Slow Down", ServerBusy),
        ("500 Internal Server Error", Transient),
        ("403 Forbidden", AccessDenied),
    ]
    for status, error in cases:
        rogue.will_answer(answer(status))
        with pytest.raises(error, match=FILE.file_id):
            look(backend)
    assert by_boto3 == []


def test_what_is_told_of_an_object_is_understood(rogue: RogueServer, backend: S3Backend, by_boto3: list[str]) -> None:
    digest = hashlib.sha256(DATA).digest()
    told = {"x_amz_checksum_sha256": b64encode(digest).decode()}
    cases: list[tuple[dict[str, str], ObjectInfo]] = [
        ({"etag": '"7-lean"', **told}, ObjectInfo(9, digest, None, "7-lean")),
        ({"etag": '"ab12-3"', **told}, ObjectInfo(9, None, digest, "ab12-3")),
        ({"etag": '"ab12"', **told, "x_amz_checksum_type": "COMPOSITE"}, ObjectInfo(9, None, digest, "ab12")),
        ({"etag": '"ab12"', "x_amz_checksum_sha256": "bm8="}, ObjectInfo(9, None, None, "ab12")),
        ({}, ObjectInfo(9)),
    ]
    for headers, info in cases:
        rogue.will_answer(answer("200 OK", b"", **headers).replace(b"content-length: 0", b"content-length: 9"))
        assert backend.stat(FILE) == info
    rogue.will_answer(answer("404 Not Found"))
    assert backend.stat(FILE) is None
    assert {asked.method for asked in rogue.asked} == {"HEAD"}
    assert by_boto3 == []


def test_after_a_doubtful_refusal_boto3_is_asked_first(
    rogue: RogueServer, backend: S3Backend, by_boto3: list[str]
) -> None:
    rogue.will_answer(s3_error("403 Forbidden", "AccessDenied"))
    with pytest.raises(AccessDenied):
        fetch(backend)
    for _ in range(2):
        rogue.will_answer(answer("206 Partial Content", DATA, content_range="bytes 0-2999/3000"))
        assert fetch(backend) == DATA
    assert by_boto3 == ["GetObject"], "once, and then it is learned again"


def test_where_another_place_is_named_boto3_decides(
    rogue: RogueServer, backend: S3Backend, by_boto3: list[str]
) -> None:
    rogue.will_answer(s3_error("301 Moved Permanently", "PermanentRedirect"))
    rogue.will_answer(s3_error("301 Moved Permanently", "PermanentRedirect"))
    with pytest.raises(Permanent, match="somewhere else"):
        fetch(backend)
    assert by_boto3 == ["GetObject"]


def test_a_key_that_was_replaced_signs_the_next_request(
    rogue: RogueServer, backend: S3Backend, sessions: Sessions, by_boto3: list[str]
) -> None:
    sessions.secret = "secret-2"
    rogue.will_answer(s3_error("403 Forbidden", "SignatureDoesNotMatch"))
    with pytest.raises(CredentialsExpired):
        fetch(backend)
    rogue.will_answer(answer("206 Partial Content", DATA, content_range="bytes 0-2999/3000"))
    assert fetch(backend) == DATA
    assert by_boto3 == ["GetObject"]


def test_a_server_that_knows_no_checksums_gets_the_part_without_them(
    rogue: RogueServer, backend: S3Backend, by_boto3: list[str]
) -> None:
    rogue.will_answer(s3_error("501 Not Implemented", "NotImplemented", "x-amz-checksum-sha256 is not implemented"))
    rogue.will_answer(answer("200 OK", b"", etag='"etag"'))
    send(backend)
    assert "x-amz-checksum-sha256" not in rogue.asked[-1].headers
    assert "content-md5" in rogue.asked[-1].headers
    assert by_boto3 == []


def test_a_client_of_the_callers_makes_all_requests_itself(rclone_s3: S3Server, by_boto3: list[str]) -> None:
    backend = S3Backend(rclone_s3.spec(), stall_s=10, connections=1, client=rclone_s3.client())
    data = factories.content(5000, seed=secrets.randbits(64))
    file = factories.file_spec(data)
    backend.put(file, BytesBody(data), unmetered)
    by_boto3.clear()
    for _ in range(2):
        assert fetch(backend, file, 0, 5000) == data
    assert by_boto3 == ["GetObject", "GetObject"]
    backend.close()
