"""Leaf buffers: 8 MiB of memory each, used again from leaf to leaf and from job to job.

Each begins with a page, as a disk wants it that takes leaves without a copy (`filestore.direct`), and is made of large
pages where Linux has them: touching memory for the first time costs more than to receive something into it.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator

from dmedia_transfer import leaves


class LeafBuffers:
    """As many buffers as are in use at once, and no more than `keep` at rest. Any thread may borrow.

    What is in a buffer is left over from its last use.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: list[mmap.mmap] = []

    def resize(self, keep: int) -> None:
        """Keep this many from now on."""
        with self._lock:
            self._keep = keep
            del self._idle[keep:]

    @contextlib.contextmanager
    def borrow(self, size: int | None = None) -> Iterator[memoryview]:
        """A buffer, or its first `size` bytes, until the end of the block; it must not be used after that."""
        with self._lock:
            buffer = self._idle.pop() if self._idle else _new()
        try:
            yield memoryview(buffer)[:size]
        finally:
            with self._lock:
                if len(self._idle) < self._keep:
                    self._idle.append(buffer)


def _new() -> mmap.mmap:
    # Private, as Linux makes large pages of shared memory only where it was told to for all programs.
    buffer = mmap.mmap(-1, leaves.LEAF_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):  # a kernel without them
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer
