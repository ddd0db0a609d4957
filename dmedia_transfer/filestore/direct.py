"""Direct: whole leaves to the disk and from it, past the page cache.

To copy a leaf into the page cache, to find pages for it and to write them out later costs more CPU than to receive it,
and while other programs write as well, Linux holds up who fills the cache. A large file that was just downloaded is
also not worth that what the user works with is dropped from memory for it. The disk takes whole leaves straight from
their buffer (`buffers` has them where it wants them): for 1 GiB 0.06 s of CPU instead of 0.4 s, and the `fsync` at
the end has nothing left to do. A copy that shares its blocks is not in memory, though its original may be: it is read
from the disk to be hashed, and for 1 GiB that takes 0.25 s of CPU instead of 0.7 s.

Only where the file system says how it wants that (`STATX_DIOALIGN`, Linux 6.1: ext4, XFS, F2FS; no network and no FUSE
file systems), and for files that are large. Btrfs does not say (Linux 6.18); it is read directly, and written to as
ever, as it computes checksums of what is written. What a disk refuses all the same goes through the page cache. Readers
see what was written: Linux drops pages that it had of those bytes, and writes them first if they are new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import ClassVar, Final, Self

from dmedia_transfer.filestore import system

LEAST_BYTES: Final = 64 * 1024 * 1024  # of the file; one that is smaller is soon read again, and stays in memory
ALIGNMENT: Final = 4096  # of what we hand over: no disk wants more, and a page has that
# At once, of a file. Two keep a disk busy. Of more, none is done before all are, and then the threads whose leaves they
# are all receive and hash, while the disk has nothing to do: 1 GiB took 0.7 s with seven, and 0.5 s with two.
WRITES: Final = 2
_REFUSED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})


class _Direct:
    """A second descriptor of an open file. Several threads may use it at once."""

    _access: ClassVar[int]

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._refused = False

    @classmethod
    def of(cls, fd: int, size: int) -> Self | None:
        """One for this open file, which has its `size`; None where there is no use in it."""
        if size < LEAST_BYTES or not cls._can(fd):
            return None
        try:
            return cls(os.open(f"/proc/self/fd/{fd}", cls._access | os.O_DIRECT | os.O_CLOEXEC))
        except OSError:
            return None  # no /proc, or the file system has changed its mind

    @staticmethod
    def _can(fd: int) -> bool:
        return system.takes_direct(fd, ALIGNMENT)

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)

    def _all(self, move: Callable[[int, int], int], start: int, size: int) -> bool:
        """Move bytes with calls that take where they are and how many were moved before; False if some are left."""
        if self._refused or start % ALIGNMENT or size % ALIGNMENT:
            return False
        done = 0
        while done < size:
            try:
                count = move(start + done, done)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._refused = True  # a buffer that is not at the start of a page is refused as well
                return False
            if not count or count % ALIGNMENT:
                return False  # the rest as well as what is there, once more
            done += count
        return True


class DirectWriter(_Direct):
    """Writes to an open file."""

    _access = os.O_WRONLY

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._turn = threading.Semaphore(WRITES)

    def write(self, start: int, data: memoryview) -> bool:
        """Write all of `data` at offset `start`; False if that is to be done through the page cache.

        Raises:
            OSError: As from any write.
        """
        with self._turn:
            return self._all(lambda at, done: os.pwrite(self._fd, data[done:], at), start, len(data))


class DirectReader(_Direct):
    """Reads from an open file."""

    _access = os.O_RDONLY

    @staticmethod
    def _can(fd: int) -> bool:
        return system.takes_direct(fd, ALIGNMENT) or system.is_btrfs(fd)

    def read(self, start: int, into: memoryview) -> bool:
        """Fill `into` from offset `start`; False if that is to be done through the page cache.

        Raises:
            OSError: As from any read.
        """
        return self._all(lambda at, done: os.preadv(self._fd, [into[done:]], at), start, len(into))
