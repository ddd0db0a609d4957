"""Corrupt copies: found by reading the disk, put aside, and what is good of them kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dmedia_transfer.errors import FileMissing, SourceChanged, StoreMissing
from dmedia_transfer.filestore import FileStore, FileStores
from tests.unit.filestore.conftest import fill, make_store

FILE_ID = "A" * 48


def test_a_file_is_read_from_the_disk_leaf_by_leaf(store: FileStore) -> None:
    file = fill(store, b"0123456789")
    scrub = store.scrub(file.file_id)
    assert scrub is not None
    buffer = memoryview(bytearray(4))
    assert (scrub.size, scrub.read(2, buffer), bytes(buffer)) == (10, True, b"2345")
    assert scrub.read(8, buffer) is False
    scrub.close()
    scrub.close()


def test_a_file_that_somebody_writes_to_cannot_be_proven(store: FileStore) -> None:
    file = fill(store, b"0123456789")
    scrub = store.scrub(file.file_id)
    assert scrub is not None
    os.utime(store.path(file.file_id), (1, 1))
    with pytest.raises(SourceChanged, match=f"file {file.file_id} in store"):
        scrub.read(0, memoryview(bytearray(1)))
    scrub.close()


def test_a_corrupt_copy_is_served_no_more_and_can_still_be_looked_at(store: FileStore) -> None:
    file = fill(store, b"0123456789")
    before = store.scrub(file.file_id)
    assert store.quarantine(file.file_id)
    assert not store.quarantine(file.file_id)
    assert not store.has(file.file_id)
    assert list(store.files()) == []
    with pytest.raises(FileMissing):
        store.open(file.file_id)
    after = store.scrub(file.file_id)
    assert before is not None
    assert after is not None
    assert (after.identity, after.size) == (before.identity, 10)
    before.close()
    after.close()


def test_a_salvaged_copy_is_a_partial_file_that_can_be_written(store: FileStore) -> None:
    file = fill(store, b"0123456789")
    os.utime(store.path(file.file_id), (1, 1))
    store.quarantine(file.file_id)
    assert store.quarantined(file.file_id)
    assert store.salvage(file.file_id)
    assert not store.quarantined(file.file_id)
    (partial,) = store.partials()
    assert partial.mtime > 1, "a sweep would take it for old"
    with store.partial(file.file_id, file.size) as opened:
        buffer = memoryview(bytearray(10))
        assert opened.read_leaf(0, buffer)
        assert bytes(buffer) == b"0123456789"
        opened.publish()
    assert store.has(file.file_id)


def test_what_is_in_quarantine_goes_when_it_is_of_no_use(store: FileStore) -> None:
    file = fill(store, b"0123456789")
    store.quarantine(file.file_id)
    fill(store, b"0123456789")
    assert store.salvage(file.file_id) is False
    assert not store.quarantined(file.file_id)
    store.quarantine(file.file_id)
    assert store.remove(file.file_id) is False
    assert not store.quarantined(file.file_id)


def test_all_stores_that_have_a_corrupt_copy_give_it_up(tmp_path: Path) -> None:
    stores = {name * 24: make_store(tmp_path / name, name * 24) for name in "AB"}
    file = fill(stores["A" * 24], b"0123456789")
    stores["A" * 24].quarantine(file.file_id)
    known = FileStores(lambda: {store_id: store.root for store_id, store in stores.items()})
    assert [spec.store_id for spec in known.homes()] == ["A" * 24, "B" * 24]
    assert known.salvage(file.file_id) == ["A" * 24]
    assert known.salvage(file.file_id) == []
    partial = known.partial(file.file_id)
    assert partial is not None
    assert partial.store_id == "A" * 24


def test_nothing_is_found_in_a_store_that_is_not_there(tmp_path: Path) -> None:
    store = FileStore("A" * 24, tmp_path / "gone")
    assert not store.quarantined(FILE_ID)
    with pytest.raises(StoreMissing):
        store.scrub(FILE_ID)
    assert FileStores(lambda: {"A" * 24: tmp_path / "gone"}).homes() == []
