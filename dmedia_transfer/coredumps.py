"""Core dumps: a process that has passwords and keys in its memory leaves none.

A limit of one byte, not of zero: where dumps go to a program (`core_pattern` with a `|`, as systemd-coredump and apport
have it), Linux passes the whole of one to it whatever the limit is, and 1 is the only value at which it does not
(fs/coredump.c). A file of one byte is not written either. What the process starts inherits it.
"""

from __future__ import annotations

import contextlib
import resource


def forbid() -> None:
    """From now on this process and those that it starts leave no core dump."""
    with contextlib.suppress(ValueError, OSError):  # a hard limit of 0 cannot be raised, and forbids most of them
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
