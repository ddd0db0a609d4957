"""The GLib main loop as the rest of the daemon needs it: call something later, on the loop's thread."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gi.repository import GLib

Cancel = Callable[[], None]

SLICE_S: Final = 0.01  # after which signals, calls and timers have their turn between calls that came in a crowd


class CallLater(Protocol):
    """Calls a function once, on the main loop's thread."""

    def __call__(self, delay_s: float, function: Callable[[], None]) -> Cancel:
        """Call `function` after `delay_s` seconds, never from within this call; the result takes that back."""


def call_later(delay_s: float, function: Callable[[], None]) -> Cancel:
    """A `CallLater` over GLib's default context. May be called from any thread."""

    def once(*_: object) -> bool:
        function()
        return bool(GLib.SOURCE_REMOVE)

    # Whole milliseconds, rounded up: a timer that fires too early would find nothing due and be set again.
    source = GLib.timeout_source_new(math.ceil(delay_s * 1000)) if delay_s > 0 else GLib.idle_source_new()
    source.set_priority(GLib.PRIORITY_DEFAULT)
    source.set_callback(once)
    source.attach(None)
    return lambda: source.destroy()


def call_soon(function: Callable[[], None]) -> None:
    """Call `function` on the main loop's thread, in the order of these calls. May be called from any thread."""
    _crowd.add(function)


class _Crowd:
    """What is to be called soon. Thousands that come at once share one source of GLib, which costs more than they."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._armed = False  # a source will call `_call`

    def add(self, function: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(function)
            armed, self._armed = self._armed, True
        if not armed:
            call_later(0, self._call)

    def _call(self) -> None:
        until_s = time.monotonic() + SLICE_S
        try:
            while time.monotonic() < until_s:
                with self._lock:
                    if not self._waiting:
                        return
                    function = self._waiting.popleft()
                function()
        finally:
            with self._lock:
                self._armed = bool(self._waiting)
            if self._armed:
                call_later(0, self._call)


_crowd: Final = _Crowd()
