"""FileStore."""

from __future__ import annotations

import os
import pickle
import stat
import time
from pathlib import Path

import pytest

from dmedia_transfer.errors import DiskFull, FileMissing, InvalidInput, InvalidRequest, StoreMissing, Transient
from dmedia_transfer.filestore import FileStore
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import MIB, fill, make_store

FILE_ID = "A" * 48


def test_a_store_that_was_made_is_there(store: FileStore) -> None:
    store.check()
    assert FileStore.store_at(store.root) == store.store_id


def test_making_it_again_changes_nothing(store: FileStore) -> None:
    file = fill(store, b"content")
    FileStore.create(store.root, store.store_id)
    assert store.has(file.file_id)


def test_a_directory_that_is_another_store_is_not_taken(store: FileStore) -> None:
    with pytest.raises(InvalidRequest, match=store.store_id):
        FileStore.create(store.root, factories.OTHER_STORE_ID)


@pytest.mark.parametrize("bad", ["", "short", "../" + "A" * 21, "a" * 24])
def test_a_store_id_that_is_none_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a store ID"):
        FileStore.create(tmp_path / "store", bad)
    assert not (tmp_path / "store").exists()


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="absolute"):
        FileStore.create(Path("store"), factories.STORE_ID)


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no directory")
    with pytest.raises(InvalidRequest, match="not a directory"):
        FileStore.create(tmp_path / "store", factories.STORE_ID)


def test_a_directory_that_is_not_there_is_a_missing_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=factories.STORE_ID):
        FileStore(factories.STORE_ID, tmp_path / "store").check()


def test_an_empty_mount_point_is_a_missing_store_and_stays_empty(tmp_path: Path) -> None:
    store = FileStore(factories.STORE_ID, tmp_path, floor_bytes=0)
    with pytest.raises(StoreMissing, match="mounted"):
        store.partial(FILE_ID, 10)
    source = tmp_path.parent / f"{tmp_path.name}-source"
    source.write_bytes(b"content")
    with pytest.raises(StoreMissing):
        store.import_file(source)
    source.unlink()
    assert list(tmp_path.iterdir()) == []
    assert not store.has(FILE_ID)


def test_another_store_in_its_place_is_a_missing_store(store: FileStore) -> None:
    other = FileStore(factories.OTHER_STORE_ID, store.root)
    with pytest.raises(StoreMissing, match=f"the store there is {store.store_id}"):
        other.check()


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"\xff", b'{"store_id": 5}', b"{}"])
def test_a_marker_that_cannot_be_understood_is_a_missing_store(store: FileStore, marker: bytes) -> None:
    (store.root / "filestore.json").write_bytes(marker)
    with pytest.raises(StoreMissing):
        store.check()
    assert FileStore.store_at(store.root) is None


@pytest.mark.parametrize("bad", ["", "A" * 47, "../../../../etc/passwd", "A" * 47 + "/", "a" * 48, "A" * 48 + "\n"])
def test_no_id_that_is_none_reaches_the_file_system(store: FileStore, bad: str) -> None:
    before = sorted(store.root.rglob("*"))
    for call in (store.path, store.has, store.size, store.open, store.discard, store.remove):
        with pytest.raises(InvalidInput, match="is not a file ID"):
            call(bad)
    with pytest.raises(InvalidInput, match="is not a file ID"):
        store.partial(bad, 10)
    assert sorted(store.root.rglob("*")) == before


def test_a_published_file_is_read_only_under_the_first_two_characters_of_its_id(store: FileStore) -> None:
    file = fill(store, b"content")
    path = store.root / "files" / file.file_id[:2] / file.file_id
    assert store.path(file.file_id) == path
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert store.has(file.file_id)
    assert store.size(file.file_id) == 7


def test_a_partial_file_is_not_a_complete_one(store: FileStore) -> None:
    store.partial(FILE_ID, 10).close()
    assert not store.has(FILE_ID)
    with pytest.raises(FileMissing, match=FILE_ID):
        store.open(FILE_ID)
    with pytest.raises(FileMissing, match=FILE_ID):
        store.size(FILE_ID)


def test_what_is_no_regular_file_is_not_there(store: FileStore) -> None:
    store.path(FILE_ID).parent.mkdir(parents=True)
    store.path(FILE_ID).symlink_to("/etc/hostname")
    assert not store.has(FILE_ID)
    with pytest.raises((FileMissing, StoreMissing)):
        store.open(FILE_ID)


def test_complete_and_partial_files_are_listed_and_nothing_else(store: FileStore) -> None:
    file = fill(store, b"content")
    store.partial(FILE_ID, 10).close()
    (store.root / "files" / "stray").write_text("")
    (store.root / "files" / "AA").mkdir()
    (store.root / "files" / "AA" / "stray").write_text("")
    (store.root / "files" / "AA" / ("B" * 48)).write_text("in the wrong folder")
    [found] = store.files()
    assert (found.file_id, found.size) == (file.file_id, 7)
    [part] = store.partials()
    assert (part.file_id, part.size) == (FILE_ID, 10)
    assert part.mtime == pytest.approx(time.time(), abs=60)


def test_removing_a_file_says_whether_it_was_there(store: FileStore) -> None:
    file = fill(store, b"content")
    assert store.remove(file.file_id)
    assert not store.remove(file.file_id)
    assert not store.has(file.file_id)


def test_discarding_a_partial_file_says_whether_it_was_there(store: FileStore) -> None:
    store.partial(FILE_ID, 10).close()
    assert store.discard(FILE_ID)
    assert not store.discard(FILE_ID)
    assert list(store.partials()) == []


def test_a_partial_file_that_a_worker_has_is_not_discarded(store: FileStore) -> None:
    with store.partial(FILE_ID, 10), pytest.raises(Transient, match="in use"):
        store.discard(FILE_ID)
    assert store.discard(FILE_ID)


def test_the_floor_is_the_lesser_of_bytes_and_percent(store: FileStore) -> None:
    disk = os.statvfs(store.root)
    total = disk.f_blocks * disk.f_frsize
    free = FileStore(store.store_id, store.root, floor_bytes=0).free_bytes()

    def floor(floor_bytes: int, floor_percent: float) -> int:
        floored = FileStore(store.store_id, store.root, floor_bytes=floor_bytes, floor_percent=floor_percent)
        return free - floored.free_bytes()

    slack = 512 * MIB  # others write to this disk, too
    assert floor(1024 * MIB, 100.0) == pytest.approx(1024 * MIB, abs=slack)
    assert floor(1 << 60, 1.0) == pytest.approx(total * 0.01, abs=slack)


def test_there_is_no_less_than_no_room(store: FileStore) -> None:
    full = FileStore(store.store_id, store.root, floor_bytes=1 << 60, floor_percent=100.0)
    assert full.free_bytes() == 0
    assert not full.room_for(1)
    with pytest.raises(DiskFull, match="above its floor"):
        full.partial(FILE_ID, 1)
    assert list(store.partials()) == []


def test_a_partial_file_that_has_its_room_is_opened_below_the_floor(store: FileStore) -> None:
    store.partial(FILE_ID, 4 * MIB).close()
    full = FileStore(store.store_id, store.root, floor_bytes=1 << 60, floor_percent=100.0)
    assert full.missing_bytes(FILE_ID, 4 * MIB) == 0
    with full.partial(FILE_ID, 4 * MIB) as partial:
        assert not partial.fresh


def test_a_store_crosses_to_a_worker_as_its_spec(store: FileStore) -> None:
    spec = pickle.loads(pickle.dumps(FileStore(store.store_id, store.root, floor_bytes=5, floor_percent=6.0).spec))
    there = FileStore.of(spec)
    assert (there.store_id, there.root, there.floor_bytes, there.floor_percent) == (store.store_id, store.root, 5, 6.0)
    assert (spec.plugin, spec.local, spec.cost) == ("filestore", True, 0)


def test_a_drive_that_was_pulled_out_is_missing_until_it_is_back(drive: Drive) -> None:
    store = make_store(drive.path / "store")
    file = fill(store, b"content")
    drive.pull()
    assert not store.has(file.file_id)
    for call in (store.check, store.free_bytes, lambda: list(store.files()), lambda: store.open(file.file_id)):
        with pytest.raises(StoreMissing):
            call()
    assert list(drive.path.iterdir()) == []
    drive.plug()
    with store.open(file.file_id) as reader:
        assert reader.size == 7
