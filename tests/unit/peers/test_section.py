from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.peers import certificates
from dmedia_transfer.peers.section import MAX_CERTIFICATES, PeerAddress, read_section, write_section
from tests.factories import MACHINE_ID
from tests.peers import NOW

_, CERTIFICATE = certificates.make(MACHINE_ID)


def signed_by(
    signer: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
) -> str:
    name = x509.Name([])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key).serial_number(1)
    signed = built.not_valid_before(NOW).not_valid_after(NOW).sign(signer, hashes.SHA256())
    return base64.b64encode(signed.public_bytes(Encoding.DER)).decode()


def test_what_is_written_is_read_back() -> None:
    addresses = (PeerAddress("192.0.2.7", 8443), PeerAddress("2001:db8::7", 1), PeerAddress("tv.local", 65535))
    section = write_section({"new_key": 1}, [CERTIFICATE], addresses)
    assert section["new_key"] == 1
    read = read_section({"_id": MACHINE_ID, "peer": section})
    assert (read.certificates, read.addresses, read.problems) == ((CERTIFICATE,), addresses, ())


@pytest.mark.parametrize(
    "text",
    ["", ":1", "host", "host:", "host:0", "host:65536", "host:-1", "host:1 ", "host:١", "a b:1", "a/b:1", "u@h:1",
     "[::1]", "[::1:1", "[host]:1", "::1:1", "-a:1", "a\n:1", "[fe80::1%eth0/../x]:1", 8443, None],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="is not an address"):
        PeerAddress.parse(text)


@pytest.mark.parametrize("text", [None, 1, "", "AAAA", "not base64!", "A" * 100_000])
def test_what_is_no_certificate_is_told_of_and_disturbs_no_other(text: object) -> None:
    read = read_section({"_id": MACHINE_ID, "peer": {"certificates": [text, CERTIFICATE.text]}})
    assert read.certificates == (CERTIFICATE,)
    assert [problem.key for problem in read.problems] == ["peer.certificates.0"]


def test_a_certificate_that_another_key_signed_is_refused() -> None:
    text = signed_by(ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()).public_key())
    (problem,) = read_section({"_id": MACHINE_ID, "peer": {"certificates": [text]}}).problems
    assert "is not a certificate" in str(problem)


def test_a_key_of_another_kind_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert not read_section(
        {"_id": MACHINE_ID, "peer": {"certificates": [signed_by(key, key.public_key())]}}
    ).certificates


@pytest.mark.parametrize("peer", [[], "x", 1, {"certificates": {}}, {"addresses": "host:1"}])
def test_a_section_of_another_shape_is_told_of(peer: object) -> None:
    read = read_section({"_id": MACHINE_ID, "peer": peer})
    assert len(read.problems) == 1
    assert not read.certificates
    assert not read.addresses


def test_no_more_certificates_are_read_than_a_machine_can_need() -> None:
    many = [certificates.make(MACHINE_ID)[1].text for _ in range(MAX_CERTIFICATES + 1)]
    read = read_section({"_id": MACHINE_ID, "peer": {"certificates": many}})
    assert len(read.certificates) == MAX_CERTIFICATES
    assert "9 values, 8 are read" in str(read.problems[0])
