"""The way out of a connection: what it does when the other side has gone."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from dmedia_transfer.peers.server.outlet import Outlet


class PlainTls:
    """Encryption that leaves everything as it is."""

    def __init__(self, outgoing: ssl.MemoryBIO) -> None:
        self.write = outgoing.write


class Transport:
    """What an outlet asks of asyncio's."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def get_extra_info(self, _name: str) -> socket.socket:
        return self._socket

    def is_closing(self) -> bool:
        return False


def fill(_start: int, into: memoryview) -> None:
    into[:] = bytes(len(into))


def outlet_to(sock: socket.socket) -> Outlet:
    outgoing, size = ssl.MemoryBIO(), 10_000_000
    tls: Any = PlainTls(outgoing)
    transport: Any = Transport(sock)
    return Outlet(transport, tls, outgoing, size)


def test_it_sends_until_the_kernel_takes_no_more() -> None:
    here, there = socket.socketpair()
    here.setblocking(False)
    way = outlet_to(here)
    reached = way.push(fill, 0, 10_000_000)
    assert 0 < reached < 10_000_000
    assert way.is_full
    for each in (here, there):
        each.close()
    way.close()


def test_who_has_gone_is_a_connection_that_was_reset() -> None:
    here, there = socket.socketpair()
    here.setblocking(False)
    there.close()
    way = outlet_to(here)
    with pytest.raises(ConnectionResetError):
        way.push(fill, 0, 10_000_000)
    here.close()
    way.close()
