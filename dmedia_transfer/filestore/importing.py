"""Importing: copy or reflink a file into a FileStore; what is hashed is what was copied.

Each of a few threads reads a leaf, hashes it and writes it, all from one buffer of its own; hashing, reading and
writing release the GIL and so overlap. Where the file systems share blocks (btrfs, XFS), the copy costs nothing and
its own bytes are read and hashed. Never a hard link: the source stays its owner's, to be changed at will.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.errors import Interrupted, InvalidInput, Permanent, SourceChanged
from dmedia_transfer.filestore import layout, system

THREADS: Final = 4  # with 8 MiB each


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that was imported."""

    file_id: str
    size: int  # bytes
    leaf_digests: bytes = field(repr=False)  # packed, 32 bytes each
    existed: bool  # it was there, or elsewhere, already, and the copy was thrown away


Progress = Callable[[int, int], None]
"""Called with the bytes done and the total, on the thread that called, after a leaf."""


def import_file(
    root: int,
    source: Path,
    *,
    need_room: Callable[[int], None],
    progress: Progress,
    cancelled: Callable[[], bool],
    is_elsewhere: Callable[[str], bool],
) -> Imported:
    """Copy `source` into the store whose open directory is `root`; see `FileStore.import_file`."""
    try:
        source_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be imported: {error.strerror}") from None
    try:
        before = os.fstat(source_fd)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidInput(f"{source} is not a file")
        if not before.st_size:
            raise InvalidInput(f"{source} is empty: empty files have no ID")
        with system.translated(f"importing {source}"):
            return _import(root, _Source(source_fd, source, before), need_room, progress, cancelled, is_elsewhere)
    finally:
        os.close(source_fd)


@dataclass(frozen=True, slots=True)
class _Source:
    fd: int
    path: Path
    before: os.stat_result

    def check(self) -> None:
        """Raise if it is not the file any more that was opened."""
        after = os.fstat(self.fd)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            raise SourceChanged(f"{self.path} was removed while it was imported") from None
        if not _same(self.before, after) or not _same(self.before, there):
            raise SourceChanged(f"{self.path} changed while it was imported")


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return os.path.samestat(one, other) and (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _import(
    root: int,
    source: _Source,
    need_room: Callable[[int], None],
    progress: Progress,
    cancelled: Callable[[], bool],
    is_elsewhere: Callable[[str], bool],
) -> Imported:
    size = source.before.st_size
    name = f"{layout.PARTIAL}/{layout.IMPORT_PREFIX}{secrets.token_hex(12)}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        system.lock(fd)  # says to a sweep that somebody is at it
        if system.clone(source.fd, fd):
            os.truncate(fd, size)  # as long as it was when we looked first; a difference shows in `check`
            digests = _each_leaf(size, lambda index, into: _take(source, fd, index, into), progress, cancelled)
        else:
            need_room(size)
            system.preallocate(fd, size)
            digests = _each_leaf(size, lambda index, into: _copy(source, fd, index, into), progress, cancelled)
        source.check()
        file_id = leaves.file_id(digests)
        existed = _is_complete(root, file_id, size) or is_elsewhere(file_id)
        if existed:
            os.unlink(name, dir_fd=root)
        else:
            layout.publish(root, fd, name, file_id)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=root)
        raise
    finally:
        os.close(fd)
    return Imported(file_id, size, digests, existed)


def _take(source: _Source, fd: int, index: int, into: memoryview) -> bytes:
    """The digest of a leaf of the clone."""
    span = leaves.leaf_span(source.before.st_size, index)
    piece = into[: span.size]
    if system.read_at(fd, span.start, piece) < span.size:
        raise SourceChanged(f"{source.path} became shorter while it was imported")
    return leaves.leaf_digest(piece)


def _copy(source: _Source, to_fd: int, index: int, into: memoryview) -> bytes:
    """Copy a leaf, and return the digest of just the bytes that were written."""
    try:
        digest = _take(source, source.fd, index, into)
    except OSError as error:
        raise Permanent(f"reading {source.path}: {error.strerror}") from error
    span = leaves.leaf_span(source.before.st_size, index)
    system.write_at(to_fd, span.start, into[: span.size])
    return digest


def _each_leaf(
    size: int, take: Callable[[int, memoryview], bytes], progress: Progress, cancelled: Callable[[], bool]
) -> bytes:
    """The packed digests of all leaves, each taken by one of a few threads with a buffer of its own."""
    count = leaves.leaf_count(size)
    threads = min(THREADS, count)
    buffers: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(threads):
        buffers.put(bytearray(min(leaves.LEAF_BYTES, size)))

    def work(index: int) -> tuple[int, bytes]:
        buffer = buffers.get()
        try:
            return index, take(index, memoryview(buffer))
        finally:
            buffers.put(buffer)

    digests = bytearray(count * leaves.DIGEST_BYTES)
    bytes_done, following = 0, 0
    pending: set[Future[tuple[int, bytes]]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="import") as pool:
        try:
            while following < count or pending:
                _go_on(cancelled)
                while following < count and len(pending) <= threads:  # one more than threads: none waits for us
                    pending.add(pool.submit(work, following))
                    following += 1
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    index, digest = future.result()
                    digests[index * leaves.DIGEST_BYTES : (index + 1) * leaves.DIGEST_BYTES] = digest
                    bytes_done += leaves.leaf_span(size, index).size
                progress(bytes_done, size)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return bytes(digests)


def _go_on(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Interrupted("the import was cancelled")


def _is_complete(root: int, file_id: str, size: int) -> bool:
    try:
        status = os.stat(layout.name_in(layout.FILES, file_id), dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size
