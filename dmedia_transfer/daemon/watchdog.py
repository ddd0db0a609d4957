"""Watchdog: tells systemd that the main loop lives, as long as it does.

The sign of life comes from the loop itself, so that it stops when the loop hangs; systemd then ends the daemon and
starts it anew. Without `WatchdogSec=` in the unit nothing is done, and nothing wakes up.
"""

from __future__ import annotations

from dmedia_transfer import notify
from dmedia_transfer.bus.mainloop import CallLater, Cancel


class Watchdog:
    """Gives signs of life from `start` to `stop`, twice in the time that systemd waits."""

    def __init__(self, call_later: CallLater, *, within_s: float | None) -> None:
        """`within_s`: seconds without a sign of life after which we count as dead; None if nobody looks."""
        self._call_later = call_later
        self._within_s = within_s
        self._timer: Cancel | None = None

    def start(self) -> None:
        """Give the first sign of life, and the others in time."""
        if self._within_s is not None:
            notify.alive()
            self._timer = self._call_later(self._within_s / 2, self.start)

    def stop(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer()
            self._timer = None
