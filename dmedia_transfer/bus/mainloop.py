"""The GLib main loop as the rest of the daemon needs it: call something later, on the loop's thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from gi.repository import GLib

Cancel = Callable[[], None]


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
    """Call `function` on the main loop's thread. May be called from any thread."""
    call_later(0, function)
