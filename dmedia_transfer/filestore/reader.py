"""Reader: a complete file, read leaf by leaf for an upload or a verification."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Self

from dmedia_transfer import leaves
from dmedia_transfer.errors import Permanent, SourceChanged
from dmedia_transfer.filestore import system


class Reader:
    """An open complete file. Any number of threads may read at once.

    Bytes go into the caller's buffer and the file is never mapped: memory stays flat, and a file that is cut while it
    is read gives an error and not a SIGBUS.
    """

    def __init__(self, fd: int, *, file_id: str, store_id: str, check_store: Callable[[], None]) -> None:
        """Take over the open file `fd`; see `FileStore.open`. `check_store` raises if the store is not there."""
        self.file_id = file_id
        self._fd = fd
        self._what = f"file {file_id} in store {store_id}"
        self._check_store = check_store
        self._opened_as = os.fstat(fd)

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._opened_as.st_size

    def fileno(self) -> int:
        """Its file descriptor, for a copy that the file system makes."""
        return self._fd

    def read(self, start: int, into: memoryview) -> None:
        """Fill `into` with the bytes from offset `start`.

        Raises:
            SourceChanged: The file was cut or written to since it was opened, or ends before.
            StoreMissing: The drive went away.
            Permanent: The disk cannot read it.
        """
        doing = f"reading {len(into)} bytes at {start} of {self._what}"
        try:
            got = system.read_at(self._fd, start, into)
            status = os.fstat(self._fd)
        except OSError as error:
            self._check_store()
            if error.errno == errno.EIO:
                raise Permanent(f"{doing}: {error.strerror}") from error
            raise system.storage_error(error, doing) from error
        if (status.st_size, status.st_mtime_ns) != (self.size, self._opened_as.st_mtime_ns):
            raise SourceChanged(f"{self._what} was written to while it was read")
        if got < len(into):
            raise SourceChanged(f"{doing}: it ends after {self.size} bytes")

    def read_leaf(self, index: int, into: memoryview) -> memoryview:
        """Read a leaf into the start of `into`, and return that slice. Errors are those of `read`."""
        span = leaves.leaf_span(self.size, index)
        piece = into[: span.size]
        self.read(span.start, piece)
        return piece

    def close(self) -> None:
        """Let go of the file. Harmless when closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
