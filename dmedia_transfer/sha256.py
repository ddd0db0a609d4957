"""SHA-256 of leaves: three at once on one core where the processor can, and else what Python has.

Hashing is most of what a verified transfer costs. A core with the SHA extensions hashes 1.8 GB/s of one message, and
5.3 GB/s of three whose rounds are interleaved (measured on an AMD EPYC); threads that hash at the same time share a
core in this way (`_lanes.c`). It needs an x86-64 processor with these instructions (AMD Zen, Intel Ice Lake and later),
and a C compiler when the package is built; without them OpenSSL hashes one at a time, with the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

Sha256 = Callable[[bytes | bytearray | memoryview], bytes]


def _one_at_a_time(data: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _best() -> Sha256:
    try:
        from dmedia_transfer import _lanes
    except ImportError:
        return _one_at_a_time
    known = bytes(range(251)) * 100  # long enough for all of its code; a fault of a compiler must not make file IDs
    return _lanes.sha256 if _lanes.sha256(known) == _one_at_a_time(known) else _one_at_a_time


sha256: Final[Sha256] = _best()
"""The SHA-256 (32 bytes) of a buffer. Releases the GIL."""

INTERLEAVED: Final = sha256 is not _one_at_a_time
"""Whether threads that hash at the same time share a core."""
