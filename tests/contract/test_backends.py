"""What every backend promises, held against every backend; where a store cannot do a thing, what happens instead."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dmedia_transfer.errors import (
    ConnectionLost,
    CorruptLeaf,
    Interrupted,
    ObjectMissing,
    Permanent,
    SizeDisputed,
    TransferError,
    UploadGone,
)
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import Backend, ListsUploads, Part
from tests.contract.conftest import Subject
from tests.factories import BytesBody
from tests.waiting import WAIT_S


def unmetered(_count: int) -> None:
    pass


def fetched(backend: Backend, file: FileSpec, start: int, size: int) -> bytes:
    buffer = bytearray(size)
    backend.fetch(file, start, memoryview(buffer), unmetered)
    return bytes(buffer)


def uploaded(backend: Backend, subject: Subject, file: FileSpec, data: bytes) -> tuple[str, list[Part]]:
    upload_id = backend.begin(file)
    parts = [
        backend.put_part(file, upload_id, number, BytesBody(piece), unmetered)
        for number, piece in enumerate(subject.slices(data), start=1)
    ]
    return upload_id, parts


# One request


def test_a_file_that_was_put_is_there_with_its_size_and_checksum(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(0.5)
    assert backend.put(file, BytesBody(data), unmetered) in {None, hashlib.sha256(data).digest()}
    info = backend.stat(file)
    assert info is not None
    assert info.size == len(data)
    assert info.sha256 == (hashlib.sha256(data).digest() if subject.abilities.put_checksums else None)
    assert info.composite_sha256 is None
    assert fetched(backend, file, 0, len(data)) == data


def test_a_body_whose_sha256_is_not_known_arrives_with_it_all_the_same(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(0.5)
    backend.put(file, BytesBody(data, known=False), unmetered)
    info = backend.stat(file)
    assert info is not None
    assert info.sha256 == (hashlib.sha256(data).digest() if subject.abilities.put_checksums else None)


def test_what_was_never_put_is_not_there(subject: Subject, backend: Backend) -> None:
    _, file = subject.file()
    assert backend.stat(file) is None
    with pytest.raises(ObjectMissing, match=file.file_id):
        fetched(backend, file, 0, 10)


def test_putting_a_file_again_replaces_it(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(0.5)
    with pytest.raises(CorruptLeaf) if subject.abilities.knows_content else contextlib.nullcontext():
        backend.put(file, BytesBody(b"x" * len(data)), unmetered)
    backend.put(file, BytesBody(data), unmetered)
    backend.put(file, BytesBody(data), unmetered)
    assert fetched(backend, file, 0, len(data)) == data


def test_a_body_with_a_wrong_sha256_is_refused_where_the_store_looks(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(0.5)
    refused = None
    try:
        backend.put(file, BytesBody(data, sha256=bytes(32)), unmetered)
    except CorruptLeaf as error:  # also by one that does not promise it
        refused = error
    if refused:
        assert (refused.file_id, refused.leaf) == (file.file_id, 0)
        assert backend.stat(file) is None
    else:  # then the object does not pass for the file
        assert not backend.capabilities.verifies_sha256
        info = backend.stat(file)
        assert info is not None
        assert info.sha256 in {None, bytes(32)}


def test_a_deleted_file_is_gone_and_deleting_it_again_is_no_error(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(0.5)
    backend.put(file, BytesBody(data), unmetered)
    if not subject.abilities.deletes:
        with pytest.raises(Permanent, match=file.file_id):
            backend.delete(file)
        return
    backend.delete(file)
    assert backend.stat(file) is None
    backend.delete(file)


def test_the_meter_hears_of_every_byte_in_pieces_of_at_most_a_mebibyte(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(2.5 * 1024 * 1024 / subject.part_bytes)
    sent: list[int] = []
    backend.put(file, BytesBody(data), sent.append)
    received: list[int] = []
    backend.fetch(file, 0, memoryview(bytearray(len(data))), received.append)
    for counts in (sent, received):
        assert sum(counts) == len(data)
        assert len(counts) > 2
        assert max(counts) <= 1024 * 1024


# Ranges


@pytest.mark.parametrize(("start", "size"), [(0, 1), (0, 1000), (17, 4096), (65535, 2), (-1, 1), (-70000, 70000)])
def test_any_range_of_an_object_can_be_fetched(subject: Subject, backend: Backend, start: int, size: int) -> None:
    data, file = subject.file(2)
    backend.put(file, BytesBody(data), unmetered)
    start %= len(data)
    assert fetched(backend, file, start, size) == data[start : start + size]


@pytest.mark.parametrize(("start", "size"), [(-10, 20), (0, 10), (5, 10)], ids=["across", "at", "beyond"])
def test_an_object_that_is_shorter_than_the_document_says(
    subject: Subject, backend: Backend, start: int, size: int
) -> None:
    data, file = subject.file(1)
    backend.put(file, BytesBody(data), unmetered)
    with pytest.raises(SizeDisputed, match=file.file_id):
        fetched(backend, replace(file, size=len(data) + 100), len(data) + start, size)


def test_several_threads_fetch_at_once(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(8)
    backend.put(file, BytesBody(data), unmetered)
    step = len(data) // 16
    with ThreadPoolExecutor(4) as threads:
        pieces = threads.map(lambda index: fetched(backend, file, index * step, step), range(16))
    assert b"".join(pieces) == data


# Parts


def test_a_file_sent_in_parts_is_one_object(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(2.5)
    upload_id, parts = uploaded(backend, subject, file, data)
    backend.finish(file, upload_id, parts)
    assert fetched(backend, file, 0, len(data)) == data
    info = backend.stat(file)
    assert info is not None
    if subject.abilities.knows_content:  # of one leaf, however it came
        assert (info.size, info.sha256) == (len(data), hashlib.sha256(data).digest())
        return
    assert (info.size, info.sha256) == (len(data), None)
    digests = b"".join(hashlib.sha256(piece).digest() for piece in subject.slices(data))
    composite = hashlib.sha256(digests).digest()
    assert info.composite_sha256 == (composite if subject.abilities.part_checksums else None)


def test_a_confirmed_part_tells_its_size_etag_and_checksum(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(1.5)
    _, parts = uploaded(backend, subject, file, data)
    for part, piece in zip(parts, subject.slices(data), strict=True):
        assert part.size == len(piece)
        assert part.etag == (hashlib.md5(piece).hexdigest() if subject.abilities.tells_etags else "")
        assert part.sha256 == (hashlib.sha256(piece).digest() if subject.abilities.part_checksums else None)


def test_parts_may_come_out_of_order(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(3.5)
    slices = subject.slices(data)
    upload_id = backend.begin(file)
    if not backend.capabilities.parallel_parts:
        with pytest.raises(TransferError) as caught:
            backend.put_part(file, upload_id, 2, BytesBody(slices[1]), unmetered)
        assert caught.value.transient
        assert backend.list_parts(file, upload_id) == []
        return
    parts = {
        number: backend.put_part(file, upload_id, number, BytesBody(slices[number - 1]), unmetered)
        for number in (4, 2, 1, 3)
    }
    assert [part.number for part in backend.list_parts(file, upload_id)] == [1, 2, 3, 4]
    backend.finish(file, upload_id, [parts[number] for number in (1, 2, 3, 4)])
    assert fetched(backend, file, 0, len(data)) == data


def test_parts_may_come_at_the_same_time(subject: Subject, backend: Backend) -> None:
    if not backend.capabilities.parallel_parts:
        assert not subject.abilities.replaces_parts or subject.abilities.knows_content
        return
    data, file = subject.file(8)
    upload_id = backend.begin(file)

    def send(numbered: tuple[int, bytes]) -> Part:
        return backend.put_part(file, upload_id, numbered[0], BytesBody(numbered[1]), unmetered)

    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(send, enumerate(subject.slices(data), start=1)))
    backend.finish(file, upload_id, parts)
    assert fetched(backend, file, 0, len(data)) == data


def test_a_part_that_is_sent_again_replaces_the_first(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(1)
    upload_id = backend.begin(file)
    wrong = BytesBody(b"x" * len(data))
    if subject.abilities.knows_content:
        with pytest.raises(CorruptLeaf):
            backend.put_part(file, upload_id, 1, wrong, unmetered)
        first = backend.put_part(file, upload_id, 1, BytesBody(data), unmetered)
        assert backend.put_part(file, upload_id, 1, BytesBody(data), unmetered) == first
        return
    first = backend.put_part(file, upload_id, 1, wrong, unmetered)
    if not subject.abilities.replaces_parts:
        with pytest.raises(Permanent, match="part 1"):
            backend.put_part(file, upload_id, 1, BytesBody(data), unmetered)
        assert backend.put_part(file, upload_id, 1, wrong, unmetered) == first
        return
    part = backend.put_part(file, upload_id, 1, BytesBody(data), unmetered)
    assert [listed.etag for listed in backend.list_parts(file, upload_id)] == [part.etag]
    backend.finish(file, upload_id, [part])
    assert fetched(backend, file, 0, len(data)) == data


def test_a_part_with_a_wrong_sha256_is_refused_where_the_store_looks(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(2)
    upload_id = backend.begin(file)
    number = 2 if backend.capabilities.parallel_parts else 1
    body = BytesBody(subject.slices(data)[number - 1], sha256=bytes(32))
    refused = None
    try:
        part = backend.put_part(file, upload_id, number, body, unmetered)
    except CorruptLeaf as error:
        refused = error
    if refused:
        assert (refused.file_id, refused.leaf) == (file.file_id, number - 1)
        assert backend.list_parts(file, upload_id) == []
    else:
        assert not backend.capabilities.verifies_sha256
        assert part.sha256 in {None, bytes(32)}


def test_another_worker_lists_the_parts_and_finishes(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(2.5)
    upload_id, parts = uploaded(backend, subject, file, data)
    other = subject.make()
    listed = other.list_parts(file, upload_id)
    assert [(part.number, part.size, part.etag) for part in listed] == [
        (part.number, part.size, part.etag) for part in parts
    ]
    lists = subject.abilities.lists_checksums
    assert [part.sha256 for part in listed] == [part.sha256 if lists else None for part in parts]
    other.finish(file, upload_id, listed)
    other.close()
    assert fetched(backend, file, 0, len(data)) == data


def test_an_upload_without_parts_lists_none(subject: Subject, backend: Backend) -> None:
    _, file = subject.file()
    assert backend.list_parts(file, backend.begin(file)) == []


def test_more_parts_than_one_page_are_all_listed(subject: Subject, backend: Backend) -> None:
    if not backend.capabilities.parallel_parts:  # a length, of which there are no pages
        data, file = subject.file(40)
        upload_id, sent = uploaded(backend, subject, file, data)
        assert [part.number for part in backend.list_parts(file, upload_id)] == [part.number for part in sent]
        return
    _, file = subject.file()
    upload_id = backend.begin(file)

    def send(number: int) -> Part:
        return backend.put_part(file, upload_id, number, BytesBody(b"%d" % number), unmetered)

    with ThreadPoolExecutor(4) as threads:
        sent = list(threads.map(send, range(1, 1031)))
    listed = backend.list_parts(file, upload_id)
    assert [(part.number, part.etag) for part in listed] == [(part.number, part.etag) for part in sent]
    backend.abort(file, upload_id)


def gone_calls(backend: Backend, file: FileSpec, upload_id: str, parts: list[Part]) -> dict[str, Callable[[], Any]]:
    return {
        "list": lambda: backend.list_parts(file, upload_id),
        "part": lambda: backend.put_part(file, upload_id, 1, BytesBody(b"late"), unmetered),
        "finish": lambda: backend.finish(file, upload_id, parts),
    }


@pytest.mark.parametrize("call", ["list", "part", "finish"])
@pytest.mark.parametrize("end", ["abort", "finish"])
def test_an_upload_that_has_ended_is_gone(subject: Subject, backend: Backend, end: str, call: str) -> None:
    data, file = subject.file(1.5)
    upload_id, parts = uploaded(backend, subject, file, data if end == "finish" else data[: subject.part_bytes])
    if end == "abort":
        backend.abort(file, upload_id)
    else:
        backend.finish(file, upload_id, parts)
    late = gone_calls(backend, file, upload_id, parts)[call]
    if subject.abilities.knows_ended_uploads or call == "list":
        with pytest.raises(UploadGone):
            late()
    elif (call, end) == ("finish", "finish"):
        late()  # the same parts again: the same object
    else:  # what it fails with says nothing; a look at the list does
        with pytest.raises(TransferError) as caught:
            late()
        assert caught.value.transient
    assert (backend.stat(file) is None) == (end == "abort")


def test_an_upload_that_never_was_is_gone(subject: Subject, backend: Backend) -> None:
    _, file = subject.file()
    with pytest.raises(UploadGone):
        backend.list_parts(file, "0" * 32)


def test_aborting_twice_is_no_error(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(1.5)
    upload_id, _ = uploaded(backend, subject, file, data[: subject.part_bytes])
    backend.abort(file, upload_id)
    backend.abort(file, upload_id)
    assert backend.stat(file) is None


def test_an_upload_is_abandoned_by_name_alone(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(1)
    upload_id, _ = uploaded(backend, subject, file, data)
    assert backend.abandon(backend.object_name(file), upload_id)
    assert backend.abandon(backend.object_name(file), upload_id)
    with pytest.raises(UploadGone):
        backend.list_parts(file, upload_id)


def test_uploads_of_which_no_part_is_there_are_found_by_name_and_time(subject: Subject, backend: Backend) -> None:
    assert isinstance(backend, ListsUploads) == subject.abilities.lists_uploads
    if not isinstance(backend, ListsUploads):  # then they expire by themselves
        return
    data, file = subject.file(1)
    _, other = subject.file(1)
    name, before = backend.object_name(file), time.time() - 60 if subject.abilities.dates_uploads else 0.0
    lost = backend.begin(file)
    with_parts, _ = uploaded(backend, subject, file, data)
    elsewhere = backend.begin(other)
    assert backend.unstarted(name, before) == [lost]
    assert backend.unstarted(name, time.time() + 60) == []
    assert backend.abandon(name, lost)
    assert backend.unstarted(name, before) == []
    backend.abandon(name, with_parts)
    backend.abandon(backend.object_name(other), elsewhere)


# Cuts and interruptions


def test_a_cut_ends_a_fetch_at_once_and_the_next_one_works(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(3 * 1024 * 1024 / subject.part_bytes)
    backend.put(file, BytesBody(data), unmetered)
    moving, was_cut = threading.Event(), threading.Event()

    def meter(_count: int) -> None:
        moving.set()
        assert was_cut.wait(WAIT_S)

    def cut() -> None:
        assert moving.wait(WAIT_S)
        backend.cut()
        was_cut.set()

    with ThreadPoolExecutor(1) as threads:
        cutting = threads.submit(cut)
        with pytest.raises(ConnectionLost):
            backend.fetch(file, 0, memoryview(bytearray(len(data))), meter)
        cutting.result()
    assert fetched(backend, file, 0, len(data)) == data


def test_a_cut_ends_a_part_at_once_and_the_next_one_works(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(3 * 1024 * 1024 / subject.part_bytes)
    upload_id = backend.begin(file)
    moving, was_cut = threading.Event(), threading.Event()

    def meter(_count: int) -> None:
        moving.set()
        assert was_cut.wait(WAIT_S)

    def cut() -> None:
        assert moving.wait(WAIT_S)
        backend.cut()
        was_cut.set()

    with ThreadPoolExecutor(1) as threads:
        cutting = threads.submit(cut)
        with pytest.raises(ConnectionLost):
            backend.put_part(file, upload_id, 1, BytesBody(data), meter)
        cutting.result()
    assert backend.put_part(file, upload_id, 1, BytesBody(data), unmetered).size == len(data)


def test_a_cut_without_calls_disturbs_none(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(1)
    backend.put(file, BytesBody(data), unmetered)
    backend.cut()
    assert fetched(backend, file, 0, len(data)) == data


def test_an_interruption_comes_out_as_it_is_and_the_backend_still_works(subject: Subject, backend: Backend) -> None:
    data, file = subject.file(3 * 1024 * 1024 / subject.part_bytes)
    upload_id = backend.begin(file)

    def interrupt(_count: int) -> None:
        raise Interrupted("pause")

    for _ in range(3):
        with pytest.raises(Interrupted, match="pause"):
            backend.put_part(file, upload_id, 1, BytesBody(data), interrupt)
        with pytest.raises(Interrupted, match="pause"):
            backend.put(file, BytesBody(data), interrupt)
    backend.put(file, BytesBody(data), unmetered)
    for _ in range(3):
        with pytest.raises(Interrupted, match="pause"):
            backend.fetch(file, 0, memoryview(bytearray(len(data))), interrupt)
    assert fetched(backend, file, 0, len(data)) == data
    part = backend.put_part(file, upload_id, 1, BytesBody(data), unmetered)
    backend.finish(file, upload_id, [part])
    assert fetched(backend, file, 0, len(data)) == data


# Names


def test_objects_are_named_after_their_file(subject: Subject, backend: Backend) -> None:
    _, file = subject.file()
    _, other = subject.file()
    assert file.file_id in backend.object_name(file)
    assert backend.object_name(file) != backend.object_name(other)
