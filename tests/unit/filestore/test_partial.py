"""Partial files: written by leaf, trusted as long as what was written cannot be lost, published whole."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.errors import (
    AccessDenied,
    DiskFull,
    InvalidInput,
    Permanent,
    StoreMissing,
    TransferError,
    Transient,
)
from dmedia_transfer.filestore import FileStore, Partial, system
from dmedia_transfer.ports import PartialFile
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import MIB, make_store

FILE_ID = "A" * 48
LEAF = leaves.LEAF_BYTES


def whole(store: FileStore, data: bytes) -> Partial:
    """An open partial file in which all leaves were written."""
    file = factories.file_spec(data)
    partial = store.partial(file.file_id, file.size)
    for index in range(leaves.leaf_count(len(data))):
        partial.write_leaf(index, memoryview(data)[index * LEAF : (index + 1) * LEAF])
    return partial


def failing(number: int) -> Callable[..., Any]:
    """A system call that fails with this error."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_it_is_what_the_core_expects(store: FileStore) -> None:
    partial: PartialFile = store.partial(FILE_ID, 10)
    partial.close()


def test_leaves_are_written_at_their_offsets_by_several_threads_in_any_order(store: FileStore) -> None:
    data = factories.content(2 * LEAF + 1234)
    file = factories.file_spec(data)
    with store.partial(file.file_id, file.size) as partial, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: partial.write_leaf(i, memoryview(data)[i * LEAF : (i + 1) * LEAF]), (2, 0, 1)))
        partial.publish()
    assert store.path(file.file_id).read_bytes() == data
    assert list(store.partials()) == []


def test_a_new_one_has_its_length_and_its_room(store: FileStore) -> None:
    with store.partial(FILE_ID, 3 * MIB) as partial:
        assert partial.fresh
    status = (store.root / "partial" / FILE_ID[:2] / FILE_ID).stat()
    assert status.st_size == 3 * MIB
    assert status.st_blocks * 512 >= 3 * MIB
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_a_file_system_that_cannot_preallocate_gives_the_length_only(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoFallocate:
        def fallocate64(self, *_: object) -> int:
            import ctypes

            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(system, "_libc", _Instead(system._libc, NoFallocate()))
    with store.partial(FILE_ID, 3 * MIB):
        status = (store.root / "partial" / FILE_ID[:2] / FILE_ID).stat()
    assert (status.st_size, status.st_blocks) == (3 * MIB, 0)


class _Instead:
    """An object with some attributes taken from another one."""

    def __init__(self, real: object, instead: object) -> None:
        self._real, self._instead = real, instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instead, name, None) or getattr(self._real, name)


def test_a_leaf_can_be_read_back_and_one_that_was_not_written_cannot(store: FileStore) -> None:
    data = factories.content(LEAF)
    with store.partial(FILE_ID, 2 * LEAF + 5) as partial:
        partial.write_leaf(1, memoryview(data))
        into = memoryview(bytearray(LEAF))
        assert partial.read_leaf(1, into)
        assert bytes(into) == data
        assert not partial.read_leaf(0, into)
        assert not partial.read_leaf(2, into)


def test_who_looks_for_what_was_never_written_does_not_wait_for_who_writes(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    lseek = os.lseek

    def counting(fd: int, start: int, whence: int) -> int:
        looked.append(start)
        return lseek(fd, start, whence)

    with store.partial(FILE_ID, 5 * LEAF + 5) as partial:
        partial.write_leaf(3, memoryview(factories.content(LEAF)))
    with store.partial(FILE_ID, 5 * LEAF + 5) as partial:
        into = memoryview(bytearray(LEAF))
        monkeypatch.setattr(os, "lseek", counting)
        assert [partial.read_leaf(index, into) for index in range(6)] == [False, False, False, True, False, False]
        assert looked == [0, 3 * LEAF, 4 * LEAF]  # the kernel answers none of these while a leaf is written
        partial.write_leaf(1, memoryview(factories.content(LEAF, seed=1)))
        assert partial.read_leaf(1, into)
        assert bytes(into) == factories.content(LEAF, seed=1)


def test_in_a_new_file_nothing_is_looked_for_where_the_file_system_knows_no_holes(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "lseek", lambda fd, start, whence: start)
    into = memoryview(bytearray(LEAF))
    with store.partial(FILE_ID, 2 * LEAF) as partial:
        assert not partial.read_leaf(0, into)
        partial.write_leaf(1, memoryview(factories.content(LEAF)))
        assert partial.read_leaf(1, into)
    with store.partial(FILE_ID, 2 * LEAF) as partial:
        assert partial.read_leaf(0, into)  # zeros, as far as anybody can tell


def test_a_leaf_is_written_in_pieces_whatever_the_kernel_takes_of_each(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    pwrite = os.pwrite

    def reluctant(fd: int, data: memoryview, start: int) -> int:
        sizes.append(len(data))
        return pwrite(fd, data[:50_000], start)

    data = factories.content(300_000)
    with store.partial(FILE_ID, len(data)) as partial:
        monkeypatch.setattr(os, "pwrite", reluctant)
        partial.write_leaf(0, memoryview(data))
        into = memoryview(bytearray(len(data)))
        assert partial.read_leaf(0, into)
    assert bytes(into) == data
    assert max(sizes) == system.WRITE_BYTES


def test_the_disk_gets_each_leaf_as_it_is_written_and_not_all_of_them_at_the_end(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(system, "start_writing", lambda fd, start, size: begun.append((start, size)))
    with store.partial(FILE_ID, LEAF + 5) as partial:
        partial.write_leaf(1, memoryview(bytes(5)))
        partial.write_leaf(0, memoryview(bytes(LEAF)))
    assert begun == [(LEAF, 5), (0, LEAF)]


def test_a_file_that_was_cut_does_not_hold_its_last_leaf(store: FileStore) -> None:
    with store.partial(FILE_ID, 2 * LEAF) as partial:
        partial.write_leaf(1, memoryview(factories.content(LEAF)))
        os.truncate(store.root / "partial" / FILE_ID[:2] / FILE_ID, 2 * LEAF - 1)
        assert not partial.read_leaf(1, memoryview(bytearray(LEAF)))


@pytest.mark.parametrize("size", [0, LEAF - 1, LEAF + 1])
def test_a_leaf_of_another_size_is_refused(store: FileStore, size: int) -> None:
    with store.partial(FILE_ID, 2 * LEAF) as partial, pytest.raises(InvalidInput, match="leaf 0"):
        partial.write_leaf(0, memoryview(bytes(size)))


def test_a_leaf_beyond_the_end_is_refused(store: FileStore) -> None:
    with store.partial(FILE_ID, LEAF) as partial, pytest.raises(InvalidInput, match="leaf 1"):
        partial.write_leaf(1, memoryview(bytes(1)))


def test_one_that_is_longer_than_the_file_is_cut(store: FileStore) -> None:
    store.partial(FILE_ID, 100).close()
    store.partial(FILE_ID, 60).close()
    assert [found.size for found in store.partials()] == [60]


# Who has it


def test_two_workers_cannot_have_it_at_once(store: FileStore) -> None:
    with store.partial(FILE_ID, 10), pytest.raises(Transient, match="another worker"):
        store.partial(FILE_ID, 10)
    store.partial(FILE_ID, 10).close()


def test_a_worker_that_was_killed_has_it_no_more(store: FileStore) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root), store.store_id, FILE_ID], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Transient, match="another worker"):
            store.partial(FILE_ID, 10)
    finally:
        holder.kill()
        holder.wait(timeout=10)
        holder.stdout.close() if holder.stdout else None
    store.partial(FILE_ID, 10).close()


HOLD = """
import sys, time
from pathlib import Path
from dmedia_transfer.filestore import FileStore
partial = FileStore(sys.argv[2], Path(sys.argv[1]), floor_bytes=0).partial(sys.argv[3], 10)
print("held", flush=True)
time.sleep(60)
"""


def test_one_that_was_removed_by_hand_is_not_published(store: FileStore) -> None:
    with whole(store, b"content") as partial:
        (store.root / "partial" / partial.file_id[:2] / partial.file_id).unlink()
        with pytest.raises(Transient, match="removed"):
            partial.publish()
    assert not store.has(partial.file_id)


def test_one_that_was_cut_is_not_published(store: FileStore) -> None:
    with whole(store, b"content") as partial:
        os.truncate(store.root / "partial" / partial.file_id[:2] / partial.file_id, 3)
        with pytest.raises(Transient, match="length"):
            partial.publish()
    assert not store.has(partial.file_id)


def test_publishing_over_an_equal_file_is_fine_and_disturbs_no_reader(store: FileStore) -> None:
    with whole(store, b"content") as partial:
        partial.publish()
    with store.open(partial.file_id) as reader, whole(store, b"content") as again:
        again.publish()
        into = memoryview(bytearray(7))
        reader.read(0, into)
        assert bytes(into) == b"content"


def test_closing_twice_is_harmless(store: FileStore) -> None:
    partial = store.partial(FILE_ID, 10)
    partial.close()
    partial.close()


def test_no_file_stays_open(store: FileStore) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with whole(store, b"content") as partial:
        partial.publish()
    with pytest.raises(Transient), store.partial(FILE_ID, 10):
        store.partial(FILE_ID, 10)
    store.discard(FILE_ID)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# What is trusted


def test_its_identity_stays_while_it_lies_where_it_is(store: FileStore) -> None:
    with store.partial(FILE_ID, 10) as first:
        identity = first.identity
    with store.partial(FILE_ID, 10) as again:
        assert again.identity == identity
        assert not again.fresh


def test_a_later_file_in_its_place_has_another_identity(store: FileStore) -> None:
    identities = set()
    for _ in range(5):  # a file system gives the number of an inode that was freed to the next file
        with store.partial(FILE_ID, 10) as partial:
            identities.add(partial.identity)
        store.discard(FILE_ID)
    assert len(identities) == 5


def test_where_files_have_no_birth_time_no_record_is_trusted_by_the_next_one(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "birth_time", lambda fd: None)
    with store.partial(FILE_ID, 10) as first:
        identity = first.identity
        assert first.identity == identity
    with store.partial(FILE_ID, 10) as again:
        assert again.identity != identity


def test_a_boot_changes_its_identity(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.partial(FILE_ID, 10) as first:
        identity = first.identity
    monkeypatch.setattr(system, "boot_id", lambda: "another boot")
    with store.partial(FILE_ID, 10) as again:
        assert again.identity != identity


def test_a_drive_that_was_pulled_out_and_put_back_changes_its_identity(drive: Drive) -> None:
    if not drive.mounted:
        pytest.xfail("a folder that is moved is on the same mount; this needs the right to mount")
    store = make_store(drive.path / "store")
    with store.partial(FILE_ID, 10) as first:
        identity = first.identity
    drive.pull()
    drive.plug()
    with store.partial(FILE_ID, 10) as again:
        _, never_again = system.mount_id(again._fd)
        assert again.identity != identity or not never_again


@pytest.mark.parametrize("on_root", [True, False])
def test_where_the_id_of_a_mount_can_come_back_each_leaf_is_on_the_disk_before_it_is_recorded(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, on_root: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(system, "mount_id", lambda fd: ("7", False))
    monkeypatch.setattr(system, "is_root_device", lambda device: on_root)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with store.partial(FILE_ID, 10) as partial:
        partial.write_leaf(0, memoryview(bytes(10)))
    assert len(synced) == (0 if on_root else 1)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, StoreMissing),
        (errno.ENODEV, StoreMissing),
        (errno.ESTALE, StoreMissing),
        (errno.EROFS, StoreMissing),
        (errno.EACCES, AccessDenied),
        (errno.EFBIG, Permanent),
    ],
)
def test_after_an_error_from_a_write_nothing_is_trusted(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[TransferError]
) -> None:
    with store.partial(FILE_ID, 2 * LEAF) as partial:
        before = partial.identity
        partial.write_leaf(0, memoryview(bytes(LEAF)))
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", failing(number))
            with pytest.raises(expected, match="leaf 1 of partial file"):
                partial.write_leaf(1, memoryview(bytes(LEAF)))
        assert partial.failed
        assert partial.identity != before
        with pytest.raises(expected):
            partial.write_leaf(1, memoryview(bytes(LEAF)))
        with pytest.raises(expected):
            partial.publish()
    assert not store.has(FILE_ID)
    with store.partial(FILE_ID, 2 * LEAF) as again:
        assert not again.failed
        assert again.identity not in (
            before,
            partial.identity,
        )  # the worker may have died before it dropped the records


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_after_an_error_from_the_sync_nothing_is_published(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with whole(store, b"content") as partial:
        before = partial.identity
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(number))
            with pytest.raises((StoreMissing, DiskFull), match="publishing"):
                partial.publish()
        assert partial.failed
        with pytest.raises((StoreMissing, DiskFull)):
            partial.publish()  # although the sync would succeed now
    assert not store.has(partial.file_id)
    with whole(store, b"content") as again:
        assert again.identity != before
        again.publish()
    assert store.path(again.file_id).read_bytes() == b"content"
    assert stat.S_IMODE(store.path(again.file_id).stat().st_mode) == 0o444


def test_a_leaf_that_the_disk_cannot_read_is_not_there(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole(store, b"content") as partial:
        monkeypatch.setattr(os, "preadv", failing(errno.EIO))
        assert not partial.read_leaf(0, memoryview(bytearray(7)))
        assert not partial.failed


def test_threads_that_fail_at_once_all_hear_of_it(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = threading.Barrier(4)

    def write(index: int) -> None:
        barrier.wait(timeout=10)
        partial.write_leaf(index, memoryview(bytes(LEAF)))

    with store.partial(FILE_ID, 4 * LEAF) as partial, ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr(system, "write_at", failing(errno.EIO))
        futures = [pool.submit(write, index) for index in range(4)]
        assert all(isinstance(future.exception(timeout=10), StoreMissing) for future in futures)


# Disks


def test_a_disk_that_fills_up_is_full_and_goes_on_when_there_is_room(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(drive.path / "store")
    data = factories.content(9 * MIB)
    ballast = drive.path / "ballast"
    monkeypatch.setattr(system, "preallocate", os.ftruncate)  # as on exFAT: the room may be gone when it is needed
    with store.partial(factories.file_spec(data).file_id, len(data)) as partial:
        if drive.mounted:
            ballast.write_bytes(bytes(16 * MIB))
        else:
            monkeypatch.setattr(os, "pwrite", failing(errno.ENOSPC))
        with pytest.raises(DiskFull):
            partial.write_leaf(0, memoryview(data)[:LEAF])
    if drive.mounted:
        with pytest.raises(DiskFull, match="above its floor"):
            store.partial(partial.file_id, len(data))
        ballast.unlink()
    else:
        monkeypatch.undo()
    with whole(store, data) as again:
        again.publish()
    assert store.path(again.file_id).read_bytes() == data


def test_one_that_gets_no_room_leaves_nothing_behind(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(drive.path / "store")
    monkeypatch.setattr(FileStore, "free_bytes", lambda self: 1 << 60)  # somebody else took the room after we looked
    if not drive.mounted:
        monkeypatch.setattr(system, "preallocate", failing(errno.ENOSPC))
    with pytest.raises(DiskFull, match="no room"):
        store.partial(FILE_ID, 30 * MIB)
    assert list(store.partials()) == []


def test_a_drive_that_is_pulled_out_ends_it_and_nothing_is_written_below(drive: Drive) -> None:
    store = make_store(drive.path / "store")
    with whole(store, b"content") as partial:
        drive.pull()
        with pytest.raises(StoreMissing):
            partial.write_leaf(0, memoryview(b"content"))
        with pytest.raises(StoreMissing):
            partial.publish()
    assert list(drive.path.iterdir()) == []
    drive.plug()
    assert not store.has(partial.file_id)
    with whole(store, b"content") as again:
        again.publish()
    assert store.path(again.file_id).read_bytes() == b"content"


# Kills

PUBLISH = """
import sys
from pathlib import Path
from dmedia_transfer.filestore import FileStore
store = FileStore(sys.argv[2], Path(sys.argv[1]), floor_bytes=0)
with store.partial(sys.argv[3], 7) as partial:
    if partial.fresh:
        partial.write_leaf(0, memoryview(b"content"))
    partial.publish()
"""


@pytest.mark.parametrize(
    ("point", "published"),
    [("publish.chmod", False), ("publish.fsync", False), ("publish.rename", True), ("publish.done", True)],
)
def test_a_kill_at_any_step_of_publishing_is_harmless(store: FileStore, point: str, published: bool) -> None:
    file = factories.file_spec(b"content")
    # Without the right to write to everything, as any user; root has to give it away.
    bounds = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    command = [*bounds, sys.executable, "-c", PUBLISH, str(store.root), store.store_id, file.file_id]
    killed = subprocess.run(command, env={"DMEDIA_FAULT": point}, capture_output=True, check=False, timeout=30)
    assert killed.returncode == -9, killed.stderr
    assert store.has(file.file_id) == published
    if not published:
        subprocess.run(command, check=True, timeout=30, capture_output=True)
    assert store.path(file.file_id).read_bytes() == b"content"
    assert list(store.partials()) == []


def source_of(tmp_path: Path, data: bytes) -> int:
    """An open file with these bytes."""
    path = tmp_path / "source"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize("clones", [True, False])
def test_a_leaf_is_copied_by_the_file_system(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clones: bool
) -> None:
    data = factories.content(LEAF + 1234)
    file = factories.file_spec(data)
    source = source_of(tmp_path, data)
    asked: list[int] = []

    def clone(target: int, request: int, argument: bytes) -> None:
        assert request == system._FICLONERANGE
        fd, start, size, to = struct.unpack("=qQQQ", argument)
        assert (fd, start) == (source, to)
        asked.append(start)
        if not clones:
            raise OSError(errno.EOPNOTSUPP, "no")
        os.pwrite(target, data[start : start + size], start)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    into = memoryview(bytearray(LEAF))
    with store.partial(file.file_id, file.size) as partial:
        for index, size in ((1, 1234), (0, LEAF)):
            assert partial.copy_leaf(index, source)
            assert partial.read_leaf(index, into)
            assert leaves.leaf_digest(into[:size]) == leaves.digest_of_leaf(file.leaf_digests, index)
        partial.publish()
    os.close(source)
    assert asked == [LEAF, 0]
    assert store.path(file.file_id).read_bytes() == data


def test_a_source_that_is_too_short_is_not_copied(store: FileStore, tmp_path: Path) -> None:
    source = source_of(tmp_path, b"x" * 100)
    with store.partial(FILE_ID, 200) as partial:
        assert not partial.copy_leaf(0, source)
        assert not partial.failed
    os.close(source)


def test_between_two_file_systems_nothing_is_copied(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, b"x" * 200)
    there = os.open("/proc/self/status", os.O_RDONLY)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: pytest.fail("it is asked to"))
    with store.partial(FILE_ID, 200) as partial:
        assert not partial.copy_leaf(0, there)
    os.close(source)
    os.close(there)


def test_a_full_disk_while_copying_is_a_failed_write(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, b"x" * 200)
    monkeypatch.setattr(system, "clone_range", failing(errno.ENOSPC))
    with store.partial(FILE_ID, 200) as partial:
        with pytest.raises(DiskFull):
            partial.copy_leaf(0, source)
        assert partial.failed
    os.close(source)
