"""Files that peers send, by tus: with a client that others wrote, interrupted, resumed, wrong, expired, deleted."""

from __future__ import annotations

import base64
import hashlib
import os
import queue
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from dmedia_transfer import leaves
from dmedia_transfer.model import FileSpec
from dmedia_transfer.peers import wire
from dmedia_transfer.serving import tuswords
from tests import factories
from tests.peers import Machine, make_machine
from tests.peerserver import Client, Host, connected
from tests.waiting import WAIT_S, eventually

LEAF = leaves.LEAF_BYTES
DATA = factories.content(2 * LEAF + 1000, seed=3)
TUS = {"Tus_Resumable": "1.0.0"}
PATCH = {**TUS, "Content_Type": tuswords.UPLOAD_CONTENT_TYPE}


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def begin(client: Client, file: FileSpec, store_id: str = "") -> str:
    """A new upload; its path."""
    status, headers, body = begun(client, file, store_id)
    assert status == 201, body
    return str(headers["Location"])


def begun(client: Client, file: FileSpec, store_id: str = "", **more: Any) -> Any:
    metadata = f"file_id {b64(file.file_id)}" + (f",store_id {b64(store_id)}" if store_id else "")
    return client("POST", wire.UPLOADS, **(TUS | {"Upload_Length": file.size, "Upload_Metadata": metadata} | more))


def patch(client: Client, path: str, offset: int, data: bytes, **more: Any) -> Any:
    return client("PATCH", path, data, **(PATCH | {"Upload_Offset": offset} | more))


def offset_of(client: Client, path: str) -> int:
    status, headers, _ = client("HEAD", path, **TUS)
    assert status == 200
    return int(headers["Upload-Offset"])


def left_behind(host: Host) -> list[Path]:
    """What is in the FileStore and the server's folder, but for folders and the marker."""
    folders = (host.folder / "store", host.folder / "state" / "peer" / "uploads")
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if path.name != "filestore.json"]


class Breaking:
    """A connection that breaks after so many bytes, in the middle of a PATCH."""

    def __init__(self, machine: Machine, host: Host) -> None:
        self.machine, self._host = machine, host

    def __call__(self, path: str, offset: int, data: bytes, *, length: int | None = None, **more: Any) -> None:
        with connected(self.machine, self._host) as client:
            client.http.putrequest("PATCH", path)
            headers = PATCH | {"Upload_Offset": offset, "Content_Length": length or len(data) + 1000} | more
            for name, value in headers.items():
                client.http.putheader(name.replace("_", "-"), str(value))
            client.http.endheaders()
            client.http.send(data)
            time.sleep(0.5)  # until the server has it


@pytest.fixture
def breaking(phone: Machine, host: Host) -> Breaking:
    return Breaking(phone, host)


@pytest.fixture
def tuspy(host: Host, phone: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Uploaders of tuspy with the phone's key, for a file on the disk."""
    pinned = host.folder / "pinned.pem"
    pinned.write_text(host.machine.certificate.pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pinned))
    name = f"{host.machine.id.lower()}.dmedia.invalid"
    real = socket.getaddrinfo

    def resolve(asked: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if asked == name else asked, *rest, **more)

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    client = TusClient(f"https://{name}:{host.port}{wire.UPLOADS}", client_cert=str(phone.identity.file))

    def uploader(path: Path, file: FileSpec, **options: Any) -> Any:
        return client.uploader(str(path), metadata={"file_id": file.file_id}, **options)

    return uploader


def test_tuspy_sends_a_file_and_is_interrupted_and_resumes(
    host: Host, tuspy: Callable[..., Any], tmp_path: Path
) -> None:
    file = host.document(DATA)
    source = tmp_path / "film"
    source.write_bytes(DATA)
    first = tuspy(source, file, chunk_size=3 * 1024 * 1024)
    for _ in range(4):
        first.upload_chunk()
    host.stop()  # as when a machine goes to sleep
    host.setup = host.setup.model_copy(update={"port": host.port})
    host.start()
    second = tuspy(source, file, chunk_size=3 * 1024 * 1024, url=first.url)
    assert second.offset == 12 * 1024 * 1024
    second.upload()
    assert host.store.path(file.file_id).read_bytes() == DATA
    stored = host.stored.get(timeout=WAIT_S)
    assert (stored.file_id, stored.store_id, stored.size) == (file.file_id, host.store.store_id, file.size)


def test_tuspy_sends_checksums(host: Host, tuspy: Callable[..., Any], tmp_path: Path) -> None:
    file = host.document(DATA)
    source = tmp_path / "film"
    source.write_bytes(DATA)
    tuspy(source, file, chunk_size=5_000_000, upload_checksum=True).upload()
    assert host.store.path(file.file_id).read_bytes() == DATA


def test_tuspy_is_told_of_a_wrong_leaf(host: Host, tuspy: Callable[..., Any], tmp_path: Path) -> None:
    file = host.document(DATA)
    source = tmp_path / "film"
    source.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(TusCommunicationError) as caught:
        tuspy(source, file, retries=0).upload()
    assert caught.value.status_code == 460
    assert not host.store.has(file.file_id)


def test_what_there_is_of_tus_is_told(client: Client) -> None:
    status, headers, _ = client("OPTIONS", wire.UPLOADS)
    assert (status, headers["Tus-Version"]) == (204, "1.0.0")
    assert headers["Tus-Extension"] == "creation,creation-with-upload,expiration,checksum,termination"
    assert headers["Tus-Checksum-Algorithm"] == "sha256,sha1,md5"


def test_another_version_is_refused(host: Host, client: Client) -> None:
    file = host.document(DATA)
    status, headers, _ = begun(client, file, Tus_Resumable="0.2.2")
    assert (status, headers["Tus-Version"]) == (412, "1.0.0")


def test_an_upload_says_where_it_is_and_when_it_expires(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    status, headers, _ = client("HEAD", path, **TUS)
    assert (status, headers["Upload-Offset"], headers["Upload-Length"]) == (200, "0", str(len(DATA)))
    assert headers["Cache-Control"] == "no-store"
    assert headers["Upload-Expires"].endswith("GMT")
    status, headers, _ = patch(client, path, 0, DATA[:1000])
    assert (status, headers["Upload-Offset"]) == (204, "1000")
    status, headers, _ = patch(client, path, 1000, DATA[1000:])
    assert (status, headers["Upload-Offset"]) == (204, str(len(DATA)))
    assert offset_of(client, path) == len(DATA)


def test_what_the_library_does_not_know_is_refused(host: Host, client: Client) -> None:
    unknown = factories.file_spec(b"unknown")
    status, _, body = begun(client, unknown)
    assert status == 422
    assert b"has no document in this library" in body
    file = host.document(DATA)
    status, _, body = begun(client, file, Upload_Length=5)
    assert status == 422
    assert b"has 16778216 bytes by its document, not 5" in body
    assert begun(client, file, factories.OTHER_STORE_ID)[0] == 422
    assert left_behind(host) == []


def test_a_file_that_is_here_is_not_taken_again(host: Host, client: Client) -> None:
    file = host.document(DATA)
    host.publish(DATA)
    status, headers, _ = begun(client, file)
    assert (status, headers["Content-Location"]) == (409, wire.file_path(file.file_id))


def test_a_wrong_leaf_is_refused_with_what_was_expected_and_the_others_are_kept(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    wrong = DATA[: LEAF + 5] + b"?" + DATA[LEAF + 6 :]
    status, headers, body = patch(client, path, 0, wrong)
    digest = leaves.digest_of_leaf(file.leaf_digests, 1)
    assert (status, headers[wire.LEAF], headers[wire.EXPECTED]) == (460, "1", f"sha-256=:{b64(digest)}:")
    assert headers["Upload-Offset"] == str(LEAF)
    assert digest.hex() in body.decode()
    assert not host.store.has(file.file_id)
    with pytest.raises(queue.Empty):
        host.stored.get_nowait()
    client.close()
    assert patch(client, path, LEAF, DATA[LEAF:])[0] == 204
    assert host.store.path(file.file_id).read_bytes() == DATA


def test_wrong_bytes_that_came_in_an_earlier_request_take_the_offset_back(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    assert patch(client, path, 0, b"?" * 1000)[1]["Upload-Offset"] == "1000"
    assert patch(client, path, 1000, DATA[1000:])[0] == 460
    client.close()
    assert offset_of(client, path) == 0
    assert patch(client, path, 0, DATA)[0] == 204


def test_a_checksum_that_does_not_match_leaves_the_offset_where_it_was(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    patch(client, path, 0, DATA[:500])
    wrong = f"sha1 {b64(hashlib.sha1(b'?').digest())}"
    status, headers, _ = patch(client, path, 500, DATA[500 : LEAF + 9], Upload_Checksum=wrong)
    assert (status, headers["Upload-Offset"]) == (460, "500")
    assert offset_of(client, path) == 500
    assert patch(client, path, 500, b"", Upload_Checksum="crc32 AAAA")[0] == 400
    client.close()
    right = f"sha256 {b64(hashlib.sha256(DATA[500:]).digest())}"
    assert patch(client, path, 500, DATA[500:], Upload_Checksum=right)[0] == 204


def test_an_offset_that_is_not_where_the_upload_is_changes_nothing(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    for offset in ("-1", "1", "99999999999999999999", "", "0x0", str(2**64), str(2**31)):
        assert patch(client, path, 0, b"x", Upload_Offset=offset)[0] in (400, 409), offset
        client.close()
        assert offset_of(client, path) == 0, offset


def test_bytes_beyond_the_end_are_refused(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    assert patch(client, path, 0, DATA + b"?")[0] == 413
    client.close()
    assert offset_of(client, path) == 0
    assert patch(client, path, 0, DATA)[0] == 204


@pytest.mark.parametrize("pieces", [(DATA, b"?" * 100_000), (DATA + b"?",)], ids=["later", "at once"])
def test_bytes_beyond_the_end_of_a_body_of_unsaid_length_are_refused_and_the_file_is_there(
    host: Host, client: Client, phone: Machine, pieces: tuple[bytes, ...]
) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    with connected(phone, host) as sender:
        sender.http.putrequest("PATCH", path)
        for name, value in (PATCH | {"Upload_Offset": 0, "Transfer_Encoding": "chunked"}).items():
            sender.http.putheader(name.replace("_", "-"), str(value))
        sender.http.endheaders()
        for piece in pieces:
            sender.http.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(0.5)  # until the server has it
        sender.http.send(b"0\r\n\r\n")
        with sender.http.getresponse() as response:
            assert (response.status, response.headers["Upload-Offset"]) == (413, str(len(DATA)))
    assert offset_of(client, path) == len(DATA)  # who is told so may forget the file
    assert host.store.path(file.file_id).read_bytes() == DATA
    assert host.stored.get(timeout=WAIT_S).file_id == file.file_id


def test_a_connection_that_breaks_after_the_last_byte_leaves_the_file(
    host: Host, client: Client, breaking: Breaking
) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    with connected(breaking.machine, host) as sender:
        sender.http.putrequest("PATCH", path)
        for name, value in (PATCH | {"Upload_Offset": 0, "Transfer_Encoding": "chunked"}).items():
            sender.http.putheader(name.replace("_", "-"), str(value))
        sender.http.endheaders()
        sender.http.send(b"%x\r\n%b\r\n" % (len(DATA), DATA))
        time.sleep(0.5)  # until the server has it; the end of the body is never said
    eventually(lambda: host.store.has(file.file_id))
    assert offset_of(client, path) == len(DATA)


def test_an_upload_can_be_begun_with_its_first_bytes(host: Host, client: Client) -> None:
    file = host.document(DATA)
    metadata = f"file_id {b64(file.file_id)}"
    wish = TUS | {"Upload_Length": file.size, "Upload_Metadata": metadata, "Content_Type": tuswords.UPLOAD_CONTENT_TYPE}
    status, headers, _ = client("POST", wire.UPLOADS, DATA[: LEAF + 5], **wish)
    assert (status, headers["Upload-Offset"]) == (201, str(LEAF + 5))
    assert patch(client, headers["Location"], LEAF + 5, DATA[LEAF + 5 :])[0] == 204
    assert host.store.path(file.file_id).read_bytes() == DATA
    small = host.document(b"small")
    more = wish | {"Upload_Length": 5, "Upload_Metadata": f"file_id {b64(small.file_id)}"}
    assert client("POST", wire.UPLOADS, b"smell", **more)[0] == 460
    client.close()
    assert not host.store.has(small.file_id)
    assert [path for path in left_behind(host) if path.parent.parent.name == "uploads"] != []  # of the first file
    assert client("POST", wire.UPLOADS, b"small", **more)[0] == 201
    assert host.store.path(small.file_id).read_bytes() == b"small"


def test_a_connection_that_breaks_loses_nothing_that_came(host: Host, client: Client, breaking: Breaking) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    breaking(path, 0, DATA[: LEAF + 500_000])
    assert offset_of(client, path) == LEAF + 500_000
    assert patch(client, path, LEAF + 500_000, DATA[LEAF + 500_000 :])[0] == 204
    assert host.store.path(file.file_id).read_bytes() == DATA


def test_a_server_that_is_killed_loses_nothing_that_it_confirmed(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    assert patch(client, path, 0, DATA[: LEAF + 7])[0] == 204
    assert host.server is not None
    assert host.server.pid is not None
    os.kill(host.server.pid, signal.SIGKILL)
    host.port = host.listening.get(timeout=WAIT_S)  # it is started again
    assert "signal 9" in str(host.problems.get(timeout=WAIT_S)) + str(host.problems.get(timeout=WAIT_S))
    client.http.port = host.port
    client.close()
    assert offset_of(client, path) == LEAF + 7
    assert patch(client, path, LEAF + 7, DATA[LEAF + 7 :])[0] == 204


def test_a_file_that_was_published_is_told_of_until_it_is_confirmed(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    patch(client, path, 0, DATA)
    first = host.stored.get(timeout=WAIT_S)
    host.stop()
    host.start()
    again = host.stored.get(timeout=WAIT_S)
    assert again == first
    assert host.server is not None
    host.server.confirm(again)
    client.http.port = host.port
    client.close()
    assert offset_of(client, path) == len(DATA)  # for a client that has not heard it
    host.stop()
    host.start()
    with pytest.raises(queue.Empty):
        host.stored.get(timeout=0.5)


def test_a_newer_request_ends_one_that_hangs(host: Host, client: Client, phone: Machine) -> None:
    path = begin(client, host.document(DATA))
    with connected(phone, host) as hanging:
        hanging.http.putrequest("PATCH", path)
        for name, value in (PATCH | {"Upload_Offset": 0, "Content_Length": len(DATA)}).items():
            hanging.http.putheader(name.replace("_", "-"), str(value))
        hanging.http.endheaders()
        hanging.http.send(DATA[: LEAF + 100_000])
        time.sleep(0.5)
        assert offset_of(client, path) >= LEAF
        offset = offset_of(client, path)
        assert patch(client, path, offset, DATA[offset:])[0] == 204


def test_an_upload_that_is_deleted_leaves_nothing(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    patch(client, path, 0, DATA[: LEAF + 100])
    assert left_behind(host)
    assert client("DELETE", path, **TUS)[0] == 204
    assert left_behind(host) == []
    assert client("HEAD", path, **TUS)[0] == 404
    client.close()
    assert client("DELETE", path, **TUS)[0] == 404


def test_an_upload_that_is_deleted_leaves_what_others_have_brought(host: Host, client: Client) -> None:
    file = host.document(DATA)
    with host.store.partial(file.file_id, file.size) as partial:
        partial.write_leaf(2, memoryview(DATA)[2 * LEAF :])
    path = begin(client, file)
    patch(client, path, 0, DATA[:LEAF])
    assert client("DELETE", path, **TUS)[0] == 204
    with host.store.glimpse(file.file_id) as glimpse:
        kept = bytearray(1000)
        glimpse.read(2 * LEAF, memoryview(kept))
    assert bytes(kept) == DATA[2 * LEAF :]


def test_an_upload_that_nobody_goes_on_with_expires(tmp_path: Path, database: tuple[str, str], phone: Machine) -> None:
    host = Host(tmp_path / "host", database, expire_s=0.5)
    host.see(phone.document())
    try:
        host.start()
        with connected(phone, host) as client:
            path = begin(client, host.document(DATA))
            patch(client, path, 0, DATA[:LEAF])
        time.sleep(0.6)
        host.stop()
        host.start()  # looks at once, and every minute
        eventually(lambda: left_behind(host) == [])
        with connected(phone, host) as client:
            assert client("HEAD", path, **TUS)[0] == 404
    finally:
        host.close()


def test_an_upload_is_for_its_own_machine_only(host: Host, client: Client, tmp_path: Path) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    other = make_machine(tmp_path / "other")
    host.see(other.document())
    with connected(other, host) as stranger:
        eventually(stranger.is_let_in)
        for method in ("HEAD", "DELETE"):
            assert stranger(method, path, **TUS)[0] == 404
            stranger.close()
        assert patch(stranger, path, 0, DATA)[0] == 404
        stranger.close()
        own = begin(stranger, file)  # of the same file, which is fine
        assert patch(stranger, own, 0, DATA)[0] == 204
    assert offset_of(client, path) == len(DATA)  # the file is here, whoever sent it


def test_a_file_that_a_worker_is_writing_is_not_taken(host: Host, client: Client) -> None:
    file = host.document(DATA)
    path = begin(client, file)
    with host.store.partial(file.file_id, file.size):
        status, headers, _ = patch(client, path, 0, DATA)
        assert (status, headers["Retry-After"]) == (423, "5")
        client.close()
        assert begun(client, file)[0] == 423
    client.close()
    assert patch(client, path, 0, DATA)[0] == 204


def test_a_file_for_which_there_is_no_room_is_not_taken(
    tmp_path: Path, database: tuple[str, str], phone: Machine
) -> None:
    host = Host(tmp_path / "host", database)
    host.setup = host.setup.model_copy(update={"floor_bytes": 10**18, "floor_percent": 100.0})
    host.see(phone.document())
    try:
        host.start()
        with connected(phone, host) as client:
            status, _, body = begun(client, host.document(DATA))
        assert status == 507
        assert b"above its floor" in body
        assert left_behind(host) == []
    finally:
        host.close()


def test_the_limit_for_receiving_holds(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    assert host.server is not None
    host.server.limit(send_bps=None, receive_bps=4e6)
    offset_of(client, path)
    began = time.monotonic()
    assert patch(client, path, 0, DATA[:LEAF])[0] == 204
    assert 1.5 < time.monotonic() - began < 8


def test_a_client_that_knows_only_post_is_understood(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    more = PATCH | {"Upload_Offset": 0, "X_HTTP_Method_Override": "PATCH"}
    assert client("POST", path, DATA, **more)[0] == 204


def test_a_database_that_is_away_is_no_fault_of_who_sends(tmp_path: Path, phone: Machine) -> None:
    host = Host(tmp_path / "host", ("http://u:p@127.0.0.1:9", "library"))
    host.see(phone.document())
    try:
        host.start()
        with connected(phone, host) as client:
            status, headers, body = begun(client, factories.file_spec(DATA))
        assert (status, headers["Retry-After"]) == (503, "10")
        assert body == b"the database of this machine does not answer now\n"
    finally:
        host.close()
