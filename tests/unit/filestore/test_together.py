"""Small files that get their names in groups: each is on the disk before, and one that cannot be is the only one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.errors import DiskFull, StoreMissing, Transient
from dmedia_transfer.filestore import FileStore, Together, system
from dmedia_transfer.model import FileSpec
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import MIB, fill, make_store

DATA = [factories.content(1000 + seed, seed=seed) for seed in range(6)]


@pytest.fixture(params=["one sync", "each by itself"])
def as_one(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways in which data is made to last."""
    one = bool(request.param == "one sync")
    monkeypatch.setattr(system, "syncs_together", lambda root: one)
    return one


def written(together: Together, *datas: bytes) -> tuple[list[FileSpec], list[Any]]:
    files = [factories.file_spec(data) for data in datas]
    return files, [together.write(file.file_id, memoryview(data)) for file, data in zip(files, datas, strict=True)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.usefixtures("as_one")
def test_files_get_their_names_and_are_read_only(store: FileStore) -> None:
    before = open_files()
    with Together(store) as together:
        files, group = written(together, *DATA)
        assert not any(store.has(file.file_id) for file in files)
        assert together.publish(group) == {}
    for file, data in zip(files, DATA, strict=True):
        path = store.path(file.file_id)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o444
    assert list(store.partials()) == []
    assert open_files() == before


@pytest.mark.usefixtures("as_one")
def test_nothing_has_its_name_before_all_data_is_synced(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def noting(name: str, call: Any) -> Any:
        def note(*args: Any, **kwargs: Any) -> Any:
            said.append(name)
            return call(*args, **kwargs)

        return note

    monkeypatch.setattr(system, "sync_file_system", noting("sync", system.sync_file_system))
    monkeypatch.setattr(os, "fsync", noting("sync", os.fsync))
    monkeypatch.setattr(os, "rename", noting("rename", os.rename))
    with Together(store) as together:
        _, group = written(together, *DATA[:3])
        said.clear()
        together.publish(group)
    first, last = said.index("rename"), len(said) - said[::-1].index("rename")
    assert "sync" in said[:first]
    assert "sync" in said[last:]
    assert "sync" not in said[first:last]


def test_what_is_there_in_any_way_is_not_taken(store: FileStore) -> None:
    complete, corrupt = fill(store, DATA[0]), fill(store, DATA[1])
    store.quarantine(corrupt.file_id)
    begun = factories.file_spec(DATA[2])
    store.partial(begun.file_id, begun.size).close()
    fresh = factories.file_spec(DATA[3])
    with Together(store) as together:
        assert [together.takes(file.file_id) for file in (complete, corrupt, begun, fresh)] == [False] * 3 + [True]
        with pytest.raises(Transient):
            together.write(begun.file_id, memoryview(DATA[2]))
    assert store.partial_mtime(begun.file_id) is not None


def test_a_file_that_is_being_written_is_nobody_elses(store: FileStore) -> None:
    with Together(store) as together:
        (file,), group = written(together, DATA[0])
        with pytest.raises(Transient, match="use"):
            store.partial(file.file_id, file.size)
        with pytest.raises(Transient):
            store.discard(file.file_id)
        together.drop(group)
    assert list(store.partials()) == []


@pytest.mark.usefixtures("as_one")
def test_one_that_was_removed_meanwhile_fails_alone(store: FileStore) -> None:
    with Together(store) as together:
        files, group = written(together, *DATA[:3])
        (store.root / "partial" / files[1].file_id[:2] / files[1].file_id).unlink()
        failed = together.publish(group)
    assert list(failed) == [files[1].file_id]
    assert isinstance(failed[files[1].file_id], Transient)
    assert [store.has(file.file_id) for file in files] == [True, False, True]


@pytest.mark.usefixtures("as_one")
def test_one_that_was_cut_or_replaced_meanwhile_is_not_published(store: FileStore) -> None:
    with Together(store) as together:
        files, group = written(together, *DATA[:2])
        os.truncate(group[0].fd, 10)
        path = store.root / "partial" / files[1].file_id[:2] / files[1].file_id
        path.unlink()
        path.write_bytes(b"something else")
        failed = together.publish(group)
    assert set(failed) == {file.file_id for file in files}
    assert not any(store.has(file.file_id) for file in files)


def test_when_the_disk_fails_nothing_is_published_and_nothing_is_left(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(system, "syncs_together", lambda root: True)
    with Together(store) as together:
        files, group = written(together, *DATA[:3])
        monkeypatch.setattr(system, "sync_file_system", fails)
        failed = together.publish(group)
    assert set(failed) == {file.file_id for file in files}
    assert all(isinstance(error, StoreMissing) for error in failed.values())
    assert not any(store.has(file.file_id) for file in files)
    assert list(store.partials()) == []


def test_one_that_cannot_be_synced_is_not_published_and_the_others_are(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "syncs_together", lambda root: False)
    with Together(store) as together:
        files, group = written(together, *DATA[:3])
        real = os.fsync

        def fails(fd: int) -> None:
            if fd == group[1].fd:
                raise OSError(errno.EIO, "Input/output error")
            real(fd)

        monkeypatch.setattr(os, "fsync", fails)
        failed = together.publish(group)
    assert list(failed) == [files[1].file_id]
    assert [store.has(file.file_id) for file in files] == [True, False, True]


def test_a_full_drive_leaves_no_partial_file(drive: Drive) -> None:
    store = make_store(drive.path)
    data = factories.content(7 * MIB)
    with Together(store) as together:
        _, group = written(together, data, data[1:])
        with pytest.raises(DiskFull):
            written(together, data[2:])
        together.publish(group)
    assert len(list(store.files())) == 2
    assert list(store.partials()) == []


def test_a_drive_that_was_pulled_out_gets_no_names(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with Together(store) as together:
        files, group = written(together, DATA[0])
        store.root.rename(tmp_path / "elsewhere")
        failed = together.publish(group)
    assert isinstance(failed[files[0].file_id], StoreMissing)
    assert not list((tmp_path / "elsewhere" / "files").rglob(files[0].file_id))


def test_this_file_system_is_asked_whether_one_sync_is_enough(tmp_path: Path) -> None:
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert not system.syncs_together(fd), "only those of which it is known"
    finally:
        os.close(fd)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if system.syncs_together(fd):
            system.sync_file_system(fd)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="descriptor"):
        system.sync_file_system(-1)
