"""One session to a server that may be anything."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.session import DatabaseMissing, Rejected, Session
from dmedia_transfer.errors import (
    AccessDenied,
    Conflict,
    DatabaseUnavailable,
    InvalidConfig,
    TransferError,
    Unknown,
)
from tests.scripted import Answer, Asked, ScriptedServer
from tests.waiting import WAIT_S


def refused(answer: Answer) -> TransferError:
    """The error that this answer makes."""
    with ScriptedServer(lambda _: answer) as server, Session(Address(server.url, "me")) as session:
        with pytest.raises(TransferError) as caught:
            session.json("GET", f"{server.url}/db")
        assert server.url in str(caught.value)
        return caught.value


def couch_error(status: int, error: str = "", reason: str = "") -> Answer:
    """An error as CouchDB words it."""
    return Answer(status, json={"error": error, "reason": reason})


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (couch_error(401, "unauthorized", "Name or password is incorrect."), AccessDenied, "'me'.*incorrect"),
        (couch_error(403, "forbidden", "You are not allowed"), AccessDenied, "refuses user 'me': You are not"),
        (couch_error(404, "not_found", "missing"), Unknown, "no such document"),
        (couch_error(404, "not_found", "deleted"), Unknown, "no such document"),
        (couch_error(404, "not_found", "Database does not exist."), DatabaseMissing, "no such database"),
        (couch_error(404, "not_found", "no_db_file"), DatabaseMissing, "no such database"),
        (couch_error(409, "conflict", "Document update conflict."), Conflict, "409"),
        (couch_error(412, "file_exists", "it is there"), Conflict, "412: it is there"),
        (couch_error(400, "bad_request", "Invalid rev format"), Rejected, "400 bad_request: Invalid rev"),
        (couch_error(413, "document_too_large", "FILE"), Rejected, "so large: FILE"),
        (Answer(413, body=b"<html>nginx</html>", content_type="text/html"), Rejected, "so large"),
        (couch_error(500, "internal_server_error", "oops"), DatabaseUnavailable, "500: oops"),
        (Answer(502, body=b"<html>", content_type="text/html"), DatabaseUnavailable, "502"),
        (Answer(404, body=b"<html>", content_type="text/html"), DatabaseUnavailable, "404"),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/login"}), DatabaseUnavailable, "redirect"),
        (Answer(200, body=b"<html>", content_type="text/html"), DatabaseUnavailable, "text/html"),
        (Answer(200, body=b'{"a": '), DatabaseUnavailable, "broken JSON"),
        (Answer(200, body=b'{"a": \xff}'), DatabaseUnavailable, "broken JSON"),
        (Answer(500, body=b"[" * 100_000), DatabaseUnavailable, "500"),
        (couch_error(500, "x", "a\nERROR forged\x1b[0m"), DatabaseUnavailable, r"500: a\?ERROR forged\?\[0m$"),
    ],
)
def test_each_refusal_is_an_error_of_ours(answer: Answer, kind: type[TransferError], words: str) -> None:
    error = refused(answer)
    assert type(error) is kind
    assert re.search(words, str(error))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("100000", 300.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_a_server_that_is_busy_says_when_to_come_back(text: str, seconds: float | None) -> None:
    for status in (429, 503):
        assert refused(Answer(status, headers={"Retry-After": text})).retry_after_s == seconds


def test_credentials_go_into_a_header_and_nowhere_else() -> None:
    address = Address.parse("http://ann:p%40ss@127.0.0.1:1/couch/")
    assert (address.url, address.user, address.password.get_secret_value()) == (
        "http://127.0.0.1:1/couch",
        "ann",
        "p@ss",
    )
    assert "p@ss" not in repr(address)
    with ScriptedServer(lambda _: Answer(json={})) as server:
        with Session(Address(server.url, "änn", SecretStr("pässwörd✓"))) as session:
            session.json("GET", server.url)
        sent = base64.b64decode(server.asked[0].headers["Authorization"].removeprefix("Basic ")).decode()
        assert sent == "änn:pässwörd✓"


@pytest.mark.parametrize("url", ["ftp://x", "x", "", "http://", "http://[::1", "http://x:port"])
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidConfig, match="couchdb: ") as caught:
        Address.parse(url + "?secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://127.0.0.1.evil", False),
    ],
)
def test_loopback_is_told_from_the_network(url: str, loopback: bool) -> None:
    address = Address.parse(url)
    assert address.loopback is loopback
    assert address.url == url


def test_names_of_databases_are_quoted() -> None:
    assert Address("http://h").database_url("a/b+c") == "http://h/a%2Fb%2Bc"


def test_a_cookie_is_not_sent_back() -> None:
    with ScriptedServer(lambda _: Answer(json={}, headers={"Set-Cookie": "AuthSession=x; Path=/"})) as server:
        with Session(Address(server.url)) as session:
            session.json("GET", server.url)
            session.json("GET", server.url)
        assert "Cookie" not in server.asked[1].headers


def test_proxies_of_the_environment_are_not_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with ScriptedServer(lambda _: Answer(json={"ok": 1})) as server, Session(Address(server.url)) as session:
        assert session.json("GET", server.url) == {"ok": 1}


def test_a_server_that_is_not_there_is_said_in_one_sentence() -> None:
    with ScriptedServer(lambda _: Answer()) as server:
        url = server.url
    with Session(Address(url)) as session, pytest.raises(DatabaseUnavailable) as caught:
        session.json("GET", url)
    assert str(caught.value) == f"CouchDB at {url} does not answer: Connection refused"


def test_a_frozen_server_is_given_up_in_time() -> None:
    with ScriptedServer(lambda _: Answer()) as server, Session(Address(server.url), read_timeout_s=0.1) as session:
        server.freeze()
        with pytest.raises(DatabaseUnavailable, match="in time"):
            session.json("GET", server.url)


def test_a_call_that_waits_can_be_cut() -> None:
    with (
        ScriptedServer(lambda _: Answer()) as server,
        Session(Address(server.url), read_timeout_s=10 * WAIT_S) as session,
    ):
        server.freeze()
        timer = threading.Timer(0.1, session.cut)
        timer.start()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            session.json("GET", server.url)
        server.respond = lambda _: Answer(json={"again": True})
        assert session.json("GET", server.url) == {"again": True}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "couch")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "couch.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def tls_server(certificate: Path) -> ScriptedServer:
    """A server with this certificate that knows one document."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return ScriptedServer(_document, tls=context)


def _document(asked: Asked) -> Answer:
    return Answer(json={"_id": asked.path.rpartition("/")[2], "_rev": "1-a"})


def test_a_certificate_that_nobody_vouches_for_is_refused_by_all_of_pycouchdb(certificate: Path) -> None:
    with tls_server(certificate) as server:
        database = Database(Address(server.url), "db")
        calls: list[Callable[[], object]] = [
            lambda: database.get("x"),
            lambda: database.put({"_id": "x"}),
            lambda: database.get_many(["x"]),
            lambda: database.get_stores(),
            lambda: database.ensure_exists(),
        ]
        for call in calls:
            with pytest.raises(DatabaseUnavailable, match="no certificate that we trust"):
                call()
        assert server.asked == []


def test_a_certificate_of_the_configured_file_is_trusted(certificate: Path) -> None:
    with tls_server(certificate) as server:
        assert Database(Address(server.url, ca_file=certificate), "db").get("x") == {"_id": "x", "_rev": "1-a"}


def test_a_tls_connection_can_be_cut(certificate: Path) -> None:
    with tls_server(certificate) as server, Session(Address(server.url, ca_file=certificate)) as session:
        server.freeze()
        threading.Timer(0.1, session.cut).start()
        with pytest.raises(DatabaseUnavailable):
            session.json("GET", server.url)


def test_a_file_of_certificates_that_is_not_there_is_named(tmp_path: Path) -> None:
    address = Address("https://127.0.0.1:1", ca_file=tmp_path / "none.pem")
    with Session(address) as session, pytest.raises(InvalidConfig, match=r"couchdb_ca_file.*none\.pem"):
        session.json("GET", address.url)
