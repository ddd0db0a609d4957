"""The way out of a connection: what it does when the other side has gone."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dmedia_transfer.peers.server import outlet
from dmedia_transfer.peers.server.handshake import OUTGOING
from dmedia_transfer.peers.server.outlet import Outlet, opened


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


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


def outlet_to(sock: socket.socket) -> Outlet:
    outgoing, size = ssl.MemoryBIO(), 10_000_000
    tls: Any = PlainTls(outgoing)
    transport: Any = Transport(sock)
    return Outlet(transport, tls, outgoing, size)


def test_it_sends_until_the_kernel_takes_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    with contextlib.closing(outlet_to(pair[0])) as way:
        reached = way.push(fill, 0, 10_000_000)
        assert 0 < reached < 10_000_000
        assert way.is_full


def test_it_waits_a_moment_for_a_kernel_that_soon_takes_more(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOMENT_S", 60.0)
    got = bytearray()

    def read_all() -> None:
        while len(got) < 10_000_000:
            got.extend(pair[1].recv(1_000_000))

    reader = threading.Thread(target=read_all)
    with contextlib.closing(outlet_to(pair[0])) as way:
        reader.start()
        assert way.push(fill, 0, 10_000_000) == 10_000_000
        assert not way.is_full
    reader.join()


def test_while_enough_others_wait_it_does_not(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOMENT_S", 1e6)
    monkeypatch.setattr(outlet, "_waiting", threading.BoundedSemaphore(1))
    with contextlib.closing(outlet_to(pair[0])) as way, outlet._waiting:
        way.push(fill, 0, 10_000_000)
        assert way.is_full


def test_one_that_was_cut_while_it_waited_sends_no_more(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "is_closing", lambda _: True)
    with contextlib.closing(outlet_to(pair[0])) as way:
        reached = way.push(fill, 0, 10_000_000)  # the kernel is full
        pair[1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while pair[1].recv(1_000_000):
                pass
        monkeypatch.setattr(outlet, "MOMENT_S", 60.0)
        assert not way._soon_takes_more()
        assert way.is_full
        assert reached < 10_000_000
        with pytest.raises(ConnectionResetError):
            way.check()


def test_who_has_gone_is_a_connection_that_was_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    with contextlib.closing(outlet_to(pair[0])) as way, pytest.raises(ConnectionResetError):
        way.push(fill, 0, 10_000_000)


class Secured(Transport):
    """One with TLS, as asyncio's: when it was closed, it can do nothing any more."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._ssl_protocol: Any = SimpleNamespace(_transport=SimpleNamespace(get_write_buffer_size=lambda: 0))
        self._tls = SimpleNamespace(**{OUTGOING: ssl.MemoryBIO(), "write": None})
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return self._tls if name == "ssl_object" else self._socket

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self._ssl_protocol is None

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert self._ssl_protocol is not None
        self.reading = True

    def abort(self) -> None:
        self._ssl_protocol = None


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_said_next_is_read_unless_the_other_side_has_gone(gone: bool) -> None:
    here, there = socket.socketpair()
    transport = Secured(here)
    request: Any = SimpleNamespace(transport=transport, body_exists=False)
    with opened(request, 10) as way:
        assert way is not None
        assert not transport.reading
        if gone:
            transport.abort()
    assert transport.reading is not gone
    for each in (here, there):
        each.close()
