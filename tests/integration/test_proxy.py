"""The proxy that tests misbehave with does what it says, or tests that use it prove nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import FaultyProxy
from tests.waiting import WAIT_S, eventually


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[:2]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(WAIT_S)


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultyProxy]:
    with FaultyProxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, timeout=WAIT_S) as client:
        yield client


def roundtrip(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    back = b""
    while len(back) < len(data):
        piece = client.recv(65536)
        if not piece:
            break
        back += piece
    return back


def ended(client: socket.socket) -> bool:
    """Whether the connection is over, politely or not; raises TimeoutError if it just says nothing."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_pass_and_are_counted(proxy: FaultyProxy, client: socket.socket) -> None:
    assert roundtrip(client, b"x" * 50_000) == b"x" * 50_000
    eventually(lambda: proxy.bytes_up == 50_000)  # counted once they are through
    assert (proxy.bytes_down, proxy.connections) == (50_000, 1)


def test_a_cut_ends_open_connections_and_new_ones_work(proxy: FaultyProxy, client: socket.socket) -> None:
    roundtrip(client, b"hello")
    assert proxy.cut() == 1
    assert ended(client)
    with socket.create_connection(proxy.address, timeout=WAIT_S) as again:
        assert roundtrip(again, b"hello") == b"hello"


def test_a_cut_ends_a_connection_that_is_stalled(proxy: FaultyProxy, client: socket.socket) -> None:
    roundtrip(client, b"hello")
    proxy.stall()
    client.sendall(b"more")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(WAIT_S)
    proxy.cut()
    assert ended(client)


def test_a_stall_that_ends_lets_the_bytes_through(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"later")
    time.sleep(0.1)
    proxy.stall(False)
    assert client.recv(5) == b"later"


def test_what_is_held_passes_up_to_a_number_of_bytes_and_the_other_direction_is_open(
    proxy: FaultyProxy, client: socket.socket
) -> None:
    proxy.hold(up=False, after=10)
    assert roundtrip(client, b"0123456789") == b"0123456789"
    assert proxy.holding
    client.sendall(b"more")
    eventually(lambda: proxy.bytes_up == 14)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.release()
    eventually(lambda: not proxy.holding)
    client.settimeout(WAIT_S)
    assert client.recv(4) == b"more"


def test_a_limit_holds_and_can_be_lifted(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.limit(100_000)
    began = time.monotonic()
    roundtrip(client, b"x" * 40_000)
    assert time.monotonic() - began > 0.35
    proxy.limit(1)
    client.sendall(b"x" * 40_000)
    proxy.limit(None)  # it would take hours
    received = 0
    while received < 40_000:
        received += len(client.recv(40_000))


def test_so_many_response_bytes_are_garbled_and_no_more(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.garble(3, after=2)
    assert roundtrip(client, b"0123456789") == b"01" + bytes(byte ^ 0x5A for byte in b"234") + b"56789"
    assert proxy.garble_pending == 0
    assert roundtrip(client, b"0123456789") == b"0123456789"


def test_a_connection_is_cut_after_so_many_response_bytes(proxy: FaultyProxy, client: socket.socket) -> None:
    proxy.cut_after(4)
    client.sendall(b"0123456789")
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(100):
            received += piece
    assert len(received) <= 4


def test_refused_connections_are_reset(proxy: FaultyProxy) -> None:
    proxy.refuse()
    with contextlib.suppress(ConnectionError), socket.create_connection(proxy.address, timeout=WAIT_S) as client:
        assert client.recv(1) == b""


def test_closing_leaves_no_thread(echo: tuple[str, int]) -> None:
    before = threading.active_count()
    proxy = FaultyProxy(echo)
    with socket.create_connection(proxy.address, timeout=WAIT_S) as client:
        roundtrip(client, b"hello")
        proxy.stall()
        client.sendall(b"more")
        proxy.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:  # the echo server's own may linger
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "faulty-proxy"]
