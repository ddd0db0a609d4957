"""Scrub: a file read from the disk to have it proven anew.

What a verification is about is the disk, not the memory in front of it: pages that are there already are dropped
before they are read, and those that were read are dropped after it, so that a terabyte does not push out of memory
what others use. It is read from the beginning to the end, and the next leaf is on its way while one is hashed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from dmedia_transfer.errors import SourceChanged
from dmedia_transfer.filestore import system

_BAD_SECTOR: Final = frozenset({errno.EIO, errno.EILSEQ, errno.EUCLEAN})  # the last: btrfs and XFS found it corrupt


class Scrub:
    """An open file. One thread reads, in order."""

    proven: Final = False  # a disk proves nothing

    def __init__(self, fd: int, *, file_id: str, store_id: str, check_store: Callable[[], None]) -> None:
        """Take over the open file `fd`; `check_store` raises if the store is not there."""
        self._fd = fd
        self._what = f"file {file_id} in store {store_id}"
        self._check_store = check_store
        self._status = os.fstat(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._status.st_size

    @property
    def identity(self) -> str:
        """Changes whenever the content may have; not when it is put aside."""
        status = self._status
        return f"{status.st_dev}/{status.st_ino}/{status.st_size}/{status.st_mtime_ns}"

    def read(self, start: int, into: memoryview) -> bool:
        """Fill `into` from offset `start`; False if the disk cannot read that, or the file ends before.

        Raises:
            SourceChanged: Somebody writes to it.
            StoreMissing: The drive went away.
        """
        try:
            got = system.read_at(self._fd, start, into)
            os.posix_fadvise(self._fd, start + len(into), len(into), os.POSIX_FADV_WILLNEED)
            os.posix_fadvise(self._fd, start, len(into), os.POSIX_FADV_DONTNEED)
            status = os.fstat(self._fd)
        except OSError as error:
            self._check_store()
            if error.errno in _BAD_SECTOR:
                return False
            raise system.storage_error(error, f"reading {len(into)} bytes at {start} of {self._what}") from error
        if (status.st_size, status.st_mtime_ns) != (self.size, self._status.st_mtime_ns):
            raise SourceChanged(f"{self._what} was written to while it was verified")
        return got == len(into)

    def close(self) -> None:
        """Let go of the file. Harmless when closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
