"""Importing: copy or reflink, hash what was copied, publish."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.errors import DiskFull, Interrupted, InvalidInput, SourceChanged
from dmedia_transfer.filestore import FileStore, importing, system
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import MIB, make_store

LEAF = leaves.LEAF_BYTES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three leaves, the last one short."""
    path = tmp_path / "film.mkv"
    path.write_bytes(factories.content(2 * LEAF + 777))
    return path


def left_over(store: FileStore) -> list[str]:
    """What an import left in `partial/`."""
    return [path.name for path in (store.root / "partial").rglob("*") if path.is_file()]


def test_what_was_copied_is_published_under_its_hash(store: FileStore, source: Path) -> None:
    file = factories.file_spec(source.read_bytes())
    imported = store.import_file(source)
    assert (imported.file_id, imported.size, imported.leaf_digests) == (file.file_id, file.size, file.leaf_digests)
    assert not imported.existed
    assert store.path(file.file_id).read_bytes() == source.read_bytes()
    assert stat.S_IMODE(store.path(file.file_id).stat().st_mode) == 0o444
    assert left_over(store) == []


@pytest.mark.parametrize("size", [1, LEAF - 1, LEAF, LEAF + 1])
def test_files_of_every_kind_of_length_are_imported(store: FileStore, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(factories.content(size))
    assert store.import_file(path).file_id == factories.file_spec(path.read_bytes()).file_id


def test_it_is_never_a_hard_link(store: FileStore, source: Path) -> None:
    imported = store.import_file(source)
    assert store.path(imported.file_id).stat().st_ino != source.stat().st_ino
    with source.open("r+b") as file:
        file.write(b"changed")
    assert factories.file_spec(store.path(imported.file_id).read_bytes()).file_id == imported.file_id


def test_a_file_that_is_there_already_is_said_to_have_existed(store: FileStore, source: Path) -> None:
    first = store.import_file(source)
    inode = store.path(first.file_id).stat().st_ino
    again = store.import_file(source)
    assert (again.file_id, again.existed) == (first.file_id, True)
    assert store.path(first.file_id).stat().st_ino == inode
    assert left_over(store) == []


def test_a_file_system_that_can_share_blocks_is_asked_and_the_copy_itself_is_hashed(
    store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source_fd: int, target_fd: int) -> bool:
        os.sendfile(target_fd, source_fd, 0, source.stat().st_size)
        os.pwrite(target_fd, b"the copy differs", 0)
        return True

    monkeypatch.setattr(system, "clone", clone)
    imported = store.import_file(source)
    assert imported.file_id == factories.file_spec(store.path(imported.file_id).read_bytes()).file_id
    assert imported.file_id != factories.file_spec(source.read_bytes()).file_id


@pytest.mark.parametrize("name", ["empty", "folder", "fifo", "nothing", "empty/below"])
def test_what_is_no_file_with_bytes_in_it_is_refused(store: FileStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidInput, match=name.split("/")[0]):
        store.import_file(tmp_path / name)
    assert left_over(store) == []


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [grow, rewrite, replace, Path.unlink, lambda path: os.truncate(path, 5)])
def test_a_source_that_changes_meanwhile_is_not_imported(
    store: FileStore, source: Path, change: Callable[[Path], object]
) -> None:
    os.utime(source, (1, 1))
    changed: list[bool] = []

    def change_once() -> bool:
        if not changed:
            changed.append(True)
            change(source)
        return False

    with pytest.raises(SourceChanged, match=str(source)):
        store.import_file(source, cancelled=change_once)
    assert list(store.files()) == []
    assert left_over(store) == []


def test_progress_goes_from_leaf_to_leaf_up_to_the_total(store: FileStore, source: Path) -> None:
    size = source.stat().st_size
    seen: list[tuple[int, int]] = []
    store.import_file(source, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
    assert {total for _, total in seen} == {size}


def test_a_cancelled_import_leaves_nothing(store: FileStore, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "THREADS", 1)
    seen: list[int] = []
    with pytest.raises(Interrupted):
        store.import_file(source, progress=lambda done, _: seen.append(done), cancelled=lambda: bool(seen))
    assert len(seen) == 1
    assert list(store.files()) == []
    assert left_over(store) == []


def test_an_import_that_does_not_fit_is_refused_before_a_byte_is_copied(store: FileStore, source: Path) -> None:
    full = FileStore(store.store_id, store.root, floor_bytes=1 << 60, floor_percent=100.0)
    with pytest.raises(DiskFull, match="above its floor"):
        full.import_file(source)
    assert left_over(store) == []


def test_a_disk_that_is_full_in_earnest_is_said_to_be(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(drive.path / "store")
    source = tmp_path / "big"
    source.write_bytes(bytes(drive.size + MIB))
    if drive.mounted:
        monkeypatch.setattr(FileStore, "free_bytes", lambda self: 1 << 60)
    else:
        store = FileStore(store.store_id, store.root, floor_bytes=1 << 60, floor_percent=100.0)
    with pytest.raises(DiskFull):
        store.import_file(source)
    assert left_over(store) == []


def test_an_import_that_was_killed_leaves_a_copy_that_a_sweep_removes_when_it_is_old(
    store: FileStore, source: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from dmedia_transfer.filestore import FileStore\n"
        "FileStore(sys.argv[2], Path(sys.argv[1]), floor_bytes=0).import_file(Path(sys.argv[3]))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(store.root), store.store_id, str(source)],
        env={"DMEDIA_FAULT": "publish.fsync"},
        check=False,
        timeout=60,
    )
    assert killed.returncode == -9
    [name] = left_over(store)
    assert store.sweep_imports() == 0  # it could be one that is running
    hours_ago = time.time() - 7200
    os.utime(store.root / "partial" / name, (hours_ago, hours_ago))
    assert store.sweep_imports() == 1
    assert left_over(store) == []
    assert list(store.files()) == []


def test_memory_stays_flat(store: FileStore, tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(20 * LEAF)
    code = (
        "import resource, sys; from pathlib import Path; from dmedia_transfer.filestore import FileStore\n"
        "FileStore(sys.argv[2], Path(sys.argv[1]), floor_bytes=0).import_file(Path(sys.argv[3]))\n"
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(store.root), store.store_id, str(path)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert int(run.stdout) < 44 + (importing.THREADS + 1) * 8
