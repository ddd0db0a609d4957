"""What a peer serves of files: ranges as RFC 9110 has them, with curl and a machine's own key; unfinished files."""

from __future__ import annotations

import base64
import hashlib
import shutil
import time

from dmedia_transfer import leaves
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.peers import wire
from tests import factories
from tests.peers import Machine
from tests.peerserver import Client, Host, connected, curl, eventually

LEAF = leaves.LEAF_BYTES
DATA = factories.content(LEAF + 1000, seed=1)


def test_curl_gets_a_whole_file_and_its_head(host: Host, phone: Machine) -> None:
    file = host.publish(DATA)
    status, headers, body = curl(phone, host, wire.file_path(file.file_id))
    assert (status, body) == (200, DATA)
    assert headers["etag"] == f'"{file.file_id}"'
    assert headers["accept-ranges"] == "bytes"
    status, headers, body = curl(phone, host, wire.file_path(file.file_id), "--head")
    assert (status, headers["content-length"], body) == (200, str(file.size), b"")
    assert wire.LEAVES.lower() not in headers


def test_curl_gets_ranges(host: Host, phone: Machine) -> None:
    file = host.publish(DATA)
    for asked, start, end in (
        ("0-0", 0, 1),
        ("1000-1999", 1000, 2000),
        (f"{LEAF}-", LEAF, len(DATA)),
        ("-10", len(DATA) - 10, len(DATA)),
        (f"5-{10**12}", 5, len(DATA)),
        (f"-{10**12}", 0, len(DATA)),
    ):
        status, headers, body = curl(phone, host, wire.file_path(file.file_id), "--range", asked)
        assert (status, len(body), body == DATA[start:end]) == (206, end - start, True), asked
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
        assert headers["content-length"] == str(end - start)


def test_curl_is_told_of_a_range_beyond_the_end(host: Host, phone: Machine) -> None:
    file = host.publish(DATA)
    status, headers, _ = curl(phone, host, wire.file_path(file.file_id), "--range", f"{len(DATA)}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(DATA)}")


def test_several_ranges_and_nonsense_are_answered_with_the_whole_file(host: Host, phone: Machine) -> None:
    file = host.publish(DATA)
    for asked in ("0-1,5-6", "5-4"):
        status, _, body = curl(phone, host, wire.file_path(file.file_id), "--header", f"Range: bytes={asked}")
        assert (status, len(body)) == (200, len(DATA))


def test_preconditions_hold(host: Host, client: Client) -> None:
    file = host.publish(DATA)
    path, tag = wire.file_path(file.file_id), f'"{file.file_id}"'
    assert client("GET", path, if_none_match=tag)[0] == 304
    assert client("HEAD", path, if_none_match="*")[0] == 304
    assert client("GET", path, if_match='"another"')[0] == 412
    assert client("GET", path, range="bytes=0-4", if_range=tag)[0] == 206
    assert client("GET", path, range="bytes=0-4", if_range='"another"')[0] == 200
    assert client("HEAD", path, range="bytes=0-4")[0] == 200  # ranges are for GET only


def test_digests_are_said_where_they_are_true(host: Host, client: Client) -> None:
    def sha256(data: bytes) -> str:
        return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"

    path = wire.file_path(host.publish(DATA).file_id)
    wants = {"Want_Content_Digest": "sha-256=10", "Want_Repr_Digest": "sha-256=10"}
    _, headers, _ = client("GET", path, range=f"bytes=0-{LEAF - 1}", **wants)
    assert headers["Content-Digest"] == sha256(DATA[:LEAF])
    assert headers["Repr-Digest"] is None  # of several leaves: the file's digest is no SHA-256 of its bytes
    _, headers, _ = client("GET", path, **wants)
    assert headers["Content-Digest"] is None
    small = wire.file_path(host.publish(b"small").file_id)
    _, headers, _ = client("GET", small, range="bytes=1-2", **wants)
    assert (headers["Content-Digest"], headers["Repr-Digest"]) == (sha256(b"ma"), sha256(b"small"))
    assert client("GET", small)[1]["Content-Digest"] is None


def test_a_file_of_a_store_is_looked_for_there_only(host: Host, client: Client) -> None:
    file = host.publish(b"here")
    assert client("GET", wire.file_path(file.file_id, factories.STORE_ID))[2] == b"here"
    status, _, body = client("GET", wire.file_path(file.file_id, factories.OTHER_STORE_ID))
    assert (status, body) == (404, f"this machine has no store {factories.OTHER_STORE_ID}\n".encode())


def test_verified_leaves_of_an_unfinished_file_are_served_and_no_others(host: Host, client: Client) -> None:
    data = factories.content(3 * LEAF + 5, seed=2)
    file = factories.file_spec(data)
    path = wire.file_path(file.file_id)
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    with host.store.partial(file.file_id, file.size) as partial:  # as a worker has it, lock and all
        for index in (1, 3):
            span = leaves.leaf_span(file.size, index)
            partial.write_leaf(index, memoryview(data)[span.start : span.end])
        assert client("GET", path)[0] == 404
        host.journal.leaves.record_all(key, host.store.store_id, partial.identity, (1, 3))
        status, headers, body = client("GET", path, range=f"bytes={LEAF}-{2 * LEAF - 1}")
        assert (status, headers[wire.LEAVES], body == data[LEAF : 2 * LEAF]) == (206, "1,3", True)
        assert headers["Content-Range"] == f"bytes {LEAF}-{2 * LEAF - 1}/{file.size}"
        assert client("GET", path, range="bytes=-5")[2] == data[-5:]
        for missing in (f"{LEAF}-{2 * LEAF}", "0-0", f"{2 * LEAF}-"):
            status, headers, _ = client("GET", path, range=f"bytes={missing}")
            assert (status, headers[wire.LEAVES], headers["Content-Range"]) == (416, "1,3", f"bytes */{file.size}")
        for method in ("GET", "HEAD"):
            status, headers, _ = client(method, path)
            assert (status, headers[wire.LEAVES]) == (404, "1,3")
        assert wire.read_leaves(headers[wire.LEAVES], 4) == {1, 3}


def test_leaves_on_record_under_another_boot_are_not_served(host: Host, client: Client) -> None:
    file = factories.file_spec(DATA)
    with host.store.partial(file.file_id, file.size) as partial:
        partial.write_leaf(0, memoryview(DATA)[:LEAF])
        key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
        host.journal.leaves.record(key, host.store.store_id, "another-boot/1/2/3", 0)
    status, headers, _ = client("GET", wire.file_path(file.file_id), range="bytes=0-9")
    assert (status, headers[wire.LEAVES]) == (404, None)


def test_a_file_that_is_removed_while_it_is_sent_is_sent_to_its_end(host: Host, client: Client) -> None:
    file = host.publish(DATA)
    client.http.request("GET", wire.file_path(file.file_id))
    with client.http.getresponse() as response:
        begun = response.read(1000)
        host.store.remove(file.file_id)
        assert begun + response.read() == DATA
    assert client("GET", wire.file_path(file.file_id))[0] == 404


def test_requests_that_come_while_a_file_is_sent_are_answered_after_it(host: Host, client: Client) -> None:
    file = host.publish(DATA)
    target = wire.file_path(file.file_id)
    client.http.connect()
    asked = [f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n" for method in ("GET", "HEAD", "GET")]
    client.http.sock.sendall("".join(asked).encode())
    with client.http.sock.makefile("rb") as answers:
        for has_body in (True, False, True):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += answers.readline()
            assert head.startswith(b"HTTP/1.1 200 ")
            assert not has_body or answers.read(file.size) == DATA


def test_clients_that_leave_in_the_middle_leave_nothing_open(host: Host, client: Client, phone: Machine) -> None:
    file = host.publish(factories.content(40_000_000, seed=6))
    client("HEAD", wire.file_path(file.file_id))
    before = host.open_files
    for _ in range(5):
        with connected(phone, host) as other:
            other.http.request("GET", wire.file_path(file.file_id))
            other.http.getresponse().read(1000)
    eventually(lambda: host.open_files <= before)
    assert client("HEAD", wire.file_path(file.file_id))[0] == 200


def test_a_drive_that_is_away_is_no_fault_of_who_asks(host: Host, client: Client) -> None:
    file = host.publish(DATA)
    shutil.move(host.folder / "store", host.folder / "away")
    assert client("GET", wire.file_path(file.file_id))[0] == 404
    shutil.move(host.folder / "away", host.folder / "store")
    assert client("GET", wire.file_path(file.file_id))[0] == 200


def test_the_limit_for_sending_holds(host: Host, client: Client) -> None:
    file = host.publish(DATA)
    assert host.server is not None
    host.server.limit(send_bps=4e6, receive_bps=None)
    client("OPTIONS", wire.UPLOADS)
    began = time.monotonic()
    assert client("GET", wire.file_path(file.file_id), range=f"bytes=0-{LEAF - 1}")[0] == 206
    assert 1.5 < time.monotonic() - began < 8
    host.server.limit(send_bps=None, receive_bps=None, stopped=True)
    time.sleep(0.3)
    status, headers, _ = client("GET", wire.file_path(file.file_id))
    assert (status, headers["Retry-After"]) == (503, "300")
