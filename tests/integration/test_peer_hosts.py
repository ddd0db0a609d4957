"""Machines of the library that have gone bad: what they answer to our backend costs a clear error, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.backends.peer import PeerBackend
from dmedia_transfer.errors import (
    ConnectionLost,
    CorruptLeaf,
    LeafMissing,
    ObjectMissing,
    Permanent,
    ServerBusy,
    SizeDisputed,
    Stalled,
    TransferError,
    Transient,
    UploadGone,
)
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.peers import tls, wire
from tests import factories
from tests.factories import BytesBody
from tests.peers import Machine, make_machine
from tests.rogue import DRIP, EARLY, HANG_UP, WAIT, RogueServer, answer

LEAF = leaves.LEAF_BYTES
DATA = factories.content(200_000, seed=21)
FILE = factories.file_spec(DATA)
LARGE = FileSpec(FILE.file_id, 3 * LEAF, bytes(3 * 32))  # nobody looks at its digests here
UPLOAD = "0" * 32
STALL_S = 1.0


def unmetered(_count: int) -> None:
    pass


@pytest.fixture(scope="module")
def tv(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return make_machine(tmp_path_factory.mktemp("tv"))


@pytest.fixture(scope="module")
def us(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return make_machine(tmp_path_factory.mktemp("us"))


@pytest.fixture
def rogue(tv: Machine, us: Machine) -> Iterator[RogueServer]:
    """A machine with a good key and bad manners."""
    with RogueServer(tls.server_context(tv.identity, [us.certificate])) as server:
        yield server


@pytest.fixture
def backend(rogue: RogueServer, tv: Machine, us: Machine) -> Iterator[PeerBackend]:
    settings = {
        "machine_id": tv.id,
        "addresses": [f"127.0.0.1:{rogue.address[1]}"],
        "certificates": [tv.certificate.text],
        "identity_dir": str(us.state_dir),
    }
    backend = PeerBackend(StoreSpec(factories.STORE_ID, "peer", settings), stall_s=STALL_S, connections=2)
    yield backend
    backend.close()


def ranged(data: bytes, start: int = 0, total: int = FILE.size, **headers: str) -> bytes:
    stated = {"content_range": f"bytes {start}-{start + len(data) - 1}/{total}", **headers}
    return answer("206 Partial Content", data, **stated)


def fetch(backend: PeerBackend) -> bytes:
    buffer = bytearray(1000)
    backend.fetch(FILE, 0, memoryview(buffer), unmetered)
    return bytes(buffer)


def fails(backend: PeerBackend, kind: type[TransferError], words: str) -> TransferError:
    with pytest.raises(kind, match=words) as caught:
        fetch(backend)
    assert type(caught.value) is kind
    for name in (FILE.file_id, "leaf 0"):
        assert name in str(caught.value)
    return caught.value


# Bytes of files.


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (ranged(DATA[:1000], start=1), ConnectionLost, "1000 bytes, 1 to 1000"),
        (ranged(DATA[:999]), ConnectionLost, "999 bytes, 0 to 998"),
        (ranged(DATA[:1001]), ConnectionLost, "1001 bytes, 0 to 1000"),
        (ranged(DATA[:1000], total=5), SizeDisputed, "has 5 bytes"),
        (ranged(DATA[:1000], content_range="bytes 0-999"), ConnectionLost, "does not say which bytes"),
        (ranged(DATA[:1000], content_range=f"bytes 0-{10**30}/{10**30}"), ConnectionLost, "does not say which bytes"),
        (ranged(DATA[:1000], content_range="bytes -5-994/200000"), ConnectionLost, "does not say which bytes"),
        (answer("206 Partial Content", DATA[:1000]), ConnectionLost, "does not say which bytes"),
        (answer("200 OK", DATA[:1000]), SizeDisputed, "has 1000 bytes"),
        (answer("200 OK", DATA), Permanent, "cannot send parts"),
        (answer("416 Range Not Satisfiable"), SizeDisputed, "shorter there"),
        (answer("404 Not Found", b"gone\n"), ObjectMissing, "gone"),
        (answer("302 Found", location="https://198.51.100.7/"), Permanent, "ask elsewhere"),
        (answer("301 Moved", location="http://169.254.169.254/"), Permanent, "ask elsewhere"),
        (answer("500 Oops", b"\x1b[31mred\n"), Transient, r"\?\[31mred"),
        (answer("418 Teapot", b"x" * 10_000), Permanent, "x{200} "),
        (answer("503 Busy", b"later\n", retry_after="99999999999999999999"), ServerBusy, "later"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(
    rogue: RogueServer, backend: PeerBackend, said: bytes, kind: type[TransferError], words: str
) -> None:
    rogue.will_answer(said)
    error = fails(backend, kind, words)
    assert (error.retry_after_s or 0) <= 3600
    assert len(str(error)) < 600
    assert len(rogue.asked) == 1  # nobody is asked twice, and nobody else
    rogue.will_answer(ranged(DATA[:1000]))
    assert fetch(backend) == DATA[:1000]


@pytest.mark.parametrize(
    "said",
    [
        (b"HTTP/1.1 206 OK\r\n" + b"a: b\r\n" * 200_000,),
        (b"HTTP/1.1 206 OK\r\na: " + b"b" * 2_000_000,),
        (b"HTTP/1.1 " + b"2" * 2_000_000,),
        (b"SSH-2.0-OpenSSH\r\n\r\n",),
        (b"HTTP/1.1 206 OK\r\ncontent-length: -5\r\n\r\n", HANG_UP),
        (b"\0" * 100_000,),
        (ranged(DATA[:1000])[:-500], HANG_UP),
        (HANG_UP,),
    ],
    ids=["headers", "header", "status", "ssh", "negative", "zeros", "short", "nothing"],
)
def test_an_answer_that_is_none_is_a_lost_connection(
    rogue: RogueServer, backend: PeerBackend, said: tuple[bytes | str, ...]
) -> None:
    rogue.will_answer(*said)
    fails(backend, ConnectionLost, "machine|answer")
    rogue.will_answer(ranged(DATA[:1000]))
    assert fetch(backend) == DATA[:1000]


@pytest.mark.parametrize(
    "said",
    [
        (WAIT,),
        (b"HTTP/1.1 206 OK\r\na: ", DRIP),
        (b"HTTP/1.1 206 OK\r\na: ", WAIT),
        (ranged(DATA[:1000])[:-990], DRIP),
        (ranged(DATA[:1000])[:-500], WAIT),
        (answer("500 Oops", b"x" * 2000)[:-1990], DRIP),
    ],
    ids=["silence", "dripping head", "half a head", "dripping body", "half a body", "dripping refusal"],
)
def test_a_machine_that_keeps_us_waiting_is_cut(
    rogue: RogueServer, backend: PeerBackend, said: tuple[bytes | str, ...]
) -> None:
    rogue.will_answer(*said)
    began = time.monotonic()
    fails(backend, Stalled, "no byte|for 1 s|bytes")
    assert time.monotonic() - began < 15
    rogue.will_answer(ranged(DATA[:1000]))
    assert fetch(backend) == DATA[:1000]


@pytest.mark.parametrize("listed", ["0-99999999", "nonsense", "1,2,", "-1", "9" * 4000, ""])
def test_a_list_of_leaves_that_is_none_is_not_believed(rogue: RogueServer, backend: PeerBackend, listed: str) -> None:
    rogue.will_answer(answer("416 Range Not Satisfiable", dmedia_leaves=listed))
    with pytest.raises(LeafMissing) as caught:
        backend.fetch(LARGE, 0, memoryview(bytearray(1000)), unmetered)
    assert caught.value.there <= {1, 2}


@pytest.mark.parametrize("size", ["", "-1", "x", "9" * 5000, "1e3"])
def test_a_size_that_is_none_is_not_believed(rogue: RogueServer, backend: PeerBackend, size: str) -> None:
    rogue.will_answer(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode(), HANG_UP)
    with pytest.raises(ConnectionLost, match=FILE.file_id):
        backend.stat(FILE)


def test_another_file_under_the_name_proves_nothing(rogue: RogueServer, backend: PeerBackend) -> None:
    head = f'HTTP/1.1 200 OK\r\ncontent-length: {LARGE.size}\r\netag: "{"B" * 48}"\r\n\r\n'.encode()
    rogue.will_answer(head)
    info = backend.stat(LARGE)
    assert info is not None
    assert (info.sha256, info.composite_sha256) == (None, None)


# Uploads.


def begin(backend: PeerBackend) -> object:
    return backend.begin(FILE)


def put_part(backend: PeerBackend) -> object:
    return backend.put_part(FILE, UPLOAD, 1, BytesBody(DATA), unmetered)


def list_parts(backend: PeerBackend) -> object:
    return backend.list_parts(FILE, UPLOAD)


def put(backend: PeerBackend) -> object:
    backend.put(FILE, BytesBody(DATA), unmetered)
    return None


def finish(backend: PeerBackend) -> object:
    backend.finish(FILE, UPLOAD, [])
    return None


@pytest.mark.parametrize(
    ("call", "said", "kind", "words"),
    [
        (begin, answer("201 Created"), ConnectionLost, "which upload was begun"),
        (begin, answer("201 Created", location="https://198.51.100.7/"), ConnectionLost, "which upload was begun"),
        (begin, answer("201 Created", location="/uploads/../files"), ConnectionLost, "which upload was begun"),
        (begin, answer("201 Created", location="/uploads/" + "a" * 5000), ConnectionLost, "which upload was begun"),
        (begin, answer("307 Temporary", location="https://198.51.100.7/uploads"), Permanent, "ask elsewhere"),
        (begin, answer("409 Conflict", b"here\n"), Transient, "has the file by now"),
        (begin, answer("422 Unknown", b"no document\n"), Transient, "no document"),
        (begin, answer("507 Full", b"no room\n"), ServerBusy, "no room"),
        (put_part, answer("204 No Content"), ConnectionLost, "how far the upload"),
        (put_part, answer("204 No Content", upload_offset="-1"), ConnectionLost, "how far the upload"),
        (put_part, answer("204 No Content", upload_offset="200001"), ConnectionLost, "how far the upload"),
        (put_part, answer("204 No Content", upload_offset="9" * 5000), ConnectionLost, "how far the upload"),
        (put_part, answer("204 No Content", upload_offset="0"), Transient, "is at byte 0"),
        (put_part, answer("409 Conflict", upload_offset="0"), Transient, "is at byte 0"),
        (put_part, answer("404 Not Found"), UploadGone, "does not know the upload"),
        (put_part, answer("460 Mismatch", b"leaf\n", dmedia_leaf="9" * 5000), CorruptLeaf, "leaf 0"),
        (put_part, answer("308 Elsewhere", location="https://198.51.100.7/"), Permanent, "ask elsewhere"),
        (list_parts, answer("200 OK"), ConnectionLost, "how far the upload"),
        (list_parts, answer("200 OK", upload_offset="200001"), ConnectionLost, "how far the upload"),
        (list_parts, answer("410 Gone"), UploadGone, "does not know the upload"),
        (finish, answer("200 OK", upload_offset="199999"), Transient, "199999 of 200000"),
        (put, answer("201 Created", upload_offset="199999"), ConnectionLost, "did not take all"),
        (put, answer("409 Conflict", b"locked\n"), Permanent, "locked"),
    ],
)
def test_an_answer_to_an_upload_that_cannot_be_is_refused(
    rogue: RogueServer,
    backend: PeerBackend,
    call: Callable[[PeerBackend], object],
    said: bytes,
    kind: type[TransferError],
    words: str,
) -> None:
    rogue.will_answer(said)
    with pytest.raises(kind, match=words) as caught:
        call(backend)
    assert type(caught.value) is kind
    assert FILE.file_id in str(caught.value)
    assert len(rogue.asked) == 1


def test_a_machine_that_refuses_without_reading_is_heard(rogue: RogueServer, backend: PeerBackend) -> None:
    rogue.will_answer(EARLY, answer("507 Full", b"no room\n"), HANG_UP)
    with pytest.raises(TransferError) as caught:
        put_part(backend)
    assert caught.value.transient


def test_a_machine_that_takes_nothing_is_cut(
    tv: Machine, us: Machine, backend: PeerBackend, rogue: RogueServer
) -> None:
    rogue.will_answer(EARLY, WAIT)
    body = BytesBody(factories.content(LEAF))
    began = time.monotonic()
    with pytest.raises(Stalled):
        backend.put_part(LARGE, UPLOAD, 1, body, unmetered)
    assert time.monotonic() - began < 15


def test_no_secret_is_in_what_is_said(rogue: RogueServer, backend: PeerBackend, us: Machine) -> None:
    rogue.will_answer(ranged(DATA[:1000]))
    fetch(backend)
    asked = rogue.asked[0]
    assert asked.target == wire.file_path(FILE.file_id, factories.STORE_ID)
    assert set(asked.headers) <= {"host", "range", "accept-encoding"}
    assert Path(us.state_dir).name not in str(asked)
