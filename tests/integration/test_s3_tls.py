"""The S3 backend over TLS: certificates are checked, and a cut ends a call there as well."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dmedia_transfer.backends.s3 import S3Backend
from dmedia_transfer.errors import ConnectionLost, Stalled
from tests import factories
from tests.factories import BytesBody
from tests.proxy import FaultyProxy
from tests.s3 import S3Server, running_rclone
from tests.waiting import WAIT_S

DATA = factories.content(3 * 1024 * 1024)
FILE = factories.file_spec(DATA)


def unmetered(_count: int) -> None:
    pass


def fetched(backend: S3Backend) -> bytes:
    buffer = bytearray(len(DATA))
    backend.fetch(FILE, 0, memoryview(buffer), unmetered)
    return bytes(buffer)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def server(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_rclone(tmp_path_factory.mktemp("rclone-tls"), certificate=certificate) as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def backend(
    server: S3Server, proxy: FaultyProxy, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Backend]:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    backend = server.backend(url=proxy.url.replace("http:", "https:"), stall_s=1)
    backend.put(FILE, BytesBody(DATA), unmetered)
    yield backend
    backend.close()


def test_bytes_come_and_go_over_tls(backend: S3Backend) -> None:
    upload_id = backend.begin(FILE)
    part = backend.put_part(FILE, upload_id, 1, BytesBody(DATA), unmetered)
    backend.finish(FILE, upload_id, [part])
    assert fetched(backend) == DATA


def test_a_certificate_that_nobody_vouches_for_is_refused(server: S3Server) -> None:
    backend = server.backend()
    with pytest.raises(ConnectionLost, match=r"the certificate of 127\.0\.0\.1:\d+ is not trusted"):
        backend.stat(FILE)


def test_a_certificate_of_another_host_is_refused(
    server: S3Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    backend = server.backend(url=server.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(ConnectionLost, match="is not trusted"):
        backend.stat(FILE)


def test_garbled_bytes_do_not_get_through(backend: S3Backend, proxy: FaultyProxy) -> None:
    proxy.garble(1, after=500_000)
    with pytest.raises(ConnectionLost):
        fetched(backend)
    assert fetched(backend) == DATA


def test_a_stall_is_given_up_in_time(backend: S3Backend, proxy: FaultyProxy) -> None:
    proxy.stall()
    with pytest.raises(Stalled):
        fetched(backend)
    with pytest.raises(ConnectionLost):  # a new connection, stuck in its handshake
        backend.stat(FILE)


@pytest.mark.parametrize("kept_alive", [True, False], ids=["receiving", "shaking hands"])
def test_a_cut_ends_a_call_at_once(backend: S3Backend, server: S3Server, proxy: FaultyProxy, kept_alive: bool) -> None:
    patient = server.backend(url=proxy.url.replace("http:", "https:"), stall_s=10 * WAIT_S)
    if kept_alive:
        assert fetched(patient) == DATA
    proxy.stall()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(fetched, patient)
        while not patient._access.open_connections:  # making boto3's client takes a while
            time.sleep(0.01)
        time.sleep(0.3)
        assert not waiting.done()
        patient.cut()
        with pytest.raises(ConnectionLost, match="cut"):
            waiting.result(WAIT_S)
    proxy.stall(False)
    assert fetched(patient) == DATA
    patient.close()


def test_nothing_is_sent_in_the_clear_while_being_cut(
    backend: S3Backend, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSLSocket.shutdown` first drops TLS and then ends the connection: a thread that sends in between does so in the
    clear. Here that moment is long."""

    def slow_shutdown(sock: ssl.SSLSocket, how: int) -> None:
        sock._sslobj = None  # type: ignore[attr-defined]
        time.sleep(0.01)
        socket.socket.shutdown(sock, how)

    monkeypatch.setattr(ssl.SSLSocket, "shutdown", slow_shutdown)
    ended = threading.Event()
    upload_id = backend.begin(FILE)
    secret = b"in-the-clear-" * 100_000

    def send_until_ended() -> None:
        while not ended.is_set():
            with contextlib.suppress(ConnectionLost):
                backend.put_part(FILE, upload_id, 1, BytesBody(secret), unmetered)

    with proxy.recording() as recorded, ThreadPoolExecutor(2) as threads:
        sending = [threads.submit(send_until_ended) for _ in range(2)]
        for _ in range(40):
            time.sleep(0.02)
            backend.cut()
        ended.set()
        for future in sending:
            future.result(20)
    assert len(recorded) > 10_000
    assert b"in-the-clear" not in recorded
