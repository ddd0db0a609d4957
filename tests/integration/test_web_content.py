"""Files over REST: downloads that go on by Range, and uploads of new files by tus, whatever happens in between."""

from __future__ import annotations

import base64
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tusclient import client as tus_client

from dmedia_transfer import leaves
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.model import Direction, Failure, FileSpec, Progress, Transfer, TransferKey
from dmedia_transfer.ports import Part, Pieces, UploadRecord
from dmedia_transfer.states import Status
from dmedia_transfer.web.intake import FINISHED_KEPT_S
from dmedia_transfer.web.models import transfer_id
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.web import SECRET, TIMEOUT_S, WebHost

DATA = content(2_000_000, seed=5)
FILM = file_spec(DATA, ext="mkv", mime="video/x-matroska")
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}


def publish(store: FileStore, data: bytes) -> FileSpec:
    """Put a file into a FileStore."""
    file = file_spec(data)
    with store.partial(file.file_id, file.size) as place:
        for index in range(leaves.leaf_count(file.size)):
            start = index * leaves.LEAF_BYTES
            place.write_leaf(index, memoryview(data)[start : start + leaves.LEAF_BYTES])
        place.publish()
    return file


@pytest.fixture
def stocked(web: WebHost) -> WebHost:
    """A machine that has a film."""
    store = web.add_filestore(STORE_ID)
    if not store.has(FILM.file_id):
        publish(store, DATA)
    web.add_file(FILM, STORE_ID, name="Film \N{EN DASH} é.mkv", mime="video/x-matroska")
    web.entered.clear()
    return web


# Downloads.


def test_curl_goes_on_with_a_download(stocked: WebHost, tmp_path: Path) -> None:
    part = tmp_path / "film"
    part.write_bytes(DATA[:777_777])
    url = f"{stocked.url}/api/v1/files/{FILM.file_id}/content"
    header = f"Authorization: Bearer {SECRET}"
    subprocess.run(["curl", "-sS", "--fail", "-C", "-", "-H", header, "-o", part, url], check=True, timeout=TIMEOUT_S)
    assert part.read_bytes() == DATA


def test_a_part_is_sent_for_a_range_and_all_of_it_if_it_is_another_file(stocked: WebHost) -> None:
    path = f"/api/v1/files/{FILM.file_id}/content"
    etag = f'"{FILM.file_id}"'
    whole = stocked.ask("GET", path)
    assert (whole.status_code, whole.headers["ETag"], whole.content) == (200, etag, DATA)
    part = stocked.ask("GET", path, headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.content) == (206, DATA[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(DATA)}"
    assert stocked.ask("GET", path, headers={"Range": "bytes=10-19", "If-Range": '"other"'}).status_code == 200
    assert stocked.ask("GET", path, headers={"Range": "bytes=-5"}).content == DATA[-5:]
    beyond = stocked.ask("GET", path, headers={"Range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
    assert stocked.ask("GET", path, headers={"If-None-Match": etag}).status_code == 304
    assert stocked.ask("GET", path, headers={"If-Match": '"other"'}).status_code == 412
    head = stocked.ask("HEAD", path)
    assert (head.headers["Content-Length"], head.content) == (str(len(DATA)), b"")
    assert stocked.ask("GET", f"/api/v1/files/{'A' * 48}/content").status_code == 404


def test_a_browser_saves_it_under_its_name_and_runs_nothing_that_is_in_it(stocked: WebHost) -> None:
    film = stocked.ask("HEAD", f"/api/v1/files/{FILM.file_id}/content").headers
    assert film["Content-Type"] == "video/x-matroska"
    assert film["Content-Disposition"].startswith('attachment; filename="Film _ _.mkv"')
    assert film["Content-Disposition"].endswith("filename*=UTF-8''Film%20%E2%80%93%20%C3%A9.mkv")
    page = publish(stocked.filestores.get(STORE_ID), b"<script>alert(1)</script>")
    stocked.add_file(page, STORE_ID, name='x"\r\nSet-Cookie: a=b.html', mime="text/html")
    told = stocked.ask("HEAD", f"/api/v1/files/{page.file_id}/content").headers
    assert told["Content-Type"] == "application/octet-stream"
    assert told["Content-Security-Policy"].startswith("sandbox")
    assert "Set-Cookie" not in told


def leaf_map(web: WebHost, key: TransferKey, size: int, status: Status = Status.ONGOING, **more: Any) -> Any:
    web.main.call(web.control.add, Transfer(key, status=status, progress=Progress(0, size), **more))
    return web.get(f"/transfers/{transfer_id(key)}/leaves")


def test_the_map_of_a_download_says_what_is_there_on_its_way_missing_and_wrong(web: WebHost) -> None:
    data = content(5 * leaves.LEAF_BYTES - 7, seed=9)
    file = file_spec(data)
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    store = web.add_filestore(STORE_ID)
    with store.partial(file.file_id, file.size) as place:
        place.write_leaf(1, memoryview(data)[leaves.LEAF_BYTES : 2 * leaves.LEAF_BYTES])
        web.journal.leaves.record(key, STORE_ID, place.identity, 1)
    web.control.on_their_way[key] = Pieces((2,), (3,))
    failure = Failure("CorruptLeaf", "leaf 4 does not match", leaf=4)
    told = leaf_map(web, key, file.size, failure=failure)
    assert told["states"] == ".#>!!"
    assert (told["count"], told["there"], told["in_flight"], told["wrong"]) == (5, 1, 1, 2)
    store.discard(file.file_id)
    web.main.call(web.control.change, key, status=Status.DONE, failure=None)
    web.control.on_their_way.clear()
    assert web.get(f"/transfers/{transfer_id(key)}/leaves")["states"] == "#####"


def test_the_map_of_an_upload_says_which_parts_its_server_has(web: WebHost) -> None:
    key = TransferKey(Direction.UPLOAD, "Q" * 48, STORE_ID)
    web.journal.uploads.intend(UploadRecord(key, "bucket/key", "", part_leaves=2, time=1.0))
    web.journal.uploads.begun(key, "id")
    web.journal.uploads.confirmed(key, Part(2, 2 * leaves.LEAF_BYTES, "etag"))
    web.control.on_their_way[key] = Pieces((3,), ())
    assert leaf_map(web, key, 7 * leaves.LEAF_BYTES)["states"] == "..##>>."


def test_the_map_of_what_has_no_size_yet_is_empty(web: WebHost) -> None:
    told = leaf_map(web, TransferKey(Direction.DOWNLOAD, "R" * 48, ""), 0, Status.QUEUED)
    assert (told["count"], told["states"]) == (0, "")


# Uploads.


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def begin(web: WebHost, size: int, **values: str) -> str:
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata(**values)}
    answer = web.ask("POST", "/api/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def send(web: WebHost, where: str, offset: int, data: bytes, **headers: str) -> Any:
    return web.ask("PATCH", where, headers={**PATCH, "Upload-Offset": str(offset), **headers}, data=data)


def left_over(web: WebHost) -> list[str]:
    return [found.file_id for found in web.filestores.get(STORE_ID).partials()]


def test_another_programs_client_sends_a_file_which_is_hashed_entered_and_sent_on(
    stocked: WebHost, tmp_path: Path
) -> None:
    data = content(9_000_000, seed=6)  # two leaves
    path = tmp_path / "song.ogg"
    path.write_bytes(data)
    client = tus_client.TusClient(f"{stocked.url}/api/v1/uploads", headers={"Authorization": f"Bearer {SECRET}"})
    wish = {"filename": "song.ogg", "filetype": "audio/ogg", "upload_to": OTHER_STORE_ID}
    uploader = client.uploader(str(path), chunk_size=1_000_000, metadata=wish)
    uploader.upload()
    song = file_spec(data)
    assert stocked.filestores.get(STORE_ID).path(song.file_id).read_bytes() == data
    (edit,) = stocked.entered
    assert (edit.file_id, edit.store_id, edit.size, edit.name) == (song.file_id, STORE_ID, song.size, "song.ogg")
    assert (edit.ext, edit.mime, base64.b64decode(edit.leaf_digests)) == ("ogg", "audio/ogg", song.leaf_digests)
    assert stocked.control.entries[-1].key == TransferKey(Direction.UPLOAD, song.file_id, OTHER_STORE_ID)
    told = stocked.get(f"/uploads/{str(uploader.url).rpartition('/')[2]}")
    assert (told["finished"], told["file_id"], told["offset"]) == (True, song.file_id, song.size)
    assert left_over(stocked) == []


def test_an_upload_goes_on_where_its_connection_was_cut(stocked: WebHost) -> None:
    data = content(700_000, seed=7)
    where = begin(stocked, len(data), filename="cut.bin")
    headers = {**PATCH, "Upload-Offset": "0", "Content-Length": str(len(data)), "Authorization": f"Bearer {SECRET}"}
    lines = [f"PATCH {where} HTTP/1.1", f"Host: 127.0.0.1:{stocked.server.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", stocked.server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + data[:400_000])
        # What looks half-open is ended by who comes back; how much of it had got through, nobody can say.
        offset = int(stocked.ask("HEAD", where, headers=TUS).headers["Upload-Offset"])
    assert 0 <= offset <= 400_000
    answer = send(stocked, where, offset, data[offset:])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(data)))
    assert stocked.entered[-1].file_id == file_spec(data).file_id


def test_a_wrong_offset_a_wrong_checksum_and_too_much_are_refused(stocked: WebHost) -> None:
    where = begin(stocked, 10)
    refused = send(stocked, where, 5, b"12345")
    assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, "0")
    assert refused.headers["Content-Type"] == "application/problem+json"
    checksum = "sha1 " + base64.b64encode(b"x" * 20).decode()
    assert send(stocked, where, 0, b"12345", **{"Upload-Checksum": checksum}).status_code == 460
    assert send(stocked, where, 0, b"12345678901").status_code == 413
    assert stocked.ask("HEAD", where).status_code == 412  # without the version of the protocol
    assert stocked.ask("DELETE", where, headers=TUS).status_code == 204
    for body in ({**TUS, "Upload-Length": "0"}, {**TUS, "Upload-Length": "5", "Upload-Metadata": "store_id eA=="}, TUS):
        assert stocked.ask("POST", "/api/v1/uploads", headers=body).status_code == 400


def test_cancelling_removes_what_has_arrived(stocked: WebHost) -> None:
    where = begin(stocked, 9_000_000)
    send(stocked, where, 0, b"x" * 8_500_000)
    assert len(left_over(stocked)) == 1
    assert stocked.ask("DELETE", where, headers=TUS).status_code == 204
    assert left_over(stocked) == []
    assert stocked.ask("HEAD", where, headers=TUS).status_code == 404
    assert stocked.entered == []


def test_a_file_that_is_here_already_is_recognised(stocked: WebHost) -> None:
    where = begin(stocked, len(DATA), filename="again.mkv")
    assert send(stocked, where, 0, DATA).status_code == 204
    assert stocked.entered[-1].file_id == FILM.file_id
    assert left_over(stocked) == []
    assert stocked.filestores.get(STORE_ID).path(FILM.file_id).read_bytes() == DATA


def test_a_name_leads_nowhere(stocked: WebHost) -> None:
    where = begin(stocked, 3, filename="../../etc/passwd", filetype="text/html\r\nX: y")
    send(stocked, where, 0, b"abc")
    assert (stocked.entered[-1].name, stocked.entered[-1].mime) == ("passwd", "")


@pytest.fixture
def lone(tmp_path: Path) -> Any:
    """A machine of its own, which a test can start again."""
    host = WebHost(tmp_path)
    host.add_filestore(STORE_ID)
    host.start()
    hosts = [host]
    yield hosts
    for each in hosts[-1:]:
        each.close()


def again(hosts: list[WebHost], folder: Path) -> WebHost:
    """The daemon is started anew."""
    hosts[-1].close()
    host = WebHost(folder)
    host.stores.on_store(hosts[-1].stores.document(STORE_ID))
    host.start()
    hosts.append(host)
    return host


def test_an_upload_outlives_a_restart_and_what_was_lost_of_it_is_asked_for_again(
    lone: list[WebHost], tmp_path: Path
) -> None:
    data = content(20_000_000, seed=8)  # three leaves
    where = begin(lone[0], len(data))
    assert send(lone[0], where, 0, data[:18_000_000]).status_code == 204
    host = again(lone, tmp_path)
    assert host.ask("HEAD", where, headers=TUS).headers["Upload-Offset"] == "18000000"
    # The machine crashed: leaf 1 never got to the disk, and what was on record of it is of an earlier boot.
    (place_id,) = left_over(host)
    partial = host.filestores.get(STORE_ID).root / "partial" / place_id[:2] / place_id
    with partial.open("r+b") as file:
        file.seek(leaves.LEAF_BYTES + 5)
        file.write(b"\0\0\0\0")
    host.journal.leaves.forget(TransferKey(Direction.DOWNLOAD, place_id, ""), STORE_ID)
    refused = send(host, where, 18_000_000, data[18_000_000:])
    assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, str(leaves.LEAF_BYTES))
    assert send(host, where, leaves.LEAF_BYTES, data[leaves.LEAF_BYTES :]).status_code == 204
    assert host.entered[-1].file_id == file_spec(data).file_id


def test_an_upload_that_nobody_goes_on_with_expires_and_one_that_is_done_is_forgotten_later(
    lone: list[WebHost], tmp_path: Path
) -> None:
    left, done = begin(lone[0], 100), begin(lone[0], 3)
    send(lone[0], left, 0, b"x" * 50)
    send(lone[0], done, 0, b"abc")
    for record in (tmp_path / "uploads").glob("*/upload.json"):
        text = record.read_text()
        time_s = text.partition('"time":')[2].partition(",")[0].partition("}")[0]
        record.write_text(text.replace(f'"time":{time_s}', f'"time":{float(time_s) - FINISHED_KEPT_S - 1}'))
    host = again(lone, tmp_path)
    deadline = time.monotonic() + TIMEOUT_S
    while host.ask("HEAD", left, headers=TUS).status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left_over(host) == []
    assert host.filestores.get(STORE_ID).has(file_spec(b"abc").file_id)
