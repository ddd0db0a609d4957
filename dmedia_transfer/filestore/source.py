"""Source: a file that is imported, and whether it is still the one that was opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dmedia_transfer.errors import InvalidInput, Permanent, SourceChanged
from dmedia_transfer.filestore import system


class Source:
    """An open file that is imported. Several threads may read at once."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            InvalidInput: It cannot be opened.
        """
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be imported: {error.strerror}") from None
        self.path = path
        self.before = os.fstat(self.fd)

    def check_kind(self) -> None:
        """See to it that it can be imported.

        Raises:
            InvalidInput: It is no file, or empty.
        """
        if not stat.S_ISREG(self.before.st_mode):
            raise InvalidInput(f"{self.path} is not a file")
        if not self.before.st_size:
            raise InvalidInput(f"{self.path} is empty: empty files have no ID")

    def check(self) -> None:
        """See to it that it is still the file that was opened, as it was then.

        Raises:
            SourceChanged: It is not.
        """
        after = os.fstat(self.fd)
        try:
            there = self.path.stat()
        except OSError:
            raise SourceChanged(f"{self.path} was removed while it was imported") from None
        if not _same(self.before, after) or not _same(self.before, there):
            raise SourceChanged(f"{self.path} changed while it was imported")

    def read(self, start: int, into: memoryview) -> None:
        """Fill `into` from offset `start`.

        Raises:
            SourceChanged: It ends before.
            Permanent: The disk cannot read it.
        """
        try:
            got = system.read_at(self.fd, start, into)
        except OSError as error:
            raise Permanent(f"reading {self.path}: {error.strerror}") from error
        if got < len(into):
            raise SourceChanged(f"{self.path} became shorter while it was imported")

    def close(self) -> None:
        """Let go of it. Harmless when closed already."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return os.path.samestat(one, other) and (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
