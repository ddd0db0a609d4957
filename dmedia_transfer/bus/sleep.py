"""logind: keep the machine awake, and let it fall asleep only when we are ready.

There are two inhibitors (https://systemd.io/INHIBITOR_LOCKS/), each held only as long as it is wanted. `delay` makes
logind wait, for five seconds unless it is set otherwise, until we have let go: what has arrived is on the disk then.
`block` keeps the machine from falling asleep by itself; a person who asks for sleep is told who is in the way, and a
closed lid is not held up.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from dmedia_transfer.bus.others import Service

log = logging.getLogger(__name__)

NAME: Final = "org.freedesktop.login1"
PATH: Final = "/org/freedesktop/login1"
MANAGER: Final = f"{NAME}.Manager"
WHO: Final = "dmedia-transfer"
WHY: Final = {"delay": "transfers are suspended first", "block": "files are being transferred"}


class Sleep:
    """Follows logind."""

    def __init__(self, bus: Any, on_sleep: Callable[[bool], None]) -> None:
        """`on_sleep` is told when the machine is about to sleep (True), and when it has woken (False)."""
        self._on_sleep = on_sleep
        self._service = Service(bus, NAME)
        self._delay = _Inhibitor(self._service, "delay")
        self._block = _Inhibitor(self._service, "block")
        self._service.hear(MANAGER, "PrepareForSleep", self._prepare, path=PATH)
        self._service.watch(self._there)

    def want(self, *, delay: bool, block: bool) -> None:
        """Hold these inhibitors from now on, and no other."""
        self._delay.want(delay)
        self._block.want(block)

    def close(self) -> None:
        """Hold nothing, and follow it no more."""
        self.want(delay=False, block=False)
        self._service.close()

    def _there(self, there: bool) -> None:
        for inhibitor in (self._delay, self._block):
            inhibitor.available(there)

    def _prepare(self, asleep: bool) -> None:
        log.info("the machine %s", "is about to sleep" if asleep else "has woken")
        self._on_sleep(bool(asleep))


class _Inhibitor:
    """One inhibitor: as long as its file is open, it is in force."""

    def __init__(self, service: Service, mode: str) -> None:
        self._service = service
        self._mode = mode
        self._wanted = False
        self._asked = False  # the answer is on its way
        self._refused = False  # by polkit: asked again only of another logind
        self._fd: int | None = None

    def want(self, wanted: bool) -> None:
        self._wanted = wanted
        self._go()

    def available(self, there: bool) -> None:
        """logind came or went; inhibitors do not outlive it."""
        self._refused = self._asked = False
        self._release()
        if there:
            self._go()

    def _go(self) -> None:
        if not self._wanted:
            self._release()
        elif self._service.owner and self._fd is None and not self._asked and not self._refused:
            self._asked = True
            self._service.call(
                PATH,
                MANAGER,
                "Inhibit",
                "ssss",
                "sleep",
                WHO,
                WHY[self._mode],
                self._mode,
                on_reply=self._granted,
                on_error=self._denied,
            )

    def _granted(self, fd: Any) -> None:
        self._asked = False
        self._release()
        self._fd = fd.take()
        self._go()

    def _denied(self, error: str) -> None:
        self._asked = False
        self._refused = True
        log.info("logind refuses an inhibitor (%s): %s", self._mode, error)

    def _release(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None
