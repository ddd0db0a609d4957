"""The benchmarks' S3 endpoint is S3 enough for real clients, and tells the truth about what it got."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks import lean_s3
from tests import factories

S3Client = Any  # boto3-stubs has no words for single services
MIB = 1024 * 1024


def client_of(server: lean_s3.Running) -> S3Client:
    session: Any = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[lean_s3.Running]:
    with lean_s3.running(tmp_path / "server") as running:
        yield running


@pytest.fixture
def s3(server: lean_s3.Running) -> S3Client:
    return client_of(server)


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


@pytest.mark.parametrize("size", [1, 5 * MIB, 40 * MIB + 17])
def test_a_file_comes_back_as_it_went(tmp_path: Path, server: lean_s3.Running, s3: S3Client, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(factories.content(size))
    s3.create_bucket(Bucket="films")
    s3.upload_file(str(source), "films", "a/b c+ü.mp4", ExtraArgs={"ContentType": "video/mp4"})
    s3.download_file("films", "a/b c+ü.mp4", str(target), Config=TransferConfig(multipart_chunksize=3 * MIB))
    assert target.read_bytes() == source.read_bytes()
    head = s3.head_object(Bucket="films", Key="a/b c+ü.mp4")
    assert (head["ContentLength"], head["ContentType"]) == (size, "video/mp4")
    listed = s3.list_objects_v2(Bucket="films", Prefix="a/")
    assert [(each["Key"], each["Size"]) for each in listed["Contents"]] == [("a/b c+ü.mp4", size)]
    stats = server.stats()
    assert (stats["received"], stats["sent"]) == (size, size)


def test_a_body_in_chunks_with_a_trailer_is_unwrapped(server: lean_s3.Running) -> None:
    body = factories.content(3 * MIB + 5)
    parts = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 65536]), body[at : at + 65536]) for at in range(0, len(body), 65536)
    )
    framed = parts + b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    headers = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    for _ in range(2):  # the connection is in step for the next request
        connection.request("PUT", "/b/k", framed, headers)
        assert connection.getresponse().read() == b""
    connection.request("GET", "/b/k")
    assert connection.getresponse().read() == body
    connection.close()


def test_ranges_cross_the_borders_of_parts(s3: S3Client) -> None:
    parts = [factories.content(1000, seed=1), factories.content(1000, seed=2), factories.content(10, seed=3)]
    whole = b"".join(parts)
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    for number in (3, 1, 2):
        s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=parts[number - 1])
    numbers = [{"PartNumber": number, "ETag": "x"} for number in (1, 2, 3)]
    s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload, MultipartUpload={"Parts": numbers})
    for wanted, expected in [
        ("bytes=0-0", whole[:1]),
        ("bytes=999-1000", whole[999:1001]),
        ("bytes=500-2004", whole[500:2005]),
        ("bytes=2005-", whole[2005:]),
        ("bytes=-7", whole[-7:]),
        ("bytes=2000-9999", whole[2000:]),
    ]:
        answer = s3.get_object(Bucket="b", Key="k", Range=wanted)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == expected
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="b", Key="k", Range="bytes=2010-")
    assert code_of(caught.value) == "InvalidRange"


def test_checksums_come_back_as_aws_says_them(s3: S3Client) -> None:
    parts = [factories.content(1000, seed=1), factories.content(10, seed=2)]
    digests = [hashlib.sha256(part).digest() for part in parts]
    said = [base64.b64encode(digest).decode() for digest in digests]
    upload = s3.create_multipart_upload(Bucket="b", Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    for number, part in enumerate(parts, 1):
        s3.upload_part(
            Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=part, ChecksumSHA256=said[number - 1]
        )
    listed = s3.list_parts(Bucket="b", Key="k", UploadId=upload)
    assert [(each["PartNumber"], each["Size"], each["ChecksumSHA256"]) for each in listed["Parts"]] == [
        (1, 1000, said[0]),
        (2, 10, said[1]),
    ]
    numbers = [{"PartNumber": 1, "ETag": "x"}, {"PartNumber": 2, "ETag": "x"}]
    s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload, MultipartUpload={"Parts": numbers})
    head = s3.head_object(Bucket="b", Key="k", ChecksumMode="ENABLED")
    composite = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (f"{composite}-2", "COMPOSITE")


def test_parts_are_listed_in_pages_and_a_part_can_be_replaced(tmp_path: Path, s3: S3Client) -> None:
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    for number in range(1, 6):
        s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=number, Body=b"x" * number)
    s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=2, Body=b"longer")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket="b", Key="k", UploadId=upload, PaginationConfig={"PageSize": 2}
    )
    assert [each["Size"] for page in pages for each in page["Parts"]] == [1, 6, 3, 4, 5]
    assert len(list((tmp_path / "server").iterdir())) == 5
    assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket="b")["Uploads"]] == [upload]


def test_an_aborted_upload_is_gone_and_so_are_its_files(tmp_path: Path, s3: S3Client) -> None:
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket="b", Key="k", UploadId=upload)
    with pytest.raises(ClientError) as caught:
        s3.upload_part(Bucket="b", Key="k", UploadId=upload, PartNumber=2, Body=b"x" * 2 * MIB)
    assert code_of(caught.value) == "NoSuchUpload"
    assert list((tmp_path / "server").iterdir()) == []


def test_a_part_that_never_came_does_not_complete(s3: S3Client) -> None:
    upload = s3.create_multipart_upload(Bucket="b", Key="k")["UploadId"]
    numbers = [{"PartNumber": 1, "ETag": "x"}]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(Bucket="b", Key="k", UploadId=upload, MultipartUpload={"Parts": numbers})
    assert code_of(caught.value) == "InvalidPart"


def test_what_is_not_there_is_said_in_the_words_of_s3(s3: S3Client) -> None:
    with pytest.raises(ClientError) as got:
        s3.get_object(Bucket="b", Key="k")
    with pytest.raises(ClientError) as headed:
        s3.head_object(Bucket="b", Key="k")
    assert (code_of(got.value), code_of(headed.value)) == ("NoSuchKey", "404")


def test_an_object_is_not_overwritten_where_the_client_says_so(tmp_path: Path, s3: S3Client) -> None:
    s3.put_object(Bucket="b", Key="k", Body=b"first")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="b", Key="k", Body=b"second", IfNoneMatch="*")
    assert code_of(caught.value) == "PreconditionFailed"
    assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"first"
    s3.put_object(Bucket="b", Key="k", Body=b"third")
    assert len(list((tmp_path / "server").iterdir())) == 1
    s3.delete_object(Bucket="b", Key="k")
    assert list((tmp_path / "server").iterdir()) == []


def test_etags_are_md5_where_asked_for_and_never_look_like_it_otherwise(tmp_path: Path, s3: S3Client) -> None:
    assert "-" in s3.put_object(Bucket="b", Key="k", Body=b"hello")["ETag"]
    with lean_s3.running(tmp_path / "md5", md5=True) as server:
        real = client_of(server)
        assert real.put_object(Bucket="b", Key="k", Body=b"hello")["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
        body = factories.content(17 * MIB)
        source = tmp_path / "source"
        source.write_bytes(body)
        real.upload_file(str(source), "b", "big")
        md5s = b"".join(hashlib.md5(body[at : at + 8 * MIB]).digest() for at in range(0, len(body), 8 * MIB))
        assert real.head_object(Bucket="b", Key="big")["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'


def test_uploads_can_be_thrown_away(tmp_path: Path) -> None:
    with lean_s3.running(tmp_path / "none", discard=True) as server:
        s3 = client_of(server)
        s3.put_object(Bucket="b", Key="k", Body=b"x" * MIB)
        assert s3.head_object(Bucket="b", Key="k")["ContentLength"] == MIB
        assert server.stats()["received"] == MIB
        assert list((tmp_path / "none").iterdir()) == []


def test_the_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from benchmarks import lean_s3\n"
        f"with lean_s3.running(pathlib.Path({str(tmp_path)!r})) as server:\n"
        "    print(server.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(lean_s3.__file__).parent.parent
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=10)
    deadline_s = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline_s, "the server outlived its parent"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # nobody may be there to reap it
