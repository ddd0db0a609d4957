"""Waiting for what should come to be so: with a patience that says nothing about speed.

A test does not sleep until something has happened, and no limit here is a promise of the product: it only has an end
so that a fault does not hang the run. Machines are shared, and one that is busy may stand still for seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

WAIT_S: Final = 60.0


def eventually(what: Callable[[], Any], *, within_s: float = WAIT_S, every_s: float = 0.01) -> Any:
    """Wait until `what` gives something true, and return that.

    Raises:
        AssertionError: It did not in time.
    """
    deadline = time.monotonic() + within_s
    while not (result := what()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
    return result
