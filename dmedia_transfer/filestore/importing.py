"""Importing: copy or reflink files into a FileStore; what is hashed is what was copied.

Each of a few threads reads a leaf, hashes it and writes it, all from one buffer of its own; hashing, reading and
writing release the GIL and so overlap, also over the files of a batch. Where the file systems share blocks (btrfs,
XFS), the copy costs nothing and its own bytes are read and hashed. Never a hard link: the source stays its owner's, to
be changed at will.

The files of a batch are copied first, and published later with one sync for all of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import Interrupted, SourceChanged, TransferError, Waiting
from dmedia_transfer.filestore import layout, system
from dmedia_transfer.filestore.direct import DirectReader, DirectWriter
from dmedia_transfer.filestore.source import Source

THREADS: Final = 4  # with 8 MiB each
INLINE_BYTES: Final = 64 * 1024  # what is not larger is done sooner than handed to a thread
PREALLOCATED_BYTES: Final = 1024 * 1024  # what is smaller gets its place when it is written to the disk


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that was imported."""

    file_id: str
    size: int  # bytes
    leaf_digests: bytes = field(repr=False)  # packed, 32 bytes each
    existed: bool  # it was there, or elsewhere, already, and the copy was thrown away


Outcome = Imported | TransferError
Progress = Callable[[Path, int, int], None]
"""Called with a file, its bytes done and its bytes in all, on the thread that called, after a leaf."""


class Staged:
    """Files that were copied and hashed, and have their names only once they are published. One thread at a time."""

    def __init__(self, root: int, *, need_room: Callable[[int], None], is_elsewhere: Callable[[str], bool]) -> None:
        """Take over the open directory of a store.

        Args:
            root: The directory.
            need_room: Raises DiskFull if so many bytes do not fit.
            is_elsewhere: Whether another store has the file with this ID, so that it needs no copy here.
        """
        self._root = root
        self._need_room = need_room
        self._is_elsewhere = is_elsewhere
        self._outcomes: dict[Path, Outcome] = {}
        self._copies: dict[Path, _Copy] = {}  # of those that are not published, thrown away or failed
        self._ids: dict[str, Path] = {}  # the first one of each content
        self._gone: list[_Copy] = []  # failed, and closed when no thread can be at them any more
        self._stop: TransferError | None = None  # why no more files are copied

    def copy(
        self, sources: Sequence[Path], *, buffers: LeafBuffers, progress: Progress, cancelled: Callable[[], bool]
    ) -> None:
        """Copy files one after the other, until it is cancelled, or the store is full or gone."""
        buffers.resize(THREADS)
        work = self._work(sources, cancelled)
        pending: dict[Future[bytes], tuple[_Copy, int]] = {}
        with ThreadPoolExecutor(THREADS, thread_name_prefix="import") as pool:
            try:
                while True:
                    while len(pending) <= THREADS and (item := next(work, None)) is not None:  # one waits for a thread
                        copy, index = item
                        if copy.size <= INLINE_BYTES:
                            self._taken(copy, index, partial(self._take, copy, index, buffers), progress)
                        else:
                            pending[pool.submit(self._take, copy, index, buffers)] = item
                    if not pending or isinstance(self._stop, Interrupted):
                        break
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        self._taken(*pending.pop(future), future.result, progress)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                self._bury()
        for copy in [copy for copy in self._copies.values() if copy.left]:
            self._failed(copy, self._stop or Interrupted("the import was cancelled"))
        self._bury()

    def publish(self) -> Mapping[Path, Outcome]:
        """Give all that was copied its name for good; what became of each file that was begun."""
        try:
            for copy in [copy for copy in self._copies.values() if self._has(copy.file_id, copy.size)]:
                self._existed(copy)
            files = [layout.Unpublished(copy.fd, copy.name, copy.file_id) for copy in self._copies.values()]
            with system.translated(f"publishing {len(files)} imported files"):
                if files:
                    layout.publish_all(self._root, files)
        except TransferError as error:
            for copy in list(self._copies.values()):
                self._failed(copy, error)
        for path, copy in self._copies.items():
            copy.close()
            self._outcomes[path] = copy.outcome(existed=False)
        self._copies.clear()
        return {path: self._of_twin(path, outcome) for path, outcome in self._outcomes.items()}

    def close(self) -> None:
        """Throw away what was not published, and let go of the store. Harmless when closed already."""
        for copy in self._copies.values():
            copy.discard(self._root)
        self._copies.clear()
        self._bury()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _work(self, sources: Sequence[Path], cancelled: Callable[[], bool]) -> Iterator[tuple[_Copy, int]]:
        """The leaves of all files, each file opened when it comes to it."""
        for path in dict.fromkeys(sources):
            try:
                copy = self._copies[path] = _Copy.begin(self._root, path, self._need_room)
            except TransferError as error:
                self._outcomes[path] = error
                self._stop = error if isinstance(error, Waiting) else None
            else:
                for index in range(copy.left):
                    if cancelled():
                        self._stop = Interrupted("the import was cancelled")
                    if self._stop or path not in self._copies:
                        break
                    yield copy, index
            if self._stop:
                return

    def _take(self, copy: _Copy, index: int, buffers: LeafBuffers) -> bytes:
        """On any thread: copy a leaf."""
        size = leaves.leaf_span(copy.size, index).size
        with buffers.borrow(size) as buffer, system.translated(f"importing {copy.source.path}"):
            return copy.take(index, buffer)

    def _taken(self, copy: _Copy, index: int, result: Callable[[], bytes], progress: Progress) -> None:
        try:
            digest = result()
            if copy.source.path not in self._copies:
                return  # another of its leaves has failed
            if copy.keep(index, digest):
                copy.source.check()
                self._whole(copy)
        except TransferError as error:
            self._failed(copy, error)
            if isinstance(error, Waiting):
                self._stop = error
            return
        progress(copy.source.path, copy.done, copy.size)

    def _whole(self, copy: _Copy) -> None:
        path = copy.source.path
        copy.source.close()
        twin = self._ids.setdefault(copy.file_id, path)
        if twin != path or self._has(copy.file_id, copy.size):
            self._existed(copy)
        elif not copy.cloned:
            system.start_writing(copy.fd, 0, copy.size)

    def _existed(self, copy: _Copy) -> None:
        self._outcomes[copy.source.path] = copy.outcome(existed=True)
        self._copies.pop(copy.source.path).discard(self._root)

    def _failed(self, copy: _Copy, error: TransferError) -> None:
        if copy.source.path in self._copies:
            self._outcomes[copy.source.path] = error
            self._gone.append(self._copies.pop(copy.source.path))
            copy.unlink(self._root)

    def _bury(self) -> None:
        for copy in self._gone:
            copy.close()
        self._gone.clear()

    def _of_twin(self, path: Path, outcome: Outcome) -> Outcome:
        """What became of a file, knowing what became of the one before it that has the same content."""
        if isinstance(outcome, TransferError) or not outcome.existed:
            return outcome
        first = self._outcomes[self._ids[outcome.file_id]]
        return first if isinstance(first, TransferError) else outcome

    def _has(self, file_id: str, size: int) -> bool:
        with system.translated(f"looking for file {file_id}"), contextlib.suppress(FileNotFoundError):
            status = os.stat(layout.name_in(layout.FILES, file_id), dir_fd=self._root, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_size == size:
                return True
        return self._is_elsewhere(file_id)


@dataclass(slots=True)
class _Copy:
    """A file on its way into the store."""

    source: Source
    fd: int
    name: str
    size: int  # bytes
    cloned: bool  # it shares the blocks of its source
    digests: bytearray
    left: int  # leaves
    done: int = 0  # bytes
    reader: DirectReader | None = None  # of what is cloned, where the disk lets us past the page cache
    writer: DirectWriter | None = None  # of what is not, likewise
    file_id: str = ""  # once it is whole

    @classmethod
    def begin(cls, root: int, path: Path, need_room: Callable[[int], None]) -> _Copy:
        """Open a file, and make a place for its copy.

        Raises:
            TransferError: It cannot be imported, or not now.
        """
        source = Source(path)
        name = f"{layout.PARTIAL}/{layout.IMPORT_PREFIX}{secrets.token_hex(12)}"
        with contextlib.ExitStack() as undo, system.translated(f"importing {path}"):
            undo.callback(source.close)
            source.check_kind()
            size, count = source.before.st_size, leaves.leaf_count(source.before.st_size)
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
            copy = cls(source, fd, name, size, False, bytearray(count * leaves.DIGEST_BYTES), count)
            undo.callback(copy.discard, root)
            system.lock(fd)  # says to a sweep that somebody is at it
            copy.cloned = system.clone(source.fd, fd)
            if copy.cloned:
                os.truncate(fd, size)  # as long as it was when we looked first; a difference shows in `check`
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                copy.reader = DirectReader.of(fd, size)
            else:
                need_room(size)
                os.posix_fadvise(source.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                if size >= PREALLOCATED_BYTES:
                    system.preallocate(fd, size)
                copy.writer = DirectWriter.of(fd, size)
            undo.pop_all()
        return copy

    def take(self, index: int, into: memoryview) -> bytes:
        """Copy a leaf, and return the digest of just the bytes that the copy has; `into` is as large as the leaf."""
        start = leaves.leaf_span(self.size, index).start
        if self.cloned:
            read = self.reader is not None and self.reader.read(start, into)
            if not read and system.read_at(self.fd, start, into) < len(into):
                raise SourceChanged(f"{self.source.path} became shorter while it was imported")
            return leaves.leaf_digest(into)
        self.source.read(start, into)
        digest = leaves.leaf_digest(into)
        if self.writer is None or not self.writer.write(start, into):
            system.write_at(self.fd, start, into)
            if len(into) == leaves.LEAF_BYTES:
                system.start_writing(self.fd, start, len(into))
        return digest

    def keep(self, index: int, digest: bytes) -> bool:
        """Take note of a leaf; True when it was the last one."""
        self.digests[index * leaves.DIGEST_BYTES : (index + 1) * leaves.DIGEST_BYTES] = digest
        self.done += leaves.leaf_span(self.size, index).size
        self.left -= 1
        if not self.left:
            self.file_id = leaves.file_id(bytes(self.digests))
        return not self.left

    def outcome(self, *, existed: bool) -> Imported:
        """What is told of it."""
        return Imported(self.file_id, self.size, bytes(self.digests), existed)

    def close(self) -> None:
        """Let go of it."""
        self.source.close()
        for direct in (self.reader, self.writer):
            if direct is not None:
                direct.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self, root: int) -> None:
        """Throw the copy away, at which nobody is any more."""
        self.unlink(root)
        self.close()

    def unlink(self, root: int) -> None:
        """Take the copy its name; what is written to it then is gone with it."""
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=root)
