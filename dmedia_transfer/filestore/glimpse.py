"""Glimpse: a partial file, read while somebody else may be writing it."""

from __future__ import annotations

import os
from typing import Self

from dmedia_transfer.errors import SourceChanged
from dmedia_transfer.filestore import system
from dmedia_transfer.filestore.partial import identity_of


class Glimpse:
    """An open partial file, without its lock. Which of its leaves can be believed is on record under `identity`.

    Any number of threads may read at once. It stays readable when the file is published or discarded meanwhile.
    """

    def __init__(self, fd: int, *, file_id: str, store_id: str) -> None:
        """Take over the open file `fd`; see `FileStore.glimpse`."""
        self._fd = fd
        self._what = f"partial file {file_id} in store {store_id}"
        self.size = os.fstat(fd).st_size  # bytes that the file will have
        self.identity = identity_of(fd)

    def read(self, start: int, into: memoryview) -> None:
        """Fill `into` with the bytes from offset `start`.

        Raises:
            SourceChanged: The file ends before `into` is full.
            StoreMissing: The drive went away.
        """
        with system.translated(f"reading {len(into)} bytes at {start} of {self._what}"):
            got = system.read_at(self._fd, start, into)
        if got < len(into):
            raise SourceChanged(f"{self._what} ends at {start + got}")

    def close(self) -> None:
        """Let go of the file. Harmless when closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
