"""Peers that mean harm, or are broken: they get a clear answer or none, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from dmedia_transfer.errors import ConnectionLost
from dmedia_transfer.peers import identity, tls, wire
from dmedia_transfer.peers.server import doors
from tests import factories
from tests.integration.test_peer_uploads import PATCH, TUS, b64, begin, left_behind, offset_of, patch
from tests.peers import NOW, Machine, make_machine
from tests.peerserver import Client, Host, connected
from tests.waiting import WAIT_S, eventually

DATA = factories.content(300_000, seed=4)


@pytest.fixture
def impatient(tmp_path: Path, database: tuple[str, str], phone: Machine) -> Iterator[Host]:
    """A host that waits a second for what a client has to do."""
    host = Host(tmp_path / "host", database, stall_s=1.0)
    host.see(phone.document())
    try:
        host.start()
        yield host
    finally:
        host.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Machine]]:
    """One host for all that harms nobody, and a machine that it knows; without a database."""
    folder = tmp_path_factory.mktemp("standing")
    host, machine = Host(folder / "host", ("http://u:p@127.0.0.1:9", "none")), make_machine(folder / "machine")
    host.see(machine.document())
    try:
        host.start()
        yield host, machine
    finally:
        host.close()


@contextlib.contextmanager
def raw(machine: Machine, host: Host) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which anything can be said."""
    context = tls.client_context(machine.identity, [host.machine.certificate])
    with socket.create_connection(("127.0.0.1", host.port), timeout=WAIT_S) as plain, context.wrap_socket(plain) as tcp:
        yield tcp


def read_to_end(tcp: ssl.SSLSocket) -> bytes:
    found = b""
    with contextlib.suppress(OSError):
        while piece := tcp.recv(65536):
            found += piece
    return found


def refusal_of(host: Host, context: ssl.SSLContext) -> str:
    """What a client that is refused can tell its person."""
    connection = http.client.HTTPSConnection("127.0.0.1", host.port, timeout=20, context=context)
    with contextlib.closing(connection), pytest.raises(OSError) as caught:  # noqa: PT012 - at the first or the second
        connection.request("GET", "/")
        connection.getresponse()
    assert isinstance(caught.value, OSError)
    told = tls.explained(caught.value, who="the TV")
    assert not isinstance(told, ConnectionLost), caught.value
    return str(told)


# Who is let in.


def test_who_shows_no_certificate_is_told_so(host: Host) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=host.machine.certificate.der)
    assert "it wants a certificate, and we showed none" in refusal_of(host, context)


def test_who_is_of_another_library_is_told_so(host: Host, tmp_path: Path) -> None:
    stranger = make_machine(tmp_path / "stranger")
    context = tls.client_context(stranger.identity, [host.machine.certificate])
    told = refusal_of(host, context)
    assert told == (
        "no trusted connection with the TV: it does not know our certificate: it may not have seen our machine "
        "document yet"
    )


def test_who_has_an_expired_certificate_is_told_so(host: Host, client: Client, tmp_path: Path) -> None:
    old = make_machine(tmp_path / "old", now=NOW - timedelta(days=1000))
    host.see(old.document())
    eventually(lambda: "expired" in refusal_of(host, tls.client_context(old.identity, [host.machine.certificate])))


def test_a_client_refuses_a_host_that_is_not_whom_it_means(host: Host, phone: Machine, tmp_path: Path) -> None:
    other = make_machine(tmp_path / "other")
    context = tls.client_context(phone.identity, [other.certificate])
    assert "its certificate is not in this library" in refusal_of(host, context)


def test_a_machine_that_comes_into_the_library_is_let_in_without_a_restart(host: Host, tmp_path: Path) -> None:
    laptop = make_machine(tmp_path / "laptop")
    with connected(laptop, host) as client:
        assert not client.is_let_in()
        host.see(laptop.document())
        eventually(client.is_let_in)


def test_a_machine_that_is_forgotten_is_cut_off_in_the_middle_and_for_good(
    host: Host, client: Client, phone: Machine, tmp_path: Path
) -> None:
    tablet = make_machine(tmp_path / "tablet")
    host.see(tablet.document())
    file = host.publish(factories.content(40_000_000, seed=5))
    with connected(tablet, host) as other:
        eventually(other.is_let_in)
        client.http.request("GET", wire.file_path(file.file_id))
        response = client.http.getresponse()
        response.read(1000)
        host.see(phone.document(forgotten=True))
        with pytest.raises((OSError, http.client.IncompleteRead)):
            response.read()
        client.close()
        host.see(phone.document())  # somebody writes it back
        time.sleep(0.3)
        assert not client.is_let_in()
        assert other("HEAD", wire.file_path(file.file_id))[0] == 200


def test_the_key_of_the_host_is_replaced_without_a_restart(host: Host, client: Client, phone: Machine) -> None:
    assert client.is_let_in()
    renewed = identity.renew(host.machine.state_dir, host.machine.id)
    assert host.server is not None
    host.server.trust(host.trust.peers())
    fresh = Client(phone, host, context=tls.client_context(phone.identity, [renewed.certificate]))
    eventually(fresh.is_let_in)
    fresh.close()


# What they ask.


@pytest.mark.parametrize(
    "path",
    ["/files/../../../etc/passwd", "/files/..%2f..%2fetc%2fpasswd", "/files/" + "A" * 47, "/files/" + "a" * 48,
     "/files/" + "A" * 47 + "%00", "/files/" + "A" * 46 + "/.", "/files//" + "A" * 48, "/files/", "/", "//",
     "/uploads/", "/uploads/../files", "/uploads/%2e%2e", "/etc/passwd", "/files/" + "A" * 48 + "/x", "/files/%ff%fe",
     "/files/" + "Ａ" * 16, "/files/" + "A" * 48 + "?store_id=../../x"],
)  # fmt: skip
def test_a_path_that_is_none_reaches_nothing(standing: tuple[Host, Machine], path: str) -> None:
    host, machine = standing
    with raw(machine, host) as tcp:
        tcp.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = read_to_end(tcp).split(b" ")[1]
        assert status in (b"400", b"404", b"405")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "X" * 30])
def test_a_method_that_is_none_changes_nothing(standing: tuple[Host, Machine], method: str) -> None:
    host, machine = standing
    file = host.publish(DATA)
    with raw(machine, host) as tcp:
        tcp.sendall(
            f"{method} {wire.file_path(file.file_id)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert read_to_end(tcp).split(b" ")[1] in (b"400", b"404", b"405")
    assert host.store.has(file.file_id)


@pytest.mark.parametrize(
    "begin_with",
    [b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000, b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000,
     b"GET /" + b"x" * 1_000_000, b"\r\n" * 100_000, b"\x00" * 100_000, b"GET / HTTP/9.9\r\n\r\n",
     b"POST /uploads HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST /uploads HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
     b"POST /uploads HTTP/1.1\r\nContent-Length: -5\r\n\r\n"],
)  # fmt: skip
def test_requests_that_are_none_end_soon_and_cost_nothing(standing: tuple[Host, Machine], begin_with: bytes) -> None:
    host, machine = standing
    before = host.memory_bytes
    with raw(machine, host) as tcp:
        with contextlib.suppress(OSError):  # it may not even read it
            tcp.sendall(begin_with)
        tcp.settimeout(5)
        answer = b""
        with contextlib.suppress(OSError):
            answer = tcp.recv(65536)
        assert not answer or answer.split(b" ")[1].startswith(b"4"), answer[:100]
    assert host.memory_bytes - before < 16e6
    with connected(machine, host) as client:
        assert client.is_let_in()


def test_endless_headers_are_cut(standing: tuple[Host, Machine]) -> None:
    host, machine = standing
    before = host.memory_bytes
    with raw(machine, host) as tcp, pytest.raises(OSError):  # noqa: PT012 - one of them meets the end
        tcp.sendall(b"GET / HTTP/1.1\r\n")
        for number in range(200_000):
            tcp.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
    assert host.memory_bytes - before < 16e6


def test_headers_that_drip_are_cut_however_busily(host: Host, phone: Machine) -> None:
    async def scene() -> float:
        async def never(request: object, machine_id: str) -> None:
            raise AssertionError("there was no request")

        serving = doors.Doors(host.machine.identity, never, request_s=1.5)  # type: ignore[arg-type]
        serving.trust({phone.id: (phone.certificate,)})
        serving.open("127.0.0.1", 0)
        context = tls.client_context(phone.identity, [host.machine.certificate])
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port, ssl=context)
        began = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 15 and not reader.at_eof():
                writer.write(b"a")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1), 0.1):
                        break
        writer.close()
        await serving.close(1.0)
        return time.monotonic() - began

    assert asyncio.run(scene()) < 10


def test_a_body_that_drips_is_cut_and_the_upload_goes_on(impatient: Host, phone: Machine) -> None:
    file = impatient.document(DATA)
    with connected(phone, impatient) as client:
        path = begin(client, file)
        with raw(phone, impatient) as tcp:
            tcp.sendall(f"PATCH {path} HTTP/1.1\r\nHost: x\r\n".encode())
            for name, value in (PATCH | {"Upload_Offset": 0, "Content_Length": len(DATA)}).items():
                tcp.sendall(f"{name.replace('_', '-')}: {value}\r\n".encode())
            tcp.sendall(b"\r\n")
            tcp.settimeout(0.05)
            answer = b""
            until = time.monotonic() + 15
            while not answer and time.monotonic() < until:
                tcp.sendall(DATA[:1])
                with contextlib.suppress(TimeoutError):
                    answer = tcp.recv(4096)
        assert answer.split(b" ")[1] == b"408", answer[:200]
        offset = offset_of(client, path)
        assert patch(client, path, offset, DATA[offset:])[0] == 204


def test_a_client_that_does_not_read_is_cut(impatient: Host, phone: Machine) -> None:
    file = impatient.publish(factories.content(64 * 1024 * 1024))
    with raw(phone, impatient) as tcp:
        before = impatient.open_files
        tcp.sendall(f"GET {wire.file_path(file.file_id)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        tcp.recv(1)
        eventually(lambda: impatient.open_files < before)


def test_a_client_that_never_shakes_hands_holds_up_nobody(host: Host, phone: Machine) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(doors.HANDSHAKES // 2):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", host.port), timeout=WAIT_S))
        with connected(phone, host) as client:
            assert client.is_let_in()


def test_http_without_tls_is_refused(standing: tuple[Host, Machine]) -> None:
    host, _ = standing
    with socket.create_connection(("127.0.0.1", host.port), timeout=WAIT_S) as tcp:
        tcp.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        tcp.settimeout(5)
        with contextlib.suppress(OSError):
            assert not tcp.recv(100).startswith(b"HTTP")


def test_a_compressed_body_is_not_unpacked(host: Host, client: Client) -> None:
    path = begin(client, host.document(DATA))
    assert patch(client, path, 0, b"\x1f\x8b", Content_Encoding="gzip")[0] == 415


def test_no_machine_can_begin_uploads_without_end(host: Host, client: Client) -> None:
    file = host.document(DATA)
    paths = [begin(client, file) for _ in range(64)]
    metadata = PATCH | {"Upload_Length": file.size, "Upload_Metadata": "file_id " + b64(file.file_id)}
    assert client("POST", wire.UPLOADS, **metadata)[0] == 429
    for path in paths:
        assert client("DELETE", path, **TUS)[0] == 204
    assert left_behind(host) == []


def test_500_connections_at_once_are_answered_and_memory_stays_flat(host: Host, phone: Machine, tmp_path: Path) -> None:
    file = host.publish(factories.content(4 * 1024 * 1024))
    other = make_machine(tmp_path / "other")
    host.see(other.document())
    with connected(other, host) as calm:
        eventually(calm.is_let_in)
        before, files = host.memory_bytes, host.open_files
        context = tls.client_context(phone.identity, [host.machine.certificate])
        most = 0

        def ask(number: int) -> int:
            client = Client(phone, host, context=context)
            try:
                return client("GET", wire.file_path(file.file_id))[0]
            except OSError:
                return 0
            finally:
                client.close()

        with contextlib.ExitStack() as idle, ThreadPoolExecutor(100) as pool:
            for _ in range(400):
                idle.enter_context(raw(phone, host))
            most = max(most, host.memory_bytes)
            statuses = list(pool.map(ask, range(100)))
            most = max(most, host.memory_bytes)
            assert set(statuses) <= {200, 503}
            assert calm("HEAD", wire.file_path(file.file_id))[0] == 200  # the other machine notices nothing
        assert most - before < 150e6
        eventually(lambda: host.open_files <= files + 2)
        with connected(phone, host) as client:
            eventually(client.is_let_in)
