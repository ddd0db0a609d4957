"""Netwatch: a descriptor that can be read when an address of a network interface came or went.

It is the kernel's own word (netlink, rtnetlink(7)), which needs no service on the machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import Final

# linux/rtnetlink.h
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV6_IFADDR: Final = 0x100

log = logging.getLogger(__name__)


class NetWatch:
    """Hears of changes. Whoever watches it calls `drain`, and looks at the addresses anew."""

    def __init__(self) -> None:
        """Raises OSError where the kernel does not tell."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Read what is there; what it says in particular is not looked at, so that nothing can be missed."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(65536)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    # ENOBUFS: more happened than fitted. It is a change all the same.
                    log.debug("the network changed much: %s", os.strerror(error.errno or 0))

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
