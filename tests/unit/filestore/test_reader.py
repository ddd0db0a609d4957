"""Reading complete files."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.errors import Permanent, SourceChanged, StoreMissing
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.ports import LocalFile
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import fill, make_store

LEAF = leaves.LEAF_BYTES


def test_it_is_what_the_core_expects(store: FileStore) -> None:
    reader: LocalFile = store.open(fill(store, b"content").file_id)
    assert reader.size == 7
    reader.close()
    reader.close()


def test_leaves_are_read_by_several_threads(store: FileStore) -> None:
    data = factories.content(2 * LEAF + 99)
    file = fill(store, data)
    with store.open(file.file_id) as reader, ThreadPoolExecutor(3) as pool:
        read = pool.map(lambda index: bytes(reader.read_leaf(index, memoryview(bytearray(LEAF)))), range(3))
        assert b"".join(read) == data


def test_a_slice_is_read_into_the_buffer(store: FileStore) -> None:
    file = fill(store, b"some content")
    into = memoryview(bytearray(4))
    with store.open(file.file_id) as reader:
        reader.read(5, into)
    assert bytes(into) == b"cont"


def test_reading_beyond_the_end_is_an_error(store: FileStore) -> None:
    file = fill(store, b"content")
    with store.open(file.file_id) as reader, pytest.raises(SourceChanged, match="ends after 7"):
        reader.read(5, memoryview(bytearray(3)))


def test_a_file_that_is_cut_while_it_is_read_is_an_error(store: FileStore) -> None:
    file = fill(store, b"content")
    with store.open(file.file_id) as reader:
        os.truncate(store.path(file.file_id), 3)
        with pytest.raises(SourceChanged, match=file.file_id):
            reader.read(0, memoryview(bytearray(7)))


def test_a_file_that_is_written_to_while_it_is_read_is_an_error(store: FileStore) -> None:
    file = fill(store, b"content")
    path = store.path(file.file_id)
    os.utime(path, (1, 1))
    with store.open(file.file_id) as reader:
        path.chmod(0o644)
        with path.open("r+b") as other:
            other.write(b"X")
        with pytest.raises(SourceChanged, match="written to"):
            reader.read(0, memoryview(bytearray(7)))


def test_a_sector_that_cannot_be_read_is_not_a_missing_drive(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fill(store, b"content")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with store.open(file.file_id) as reader:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(Permanent, match="Input/output error"):
            reader.read(0, memoryview(bytearray(7)))


def test_a_drive_that_fails_because_it_was_pulled_out_is_a_missing_one(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(drive.path / "store")
    file = fill(store, b"content")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with store.open(file.file_id) as reader:
        drive.pull()
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(StoreMissing):
            reader.read(0, memoryview(bytearray(7)))
