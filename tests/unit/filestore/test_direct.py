"""Leaves past the page cache: the same bytes in the file, and where the disk does not want that, in the usual way."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import DiskFull
from dmedia_transfer.filestore import FileStore, direct, importing, system
from dmedia_transfer.filestore.direct import ALIGNMENT, DirectReader, DirectWriter
from tests import factories

SIZE = 4 * ALIGNMENT


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


@pytest.fixture
def page() -> memoryview:
    """Memory that begins with a page."""
    memory = mmap.mmap(-1, SIZE)
    memory.write(factories.content(SIZE))
    return memoryview(memory)


def cached(fd: int) -> DirectWriter:
    """One whose descriptor takes all: what a disk would refuse is up to the test."""
    return DirectWriter(os.dup(fd))


def test_a_file_system_that_says_how_takes_what_is_aligned(
    fd: int, page: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "LEAST_BYTES", SIZE)
    writer = DirectWriter.of(fd, SIZE)
    assert (writer is not None) == system.takes_direct(fd, ALIGNMENT)
    if writer is not None:
        assert writer.write(ALIGNMENT, page[: 2 * ALIGNMENT])
        assert os.pread(fd, SIZE, 0) == bytes(ALIGNMENT) + bytes(page[: 2 * ALIGNMENT]) + bytes(ALIGNMENT)
        writer.close()


@pytest.mark.parametrize(
    ("mask", "aligned"), [(0x2000, (0, 0)), (0x2000, (512, 65536)), (0x2000, (3, 512)), (0, (4, 512))]
)
def test_a_file_system_that_wants_it_otherwise_or_does_not_say_is_left_alone(
    fd: int, monkeypatch: pytest.MonkeyPatch, mask: int, aligned: tuple[int, int]
) -> None:
    answer = bytearray(256)
    answer[0x98:0xA0] = b"".join(each.to_bytes(4, "little") for each in aligned)
    monkeypatch.setattr(system, "_statx", lambda *_: (mask, bytes(answer)))
    assert DirectWriter.of(fd, direct.LEAST_BYTES) is None


def test_a_small_file_stays_in_memory(fd: int) -> None:
    assert DirectWriter.of(fd, direct.LEAST_BYTES - 1) is None


@pytest.mark.parametrize(("start", "size"), [(1, ALIGNMENT), (0, ALIGNMENT - 1), (512, 512)])
def test_what_is_not_aligned_is_for_the_page_cache(fd: int, page: memoryview, start: int, size: int) -> None:
    writer = cached(fd)
    assert not writer.write(start, page[:size])
    assert writer.write(0, page[:ALIGNMENT]), "it is no refusal"
    writer.close()


def test_what_is_refused_once_is_not_tried_again(fd: int, page: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, tries = cached(fd), []

    def refuse(*_: object) -> int:
        tries.append(1)
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert not writer.write(0, page)
    assert not writer.write(0, page)
    assert len(tries) == 1
    writer.close()


@pytest.mark.parametrize(("taken", "whole"), [(ALIGNMENT, True), (ALIGNMENT + 1, False)])
def test_a_disk_that_takes_less_at_once(
    fd: int, page: memoryview, monkeypatch: pytest.MonkeyPatch, taken: int, whole: bool
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, start: pwrite(fd, data[:taken], start))
    writer = cached(fd)
    assert writer.write(0, page) == whole
    if whole:
        assert os.pread(fd, SIZE, 0) == page
    writer.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_of_the_disk_is_one(fd: int, page: memoryview, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    writer = cached(fd)
    with pytest.raises(OSError, match=os.strerror(number)):
        writer.write(0, page)
    writer.close()


def test_of_many_leaves_two_are_written_at_once(fd: int, page: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    writing: list[int] = []
    most: list[int] = []
    together = threading.Event()

    def pwrite(_fd: int, data: memoryview, _at: int) -> int:
        writing.append(1)
        most.append(len(writing))
        if len(writing) == direct.WRITES:
            together.set()
        together.wait(10)
        writing.pop()
        return len(data)

    monkeypatch.setattr(os, "pwrite", pwrite)
    writer = cached(fd)
    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(lambda _: writer.write(0, page), range(6)))
    assert max(most) == direct.WRITES == 2
    writer.close()


def test_what_is_aligned_is_read_and_the_rest_is_for_the_page_cache(fd: int, page: memoryview) -> None:
    os.pwrite(fd, page, 0)
    reader, memory = DirectReader(os.dup(fd)), memoryview(bytearray(SIZE))
    assert reader.read(ALIGNMENT, memory[:ALIGNMENT])
    assert memory[:ALIGNMENT] == page[ALIGNMENT : 2 * ALIGNMENT]
    assert not reader.read(0, memory[:5])
    assert not reader.read(ALIGNMENT, memory), "the file ends before"
    reader.close()


def test_a_copy_that_shares_blocks_is_hashed_as_it_is_on_the_disk(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = factories.content(leaves.LEAF_BYTES + 5000)  # the last leaf is not aligned
    read: list[int] = []

    class Noted(DirectReader):
        def read(self, start: int, into: memoryview) -> bool:
            done = super().read(start, into)
            read.extend([start] * done)
            return done

    monkeypatch.setattr(system, "clone", lambda _, target: os.pwrite(target, data, 0) > 0)
    monkeypatch.setattr(Noted, "of", classmethod(lambda cls, fd, _size: cls(os.dup(fd))))
    monkeypatch.setattr(importing, "DirectReader", Noted)
    (tmp_path / "film").write_bytes(data)
    assert store.import_file(tmp_path / "film").file_id == factories.file_spec(data).file_id
    assert read == [0]


def test_a_large_file_is_whole_and_the_same(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LEAST_BYTES", 1)
    data = factories.content(leaves.LEAF_BYTES + 5000)  # the last leaf is not aligned
    file = factories.file_spec(data)
    partial = store.partial(file.file_id, file.size)
    buffers = LeafBuffers(1)
    for index in (1, 0):
        span = leaves.leaf_span(file.size, index)
        with buffers.borrow(span.size) as buffer:
            buffer[:] = data[span.start : span.end]
            partial.write_leaf(index, buffer)
    for index in (0, 1):
        span = leaves.leaf_span(file.size, index)
        with buffers.borrow(span.size) as buffer:
            assert partial.read_leaf(index, buffer)
            assert bytes(buffer) == data[span.start : span.end]
    partial.publish()
    partial.close()
    assert store.path(file.file_id).read_bytes() == data


def test_a_disk_that_fails_past_the_page_cache_is_not_trusted_any_more(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DirectWriter, "of", classmethod(lambda _cls, fd, _size: DirectWriter(os.dup(fd))))
    monkeypatch.setattr(DirectWriter, "write", fail)
    data = factories.content(5000)
    file = factories.file_spec(data)
    with store.partial(file.file_id, file.size) as partial:
        with pytest.raises(DiskFull):
            partial.write_leaf(0, memoryview(data))
        assert partial.failed
