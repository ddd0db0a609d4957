"""Mounts: tells when a file system is mounted or unmounted, so that nobody has to look again and again.

The kernel says that /proc/self/mountinfo has changed by making it readable out of band (proc(5)).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from gi.repository import GLib

from dmedia_transfer.bus.mainloop import CallLater, Cancel

MOUNTS: Final = "/proc/self/mountinfo"
SETTLE_S: Final = 0.2  # changes come in bursts, and a drive is there a moment before its owner may read it


class Mounts:
    """Calls `on_change` a moment after mounts have changed, on the main loop's thread."""

    def __init__(self, on_change: Callable[[], None], *, call_later: CallLater, path: str = MOUNTS) -> None:
        """Nothing is watched before `start`."""
        self._on_change = on_change
        self._call_later = call_later
        self._path = path
        self._fd = -1
        self._source = 0
        self._timer: Cancel | None = None

    def start(self) -> None:
        """Watch from now on.

        Raises:
            OSError: There is no /proc.
        """
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        conditions = GLib.IOCondition.PRI | GLib.IOCondition.ERR
        self._source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, self._fd, conditions, self._changed)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer()
            self._timer = None
        if self._fd >= 0:
            GLib.source_remove(self._source)
            os.close(self._fd)
            self._fd = -1

    def _changed(self, *_: object) -> bool:
        if self._timer is None:
            self._timer = self._call_later(SETTLE_S, self._settled)
        return bool(GLib.SOURCE_CONTINUE)

    def _settled(self) -> None:
        self._timer = None
        self._on_change()
