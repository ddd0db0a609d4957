"""What an S3 store can say of itself: whether it can be reached and written, and which uploads were left behind."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.errors import AccessDenied, Permanent
from tests import factories
from tests.factories import BytesBody
from tests.s3 import S3Server


def unmetered(_count: int) -> None:
    pass


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_s3")
    return found


@pytest.fixture
def prefix() -> str:
    return f"upkeep-{secrets.token_hex(4)}/"


@pytest.fixture
def backend(server: S3Server, prefix: str) -> Iterator[S3Backend]:
    backend = server.backend(prefix=prefix)
    yield backend
    backend.close()


def test_uploads_left_behind_under_our_prefix_are_found_and_abandoned(
    server: S3Server, backend: S3Backend, prefix: str
) -> None:
    file = factories.file_spec(b"film")
    elsewhere = server.backend(prefix=f"other-{prefix}")
    begun = {backend.begin(file), backend.begin(file)}
    foreign = elsewhere.begin(file)
    for upload_id in begun:  # one server shows an upload only when it has a part
        backend.put_part(file, upload_id, 1, BytesBody(b"film"), unmetered)
    found = backend.unfinished()
    assert {upload.upload_id for upload in found} == begun
    assert {upload.object_name for upload in found} == {backend.object_name(file)}
    assert all(upload.initiated.tzinfo is not None for upload in found)
    for upload in found:
        assert backend.abandon(upload.object_name, upload.upload_id)
    assert backend.unfinished() == []
    elsewhere.abort(file, foreign)


def test_a_probe_says_that_all_is_well_and_leaves_nothing(server: S3Server, backend: S3Backend, prefix: str) -> None:
    assert backend.probe().startswith(f"bucket {server.bucket} can be reached and written")
    assert backend.unfinished() == []
    listing = server.client().list_objects_v2(Bucket=server.bucket, Prefix=prefix)
    assert listing.get("Contents", []) == []


def test_a_probe_names_a_bucket_that_is_not_there(server: S3Server) -> None:
    backend = replace(server, bucket="no-such-bucket").backend()
    with pytest.raises(Permanent, match="there is no such bucket"):
        backend.probe()
    backend.close()


def test_a_wrong_secret_is_refused(rclone_s3: S3Server) -> None:
    backend = replace(rclone_s3, secret_key="wrong").backend()
    with pytest.raises(AccessDenied):
        backend.probe()
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
        backend.begin(factories.file_spec(b"film"))
    backend.close()


def test_the_media_type_of_a_file_is_that_of_its_object(server: S3Server, backend: S3Backend, prefix: str) -> None:
    small, large = (factories.file_spec(data, mime="video/quicktime") for data in (b"small", b"large"))
    backend.put(small, BytesBody(b"small"), unmetered)
    upload_id = backend.begin(large)
    part = backend.put_part(large, upload_id, 1, BytesBody(b"large"), unmetered)
    backend.finish(large, upload_id, [part])
    kinds = {
        server.client().head_object(Bucket=server.bucket, Key=f"{prefix}{file.file_id}")["ContentType"]
        for file in (small, large)
    }
    assert kinds == {"video/quicktime"}
