"""The S3 backend between bad networks and worse servers: one clear error each, in time, and the next call works."""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CorruptLeaf,
    CredentialsExpired,
    Interrupted,
    Permanent,
    ServerBusy,
    SizeDisputed,
    SourceChanged,
    Stalled,
    TransferError,
    Transient,
)
from dmedia_transfer.model import StoreSpec
from dmedia_transfer.ports import Part
from tests import factories
from tests.factories import STORE_ID, BytesBody
from tests.proxy import FaultyProxy
from tests.rogue import EARLY, HANG_UP, WAIT, RogueServer, answer, s3_error
from tests.s3 import S3Server
from tests.waiting import WAIT_S

KEY, SECRET, TOKEN = "AKIATESTTESTTEST", "the-secret-nobody-may-see", "the-token-nobody-may-see"
DATA = factories.content(1000)
FILE = factories.file_spec(DATA)
BIG = factories.content(3 * 1024 * 1024, seed=1)
BIG_FILE = factories.file_spec(BIG)


def unmetered(_count: int) -> None:
    pass


def session(key: str = KEY, token: str | None = None) -> boto3.session.Session:
    return boto3.session.Session(key, SECRET, token, region_name="us-east-1")


def backend_at(url: str, *, stall_s: float = 5.0, store_id: str = STORE_ID, **options: Any) -> S3Backend:
    spec = StoreSpec(store_id, "s3", {"bucket": "films", "endpoint_url": url})
    return S3Backend(spec, stall_s=stall_s, connections=4, **{"sessions": session, **options})


def fetch(backend: S3Backend, start: int = 0, size: int = len(DATA)) -> bytes:
    buffer = bytearray(size)
    backend.fetch(FILE, start, memoryview(buffer), unmetered)
    return bytes(buffer)


def ranged(body: bytes, first: int = 0, total: int = len(DATA), status: str = "206 Partial Content") -> bytes:
    return answer(status, body, content_range=f"bytes {first}-{first + len(body) - 1}/{total}")


@pytest.fixture
def rogue() -> Iterator[RogueServer]:
    with RogueServer() as server:
        yield server


@pytest.fixture
def backend(rogue: RogueServer) -> Iterator[S3Backend]:
    backend = backend_at(rogue.url)
    yield backend
    backend.close()


@pytest.fixture
def proxy(rclone_s3: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(rclone_s3.address) as proxy:
        yield proxy


@pytest.fixture
def real(rclone_s3: S3Server, proxy: FaultyProxy) -> Iterator[S3Backend]:
    """A real server behind a proxy, with a big file in it."""
    patient = rclone_s3.backend(stall_s=WAIT_S)
    patient.put(BIG_FILE, BytesBody(BIG), unmetered)
    patient.close()
    backend = rclone_s3.backend(url=proxy.url, stall_s=0.5)
    yield backend
    backend.close()


def fetch_big(backend: S3Backend, meter: Callable[[int], None] = unmetered) -> bytes:
    buffer = bytearray(len(BIG))
    backend.fetch(BIG_FILE, 0, memoryview(buffer), meter)
    return bytes(buffer)


# The network


def test_a_connection_cut_in_the_middle_of_a_body(real: S3Backend, proxy: FaultyProxy) -> None:
    proxy.cut_after(1_000_000)
    with pytest.raises(ConnectionLost, match=BIG_FILE.file_id):
        fetch_big(real)
    assert fetch_big(real) == BIG


def test_a_download_that_stalls_is_given_up_in_time(real: S3Backend, proxy: FaultyProxy) -> None:
    proxy.stall()
    began = time.monotonic()
    with pytest.raises(Stalled):
        fetch_big(real)
    assert time.monotonic() - began > 0.4
    proxy.stall(False)
    assert fetch_big(real) == BIG


def test_a_download_that_stalls_in_the_middle_is_given_up_in_time(real: S3Backend, proxy: FaultyProxy) -> None:
    began = 0.0

    def meter(_count: int) -> None:
        nonlocal began
        proxy.stall()
        began = began or time.monotonic()

    with pytest.raises(Stalled):
        fetch_big(real, meter)
    assert time.monotonic() - began > 0.4


def test_an_upload_that_stalls_is_given_up_in_time(real: S3Backend, proxy: FaultyProxy) -> None:
    upload_id = real.begin(BIG_FILE)
    proxy.stall()
    with pytest.raises(Stalled):
        real.put_part(BIG_FILE, upload_id, 1, BytesBody(BIG * 3), unmetered)


def test_a_slow_line_is_not_a_stalled_one(real: S3Backend, proxy: FaultyProxy) -> None:
    """Bytes keep moving, though the whole takes several times longer than a stall may."""
    upload_id = real.begin(BIG_FILE)
    proxy.limit(2_000_000)
    counts: list[int] = []
    assert fetch_big(real, counts.append) == BIG
    assert len(counts) > 8, "the meter has to hear of less than a piece now and then"
    real.put_part(BIG_FILE, upload_id, 1, BytesBody(BIG), unmetered)


@pytest.mark.parametrize("way", ["fetch", "put_part", "stat"])
def test_a_cut_wakes_a_call_that_waits_for_the_network(real: S3Backend, proxy: FaultyProxy, way: str) -> None:
    backend = backend_at(
        proxy.url, stall_s=10 * WAIT_S, sessions=lambda: boto3.session.Session("rclone-test", "rclone-test-secret")
    )
    upload_id = backend.begin(BIG_FILE)
    calls: dict[str, Callable[[], object]] = {
        "fetch": lambda: fetch_big(backend),
        "put_part": lambda: backend.put_part(BIG_FILE, upload_id, 1, BytesBody(BIG * 3), unmetered),
        "stat": lambda: backend.stat(BIG_FILE),
    }
    proxy.stall()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(calls[way])
        time.sleep(0.3)
        assert not waiting.done()
        backend.cut()
        with pytest.raises(ConnectionLost, match="cut"):
            waiting.result(WAIT_S)
    proxy.stall(False)
    assert fetch_big(backend) == BIG
    backend.close()


def test_a_cut_wakes_a_call_that_is_still_connecting() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):  # the backlog is full: the next SYN is not answered
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        backend = backend_at(f"http://127.0.0.1:{listener.getsockname()[1]}", stall_s=30)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(backend.stat, FILE)
            while not backend._access.open_connections:  # making boto3's client takes a while
                time.sleep(0.01)
            time.sleep(0.2)
            assert not waiting.done()
            backend.cut()
            with pytest.raises(ConnectionLost, match="cut"):
                waiting.result(WAIT_S)


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionLost, match=f"films/{FILE.file_id}.*refuses connections"):
        backend_at(url).stat(FILE)


def test_a_host_name_that_does_not_exist() -> None:
    with pytest.raises(ConnectionLost, match=r"the name of store\.invalid:80 was not found"):
        backend_at("http://store.invalid").stat(FILE)


# Kept-alive connections


def test_connections_are_used_again(rogue: RogueServer, backend: S3Backend) -> None:
    for _ in range(3):
        rogue.will_answer(ranged(DATA))
        assert fetch(backend) == DATA
    assert rogue.connections == 1


def test_a_connection_that_went_stale_is_no_fault(rogue: RogueServer, backend: S3Backend) -> None:
    for _ in range(3):
        rogue.will_answer(ranged(DATA), HANG_UP)
        assert fetch(backend) == DATA


def test_a_connection_that_is_closed_instead_of_an_answer_is_replaced_once(
    rogue: RogueServer, backend: S3Backend
) -> None:
    rogue.will_answer(ranged(DATA))
    fetch(backend)
    rogue.will_answer(HANG_UP)
    rogue.will_answer(ranged(DATA))
    assert fetch(backend) == DATA
    assert len(rogue.asked) == 3
    rogue.will_answer(HANG_UP)
    rogue.will_answer(HANG_UP)
    with pytest.raises(ConnectionLost, match="hung up without an answer"):
        fetch(backend)
    assert len(rogue.asked) == 5


def test_a_request_that_may_not_be_repeated_is_not(rogue: RogueServer, backend: S3Backend) -> None:
    """An upload begun twice would leave one that nobody knows of."""
    rogue.will_answer(ranged(DATA))
    fetch(backend)
    rogue.will_answer(HANG_UP)
    with pytest.raises(ConnectionLost):
        backend.begin(FILE)
    assert [asked.method for asked in rogue.asked] == ["GET", "POST"]


def test_no_connection_is_left_over_by_interruptions(rogue: RogueServer, backend: S3Backend) -> None:
    def interrupt(_count: int) -> None:
        raise Interrupted("pause")

    for _ in range(5):
        rogue.will_answer(
            ranged(DATA[:500])
            .replace(b"content-length: 500", b"content-length: 1000")
            .replace(b"bytes 0-499", b"bytes 0-999"),
            WAIT,
        )
        with pytest.raises(Interrupted):
            backend.fetch(FILE, 0, memoryview(bytearray(1000)), interrupt)
    assert backend._access.open_connections == 0


# Answers that are wrong


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"",
        b"HTTP/1.1 206 Partial Content\r\n" + b"x-more: 1\r\n" * 200,
        b"HTTP/1.1 206 Partial Content\r\nx-long: " + b"x" * 100_000,
    ],
    ids=["another protocol", "TLS", "garbage status", "nothing", "endless headers", "endless header"],
)
def test_an_answer_that_is_not_http(rogue: RogueServer, backend: S3Backend, raw: bytes) -> None:
    rogue.will_answer(raw, HANG_UP)
    with pytest.raises(ConnectionLost, match=FILE.file_id):
        fetch(backend)
    rogue.will_answer(ranged(DATA))
    assert fetch(backend) == DATA


@pytest.mark.parametrize(
    "reply",
    [
        ranged(DATA[:500]),
        ranged(DATA, first=1, total=1000),
        answer("206 Partial Content", DATA),
        answer("206 Partial Content", DATA, content_range="bytes over-the-rainbow"),
        ranged(DATA).replace(b"content-length: 1000", b"content-length: 1001"),
        ranged(DATA).replace(b"content-length: 1000", b"content-length: lots"),
        ranged(DATA).replace(b"content-length: 1000", b"content-length: -1"),
        answer("206 Partial Content", b"zz\r\n", content_range="bytes 0-999/1000").replace(
            b"content-length: 4", b"transfer-encoding: chunked"
        ),
    ],
    ids=["less", "elsewhere", "no range", "garbage range", "longer", "no length", "negative length", "bad chunks"],
)
def test_an_answer_with_other_bytes_than_were_asked_for(rogue: RogueServer, backend: S3Backend, reply: bytes) -> None:
    rogue.will_answer(reply, HANG_UP)
    with pytest.raises(ConnectionLost, match=FILE.file_id):
        fetch(backend)
    rogue.will_answer(ranged(DATA))
    assert fetch(backend) == DATA


def test_a_server_that_has_another_size_disputes_the_document(rogue: RogueServer, backend: S3Backend) -> None:
    rogue.will_answer(ranged(DATA, total=2000))
    with pytest.raises(SizeDisputed, match="2000 bytes, but the document says 1000"):
        fetch(backend)
    rogue.will_answer(answer("200 OK", DATA[:700]))
    with pytest.raises(SizeDisputed, match="700"):
        fetch(backend)


def test_a_server_without_ranges(rogue: RogueServer, backend: S3Backend) -> None:
    rogue.will_answer(answer("200 OK", DATA))
    assert fetch(backend) == DATA, "the whole object is what was asked for"
    rogue.will_answer(answer("200 OK", DATA))
    with pytest.raises(Permanent, match="cannot send parts of an object"):
        fetch(backend, start=10, size=20)


def test_an_answer_in_chunks(rogue: RogueServer, backend: S3Backend) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\ncontent-range: bytes 0-999/1000\r\n\r\n"
    rogue.will_answer(head + b"1f4\r\n" + DATA[:500] + b"\r\n1f4\r\n" + DATA[500:] + b"\r\n0\r\n\r\n")
    assert fetch(backend) == DATA


def test_an_error_page_without_an_end_is_not_read_for_ever(rogue: RogueServer, backend: S3Backend) -> None:
    rogue.will_answer(b"HTTP/1.1 500 Oh\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * 1000, HANG_UP)
    with pytest.raises(ConnectionLost):
        fetch(backend)


# Answers that refuse


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable"])
def test_a_busy_server_says_when_to_come_back(rogue: RogueServer, backend: S3Backend, code: str) -> None:
    rogue.will_answer(s3_error("503 Slow Down", code, retry_after="7"))
    with pytest.raises(ServerBusy) as caught:
        fetch(backend)
    assert caught.value.retry_after_s == 7
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    rogue.will_answer(answer("429 Too Many", retry_after=email.utils.format_datetime(then, usegmt=False)))
    with pytest.raises(ServerBusy) as caught:
        backend.stat(FILE)
    assert 50 < (caught.value.retry_after_s or 0) <= 60


def test_nothing_is_tried_twice(rogue: RogueServer, backend: S3Backend) -> None:
    for status in ("500 Oh", "503 Busy", "429 Many"):
        rogue.will_answer(answer(status))
        with pytest.raises(Transient):
            backend.stat(FILE)
    assert len(rogue.asked) == 3


def test_a_server_that_refuses_before_the_body_is_sent_is_understood(rogue: RogueServer, backend: S3Backend) -> None:
    rogue.will_answer(EARLY, s3_error("503 Slow Down", "SlowDown", connection="close"), WAIT)
    sent: list[int] = []
    with pytest.raises(ServerBusy):
        backend.put_part(BIG_FILE, "u", 1, BytesBody(BIG * 10), sent.append)
    assert sum(sent) < len(BIG) * 10


def test_a_completion_that_fails_after_its_200_is_not_taken_for_one(rogue: RogueServer, backend: S3Backend) -> None:
    part = Part(1, 1000, "e")
    rogue.will_answer(s3_error("200 OK", "InternalError", "We encountered an internal error."))
    with pytest.raises(Transient, match="InternalError"):
        backend.finish(FILE, "u", [part])
    rogue.will_answer(s3_error("200 OK", "SlowDown"))
    with pytest.raises(ServerBusy):
        backend.finish(FILE, "u", [part])
    rogue.will_answer(answer("200 OK", b"   \n  "))
    with pytest.raises(Transient):
        backend.finish(FILE, "u", [part])


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(rogue: RogueServer, backend: S3Backend, status: str) -> None:
    with RogueServer() as elsewhere:
        location = f"{elsewhere.url}/films/{FILE.file_id}"
        rogue.will_answer(s3_error(status, "PermanentRedirect", location=location))
        with pytest.raises(Permanent, match=f"{FILE.file_id}.*somewhere else"):
            fetch(backend)
        rogue.will_answer(answer(status, b"<html>Please log in</html>", location=location))
        with pytest.raises(ConnectionLost, match=f"{FILE.file_id}.*login"):
            fetch(backend)
        rogue.will_answer(answer(status, location=location))
        with pytest.raises(ConnectionLost):
            backend.stat(FILE)
        assert len(rogue.asked) == 3
        assert elsewhere.asked == []


def test_a_part_that_the_server_refuses_as_damaged(rogue: RogueServer, backend: S3Backend) -> None:
    rogue.will_answer(s3_error("400 Bad Request", "BadDigest"))
    with pytest.raises(CorruptLeaf) as caught:
        backend.put_part(FILE, "u", 3, BytesBody(DATA), unmetered)
    assert (caught.value.file_id, caught.value.leaf, caught.value.store_id) == (FILE.file_id, 2, STORE_ID)


def test_a_server_that_confirms_another_checksum_has_other_bytes(rogue: RogueServer, backend: S3Backend) -> None:
    other = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    rogue.will_answer(answer("200 OK", etag='"e"', x_amz_checksum_sha256=other))
    with pytest.raises(CorruptLeaf, match="another checksum"):
        backend.put_part(FILE, "u", 1, BytesBody(DATA), unmetered)


def test_a_source_that_changes_size_while_it_is_sent(rogue: RogueServer, backend: S3Backend) -> None:
    for size in (999, 1001):
        body = BytesBody(DATA)
        body.size = size
        with pytest.raises(SourceChanged):
            backend.put_part(FILE, "u", 1, body, unmetered)


# What servers know of checksums


def test_a_server_that_does_not_take_checksums_gets_an_md5_and_the_log_says_so_once(
    rogue: RogueServer, caplog: pytest.LogCaptureFixture
) -> None:
    backend = backend_at(rogue.url, store_id="N" * 24)
    refusal = s3_error("501 No", "NotImplemented", "Header 'x-amz-checksum-sha256' with value 'x' not implemented")
    with caplog.at_level(logging.WARNING, "dmedia_transfer"):
        rogue.will_answer(refusal)
        for _ in range(3):
            rogue.will_answer(answer("200 OK", etag='"e"'))
        for number in (1, 2, 3):
            backend.put_part(FILE, "u", number, BytesBody(DATA), unmetered)
    assert [("x-amz-checksum-sha256" in asked.headers) for asked in rogue.asked] == [True, False, False, False]
    assert all("content-md5" in asked.headers for asked in rogue.asked)
    assert [record.message for record in caplog.records] == [
        f"store {'N' * 24}: the server does not confirm the SHA-256 of parts; Content-MD5 guards them instead"
    ]
    backend.close()


def test_a_server_that_confirms_checksums_is_sent_no_md5(rogue: RogueServer, backend: S3Backend) -> None:
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    for _ in range(2):
        rogue.will_answer(answer("200 OK", etag='"e"', x_amz_checksum_sha256=digest))
        part = backend.put_part(FILE, "u", 1, BytesBody(DATA), unmetered)
        assert part.sha256 == hashlib.sha256(DATA).digest()
    assert ["content-md5" in asked.headers for asked in rogue.asked] == [True, False]


def test_a_probe_learns_that_the_server_verifies_and_leaves_nothing(rogue: RogueServer, backend: S3Backend) -> None:
    begun = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    rogue.will_answer(answer("200 OK"))
    rogue.will_answer(answer("200 OK", begun))
    rogue.will_answer(s3_error("400 Bad Request", "BadDigest"))
    rogue.will_answer(answer("204 No Content"))
    before = backend.capabilities
    assert backend.probe() == ("bucket films can be reached and written; the server refuses parts with a wrong SHA-256")
    assert (before.verifies_sha256, backend.capabilities.verifies_sha256) == (False, True)
    assert [asked.method for asked in rogue.asked] == ["HEAD", "POST", "PUT", "DELETE"]


# Credentials


def test_expired_credentials_are_loaded_anew_for_the_next_call(rogue: RogueServer) -> None:
    keys = iter(["AKIAOLD", "AKIANEW"])
    backend = backend_at(rogue.url, sessions=lambda: session(next(keys), TOKEN))
    rogue.will_answer(s3_error("400 Bad Request", "ExpiredToken", "The provided token has expired."))
    rogue.will_answer(ranged(DATA))
    with pytest.raises(CredentialsExpired):
        fetch(backend)
    assert fetch(backend) == DATA
    assert ["AKIANEW" in asked.headers["authorization"] for asked in rogue.asked] == [False, True]
    backend.close()


def test_an_expired_token_is_also_seen_where_the_answer_has_no_body(rogue: RogueServer) -> None:
    backend = backend_at(rogue.url, sessions=lambda: session(token=TOKEN))
    for _ in range(2):  # botocore asks a second time, it may have been the region
        rogue.will_answer(answer("400 Bad Request"))
    with pytest.raises(CredentialsExpired):
        backend.stat(FILE)
    backend.close()


def test_a_replaced_key_is_tried_again_and_a_wrong_one_is_not(rogue: RogueServer) -> None:
    keys = iter(["AKIAOLD", "AKIANEW", "AKIANEW"])
    backend = backend_at(rogue.url, sessions=lambda: session(next(keys)))
    for _ in range(2):
        rogue.will_answer(s3_error("403 Forbidden", "InvalidAccessKeyId"))
    with pytest.raises(CredentialsExpired, match="replaced"):
        fetch(backend)
    with pytest.raises(AccessDenied):
        fetch(backend)
    assert ["AKIANEW" in asked.headers["authorization"] for asked in rogue.asked] == [False, True]
    backend.close()


def test_no_error_and_no_log_line_shows_a_secret(rogue: RogueServer, caplog: pytest.LogCaptureFixture) -> None:
    backend = backend_at(rogue.url, sessions=lambda: session(token=TOKEN))
    texts = [repr(backend), str(backend)]
    replies: list[tuple[bytes | str, ...]] = [
        (s3_error("403 Forbidden", "AccessDenied"),),
        (s3_error("403 Forbidden", "SignatureDoesNotMatch"),),
        (b"nonsense", HANG_UP),
        (answer("200 OK", b"<not xml"),),
        (s3_error("400 Bad Request", "WhatIsThis"),),
    ]
    with caplog.at_level(logging.DEBUG):
        for reply in replies:
            for call in (fetch, lambda backend: backend.begin(FILE)):
                rogue.will_answer(*reply)
                with pytest.raises(TransferError) as caught:
                    call(backend)
                texts += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    seen = "\n".join([*texts, caplog.text])
    for secret in (SECRET, TOKEN, "Signature="):
        assert secret not in seen
    backend.close()


# Ways through


def test_where_a_proxy_applies_requests_go_through_it(rogue: RogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", rogue.url)
    backend = backend_at("http://store.invalid")
    rogue.will_answer(ranged(DATA))
    assert fetch(backend) == DATA
    rogue.will_answer(answer("200 OK", etag='"e"'))
    backend.put_part(FILE, "u", 1, BytesBody(DATA), unmetered)
    assert [asked.target.split("?")[0] for asked in rogue.asked] == [f"http://store.invalid/films/{FILE.file_id}"] * 2
    assert rogue.asked[1].body_bytes == len(DATA)
    backend.close()


def test_over_a_network_in_the_clear_the_body_is_signed(rogue: RogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", rogue.url)
    backend = backend_at("http://store.invalid")
    rogue.will_answer(answer("200 OK", etag='"e"'))
    backend.put_part(FILE, "u", 1, BytesBody(DATA), unmetered)
    assert rogue.asked[0].headers["x-amz-content-sha256"] == hashlib.sha256(DATA).hexdigest()
    backend.close()


def test_a_client_of_the_callers_is_used_and_left_as_it_was(rogue: RogueServer) -> None:
    client: Any = session().client("s3", endpoint_url=rogue.url)
    spec = StoreSpec(STORE_ID, "s3", {"bucket": "films", "endpoint_url": rogue.url})
    backend = S3Backend(spec, stall_s=5, connections=2, client=client)
    rogue.will_answer(ranged(DATA))
    assert fetch(backend) == DATA
    rogue.will_answer(answer("200 OK", DATA))  # the caller's own calls meanwhile are not ours
    assert client.get_object(Bucket="films", Key="other")["Body"].read() == DATA
    backend.close()
    rogue.will_answer(answer("200 OK", DATA))
    assert client.get_object(Bucket="films", Key="other")["Body"].read() == DATA


def test_many_threads_cut_again_and_again_leave_a_backend_that_works(real: S3Backend, proxy: FaultyProxy) -> None:
    ended = threading.Event()

    def fetch_until_ended() -> int:
        whole = 0
        while not ended.is_set():
            try:
                assert fetch_big(real) == BIG
                whole += 1
            except ConnectionLost:
                pass
        return whole

    with ThreadPoolExecutor(4) as threads:
        fetching = [threads.submit(fetch_until_ended) for _ in range(4)]
        for _ in range(30):
            time.sleep(0.03)
            real.cut()
        ended.set()
        for future in fetching:
            future.result(20)
    assert fetch_big(real) == BIG
    assert real._access.open_connections <= 5
