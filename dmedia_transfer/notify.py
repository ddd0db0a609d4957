"""What systemd is told of the daemon's life: ready, reloading, alive, stopping, and a line of status.

The protocol is one datagram to the socket that `$NOTIFY_SOCKET` names (sd_notify(3)). Without that variable nobody
wants to know, and nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time

log = logging.getLogger(__name__)


def ready(status: str = "") -> bool:
    """The bus name is ours and requests are answered. Returns whether somebody was told."""
    return _send("READY=1", *_status(status))


def reloading() -> bool:
    """The configuration is being read anew; `ready` says that this is done. Returns whether somebody was told."""
    return _send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def alive() -> bool:
    """The main loop has not stopped. Returns whether somebody was told."""
    return _send("WATCHDOG=1")


def watchdog_s() -> float | None:
    """Seconds without `alive` after which systemd takes this process for dead; None if it does not look."""
    try:
        within_us = int(os.environ["WATCHDOG_USEC"])
        meant = int(os.environ.get("WATCHDOG_PID") or os.getpid())
    except (KeyError, ValueError):
        return None
    return within_us / 1e6 if within_us > 0 and meant == os.getpid() else None


def stopping(status: str = "") -> bool:
    """The daemon is ending. Returns whether somebody was told."""
    return _send("STOPPING=1", *_status(status))


def status(text: str) -> bool:
    """One line of what the daemon is doing, for `systemctl status`. Returns whether somebody was told."""
    return _send(*_status(text))


def _status(text: str) -> list[str]:
    return ["STATUS=" + " ".join(text.split())] if text else []


def _send(*lines: str) -> bool:
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name or not lines:
        return False
    if name.startswith("@"):  # an abstract socket
        name = "\0" + name[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.connect(name)
            notify.sendall("\n".join(lines).encode())
    except OSError as error:
        log.warning("systemd cannot be told %s: %s", lines[0], error)
        return False
    return True
