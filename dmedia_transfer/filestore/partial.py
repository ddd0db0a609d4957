"""Partial: a file that is not complete yet; preallocated, written leaf by leaf, published when all are verified.

One worker at a time has it, by a lock that goes with the process, so it may be killed at any instant. Several threads
of that worker may write leaves at once. What is promised:

- `identity` names the boot, the mount and the inode, so that leaf records made under it hold exactly as long as what
  was written cannot have been lost: Linux keeps written pages until a restart or an unmount.
- After an error from a write or a sync nothing that was written is believed any more: the kernel marks pages that it
  could not write as clean, and the next fsync succeeds (https://lwn.net/Articles/752063/). `failed` says so, the
  identity changes for good, and the pages are dropped from memory, so that hashing again reads the disk.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
import threading
from pathlib import Path
from typing import Final, Self

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, StoreMissing, TransferError, Transient
from dmedia_transfer.filestore import layout, opening, system
from dmedia_transfer.filestore.direct import DirectWriter

_FAILED_MODE: Final = (
    stat.S_ISVTX | 0o600
)  # Linux gives the sticky bit of a file no meaning; here it says: do not trust

_log = logging.getLogger(__name__)


class Partial:
    """An open partial file; `ports.PartialFile`."""

    def __init__(
        self, *, root: int, fd: int, fresh: bool, store_root: Path, store_id: str, file_id: str, size: int
    ) -> None:
        """Take over the open directory `root` and the open, locked file `fd`; see `FileStore.partial`."""
        self.fresh = fresh  # made by this very call: there is nothing in it that could be hashed
        self.file_id = file_id
        self.size = size  # bytes
        self._root = root
        self._fd = fd
        self._store_root = store_root
        self._name = layout.name_in(layout.PARTIAL, file_id)
        self._what = f"partial file {file_id} in store {store_id}"
        self._failure: TransferError | None = None
        self._fail_lock = threading.Lock()
        self._turn = threading.Lock()
        self._close_lock = threading.Lock()
        self._direct = DirectWriter.of(fd, size)
        self._touched: set[int] = set()  # leaves that were written by us
        # Bytes that were a hole when we looked last, but for leaves that were touched. All of a new file: exFAT and
        # NFS 3 know no holes, and each leaf would be read and hashed for nothing.
        self._hole = range(size if fresh else 0)
        self._identity = identity_of(fd)
        # Where a mount's ID can come back, a drive that was pulled out and put back looks as if it had always been
        # there, and only what was synced is on it. The root file system does not go away under a running program.
        self._sync_each = not system.mount_id(fd)[1] and not system.is_root_device(os.fstat(fd).st_dev)
        # Leaves that are not on record are hashed again: from the disk, not from a page that never got there.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    @classmethod
    def open_in(cls, root: int, *, store_root: Path, store_id: str, file_id: str, size: int) -> Self:
        """Open or make the partial file of `file_id`; owns `root` if it returns.

        Raises:
            Transient: Another worker has it.
            DiskFull, StoreMissing, AccessDenied: As the file system says.
        """
        name = layout.name_in(layout.PARTIAL, file_id)
        what = f"partial file {file_id} in store {store_id}"
        with system.translated(f"opening {what}"):
            fd, fresh = opening.open_locked(root, name, what)
            try:
                opening.give_room(root, fd, name, size)
                return cls(
                    root=root,
                    fd=fd,
                    fresh=fresh,
                    store_root=store_root,
                    store_id=store_id,
                    file_id=file_id,
                    size=size,
                )
            except BaseException:
                os.close(fd)
                raise

    @property
    def identity(self) -> str:
        """Boot, mount and inode; something else in every call once the file has failed."""
        return _nobodys() if self._failure else self._identity

    @property
    def failed(self) -> bool:
        """Whether a write or a sync has failed: leaf records of this file must be dropped."""
        return self._failure is not None

    def write_leaf(self, index: int, data: memoryview) -> None:
        """Write a verified leaf at its offset, in full.

        Raises:
            DiskFull, StoreMissing: It was not written, and earlier ones may not be on the disk either.
        """
        self._check()
        span = leaves.leaf_span(self.size, index)
        if len(data) != span.size:
            raise InvalidInput(f"leaf {index} of {self._what} has {span.size} bytes, not {len(data)}")
        self._touched.add(index)
        try:
            there = self._direct is not None and self._direct.write(span.start, data)
            if not there:
                # One at a time: threads that write to one inode wait for each other in the kernel, and spin while they
                # do (four of them: 250 MB/s and 3.9 s of CPU for 1 GiB; in turns: 500 to 880 MB/s and 0.5 to 1.4 s).
                with self._turn:
                    system.write_at(self._fd, span.start, data)
            if self._sync_each:
                os.fdatasync(self._fd)
            elif not there:
                # Else the kernel begins after half a minute, and the sync at the end waits for nearly all of the file.
                system.start_writing(self._fd, span.start, span.size)
        except OSError as error:
            raise self._fail(error, f"writing leaf {index} of {self._what}") from error

    def copy_leaf(self, index: int, source: int) -> bool:
        """Have the file system clone or copy a leaf out of an open file; False if it cannot, or has not to the end.

        What is there then is not verified: it is to be read back.

        Raises:
            DiskFull, StoreMissing: As `write_leaf`.
        """
        self._check()
        span = leaves.leaf_span(self.size, index)
        self._touched.add(index)
        try:
            with self._turn:
                there = system.clone_range(source, self._fd, span.start, span.size)
                there = there or system.copy_range(source, self._fd, span.start, span.size)
            if there and self._sync_each:
                os.fdatasync(self._fd)
        except OSError as error:
            if error.errno == errno.EIO:  # of the source, most likely: reading it tells
                return False
            raise self._fail(error, f"copying leaf {index} of {self._what}") from error
        return there

    def read_leaf(self, index: int, into: memoryview) -> bool:
        """Read a leaf back into the start of `into`; False if the file does not hold it, or it cannot be read."""
        span = leaves.leaf_span(self.size, index)
        try:
            if index not in self._touched and self._is_hole(span.start, span.end):
                return False
            return system.read_at(self._fd, span.start, into[: span.size]) == span.size
        except OSError as error:
            if error.errno == errno.EIO:  # writing it anew gives the disk a chance to use another sector
                _log.warning("%s: leaf %s cannot be read: %s", self._what, index, error)
                return False
            raise system.storage_error(error, f"reading leaf {index} of {self._what}") from error

    def publish(self, as_file_id: str = "") -> None:
        """Sync the data, make the file read-only, and give it its name. All leaves were verified.

        `as_file_id` is what the file is, where that was not known when it was begun.

        Raises:
            DiskFull, StoreMissing: It was not published.
            Transient: The partial file was discarded or cut meanwhile.
        """
        self._check()
        with system.translated(f"looking at {self._what}"):
            if not system.is_at(self._fd, self._name, self._root):
                raise Transient(f"{self._what} was removed while it was written")
            if os.fstat(self._fd).st_size != self.size:
                raise Transient(f"{self._what} changed its length while it was written")
        try:
            layout.publish(self._root, self._fd, self._name, as_file_id or self.file_id)
        except OSError as error:
            raise self._fail(error, f"publishing {self._what}") from error

    def close(self) -> None:
        """Let go of the file and leave it as it is. Harmless when closed already."""
        with self._close_lock:
            if self._fd >= 0:
                if self._direct is not None:
                    self._direct.close()
                os.close(self._fd)
                os.close(self._root)
                self._fd = self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_hole(self, start: int, end: int) -> bool:
        """Whether these bytes were only preallocated: not reading them saves minutes with a big file.

        How far a hole goes is remembered, as the kernel lets nobody look for the next one while a leaf is written: the
        threads would wait for each other, one leaf long for each leaf.
        """
        hole = self._hole
        if start in hole and end <= hole.stop:
            return True
        try:
            data = os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = self.size  # no data from there to the end
        if data < end:
            return False
        self._hole = range(start, data)
        return True

    def _check(self) -> None:
        """The file has not failed, and the drive that it is on is still where it was."""
        if self._failure:
            raise type(self._failure)(str(self._failure))
        try:
            there = self._store_root.stat()
        except OSError as error:
            raise system.storage_error(error, f"looking for {self._what}") from error
        if not os.path.samestat(there, os.fstat(self._root)):
            raise StoreMissing(f"{self._what}: the drive is not at {self._store_root} any more")

    def _fail(self, error: OSError, doing: str) -> TransferError:
        failure = system.storage_error(error, doing)
        with self._fail_lock:
            if self._failure is None:
                self._failure = failure
                _log.warning("%s; nothing of what was written is trusted any more", failure)
                self._distrust()
        return failure

    def _distrust(self) -> None:
        """Leave a sign for whoever opens the file next, and drop its pages: both may fail on a disk that fails."""
        with contextlib.suppress(OSError):
            os.fchmod(self._fd, _FAILED_MODE)
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


def identity_of(fd: int) -> str:
    """Boot, mount and inode of an open partial file: what is on record of its leaves holds under this name only."""
    status = os.fstat(fd)
    born = system.birth_time(fd)
    if status.st_mode & stat.S_ISVTX or born is None:
        # Written to a disk that failed, or not to be told from a later file with its inode number.
        return _nobodys()
    return f"{system.boot_id()}/{status.st_dev}/{system.mount_id(fd)[0]}/{status.st_ino}/{born}"


def _nobodys() -> str:
    """An identity under which no record was ever made."""
    return f"untrusted/{secrets.token_hex(8)}"
