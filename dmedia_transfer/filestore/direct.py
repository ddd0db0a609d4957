"""Direct: whole leaves to the disk, past the page cache.

To copy a leaf into the page cache, to find pages for it and to write them out later costs more CPU than to receive it,
and while other programs write as well, Linux holds up who fills the cache. A large file that was just downloaded is
also not worth that what the user works with is dropped from memory for it. The disk takes whole leaves straight from
their buffer (`buffers` has them where it wants them): for 1 GiB 0.06 s of CPU instead of 0.4 s, and the `fsync` at
the end has nothing left to do.

Only where the file system says how it wants that (`STATX_DIOALIGN`, Linux 6.1: ext4, XFS, F2FS, btrfs; no network and
no FUSE file systems), and for files that are large. What it refuses all the same is written as ever. Readers see what
was written: Linux drops pages that it had of those bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from dmedia_transfer.filestore import system

LEAST_BYTES: Final = 64 * 1024 * 1024  # of the file; one that is smaller is soon read again, and stays in memory
ALIGNMENT: Final = 4096  # of what we hand over: no disk wants more, and a page has that
_REFUSED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})


class DirectWriter:
    """A second descriptor of an open file. Several threads may write at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._refused = False

    @classmethod
    def of(cls, fd: int, size: int) -> DirectWriter | None:
        """A writer for this open file, which has its `size`; None where there is no use in it."""
        if size < LEAST_BYTES or not system.takes_direct(fd, ALIGNMENT):
            return None
        try:
            return cls(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC))
        except OSError:
            return None  # no /proc, or the file system has changed its mind

    def write(self, start: int, data: memoryview) -> bool:
        """Write all of `data` at offset `start`; False if that is to be done through the page cache.

        Raises:
            OSError: As from any write.
        """
        if self._refused or start % ALIGNMENT or len(data) % ALIGNMENT:
            return False
        done = 0
        while done < len(data):
            try:
                count = os.pwrite(self._fd, data[done:], start + done)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._refused = True  # a buffer that is not at the start of a page is refused as well
                return False
            if count % ALIGNMENT:
                return False  # the rest as well as what is there, once more
            done += count
        return True

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)
