from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from dmedia_transfer.errors import AccessDenied, ConnectionLost
from dmedia_transfer.peers import tls
from dmedia_transfer.peers.certificates import Certificate
from tests.peers import NOW, Machine, make_machine, shake_hands


@pytest.fixture
def tv(tmp_path: Path) -> Machine:
    return make_machine(tmp_path / "tv")


@pytest.fixture
def phone(tmp_path: Path) -> Machine:
    return make_machine(tmp_path / "phone")


def meaning(error: object, who: str = "the peer") -> str:
    assert isinstance(error, OSError), error
    return str(tls.explained(error, who=who))


def server_of(machine: Machine, *trusted: Certificate) -> ssl.SSLContext:
    return tls.server_context(machine.identity, trusted)


def client_of(machine: Machine, *trusted: Certificate) -> ssl.SSLContext:
    return tls.client_context(machine.identity, trusted)


def test_two_machines_that_know_each_other_speak_tls_1_3(tv: Machine, phone: Machine) -> None:
    seen, got = shake_hands(server_of(tv, phone.certificate), client_of(phone, tv.certificate))
    assert (seen, got) == (phone.certificate.der, tv.certificate.der)
    assert isinstance(got, bytes)
    assert tls.pinned(got, {tv.certificate.fingerprint}, who="tv") == tv.certificate.fingerprint


def test_a_client_that_is_not_known_is_told_so(tv: Machine, phone: Machine, tmp_path: Path) -> None:
    other = make_machine(tmp_path / "other")
    seen, got = shake_hands(server_of(tv, other.certificate), client_of(phone, tv.certificate))
    assert "its certificate is not in this library" in meaning(seen)
    assert "it does not know our certificate" in meaning(got)


def test_nobody_is_accepted_where_nobody_is_known(tv: Machine, phone: Machine) -> None:
    seen, _ = shake_hands(server_of(tv), client_of(phone, tv.certificate))
    assert "its certificate is not in this library" in meaning(seen)


def test_a_server_that_is_not_known_is_refused(tv: Machine, phone: Machine, tmp_path: Path) -> None:
    other = make_machine(tmp_path / "other")
    seen, got = shake_hands(server_of(tv, phone.certificate), client_of(phone, other.certificate))
    assert "its certificate is not in this library" in meaning(got)
    assert "it does not know our certificate" in meaning(seen)


def test_a_client_without_a_certificate_is_told_so(tv: Machine, phone: Machine) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=tv.certificate.der)
    seen, got = shake_hands(server_of(tv, phone.certificate), bare)
    assert "it showed no certificate" in meaning(seen)
    assert "we showed none" in meaning(got)


def test_an_expired_certificate_is_refused_on_both_sides(tv: Machine, tmp_path: Path) -> None:
    old = make_machine(tmp_path / "old", now=NOW - timedelta(days=1000))
    seen, got = shake_hands(server_of(tv, old.certificate), client_of(old, tv.certificate))
    assert "its certificate has expired" in meaning(seen)
    assert "our certificate has expired" in meaning(got)
    seen, got = shake_hands(server_of(old, tv.certificate), client_of(tv, old.certificate))
    assert "its certificate has expired" in meaning(got)


def test_older_tls_is_refused(tv: Machine, phone: Machine) -> None:
    context = client_of(phone, tv.certificate)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    seen, _ = shake_hands(server_of(tv, phone.certificate), context)
    assert "does not speak TLS 1.3" in meaning(seen)


def test_the_exact_certificate_is_asked_for(tv: Machine, phone: Machine) -> None:
    with pytest.raises(AccessDenied, match="not accepted in this library"):
        tls.pinned(phone.certificate.der, {tv.certificate.fingerprint}, who="phone")
    with pytest.raises(AccessDenied, match="phone showed no certificate"):
        tls.pinned(None, {tv.certificate.fingerprint}, who="phone")


def test_an_error_of_the_network_is_one_that_passes() -> None:
    assert isinstance(tls.explained(ConnectionResetError(104, "reset"), who="tv"), ConnectionLost)
    assert isinstance(tls.explained(ssl.SSLEOFError(8, "EOF occurred"), who="tv"), ConnectionLost)
