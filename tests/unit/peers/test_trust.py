from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dmedia_transfer.errors import InvalidConfig
from dmedia_transfer.peers import identity
from dmedia_transfer.peers.trust import Trust
from tests.peers import Machine, make_machine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "peers.json"


@pytest.fixture
def tv(tmp_path: Path) -> Machine:
    return make_machine(tmp_path / "tv")


def fingerprints(trust: Trust) -> list[str]:
    return [each.fingerprint for peer in trust.peers() for each in peer.certificates]


def test_a_machine_of_the_library_is_trusted_also_after_a_restart(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    assert trust.on_machine(tv.document())
    assert not trust.on_machine(tv.document(_rev="2-x"))
    assert fingerprints(trust) == fingerprints(Trust(file)) == [tv.certificate.fingerprint]
    peer = Trust(file).peer(tv.id)
    assert peer is not None
    assert peer.certificates == (tv.certificate,)


def test_a_machine_that_was_forgotten_is_out_for_good(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document())
    assert trust.on_machine(tv.document(forgotten=True))
    assert fingerprints(trust) == []
    trust.on_machine(tv.document())  # an older revision, or somebody who writes it back
    assert fingerprints(trust) == fingerprints(Trust(file)) == []
    assert Trust(file).is_denied(tv.certificate.fingerprint)


def test_forgetting_denies_every_certificate_that_was_ever_known(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document())
    assert trust.on_machine(tv.document(forgotten=True, peer=None))
    assert trust.is_denied(tv.certificate.fingerprint)


def test_a_denied_certificate_is_not_trusted_under_another_machine(file: Path, tv: Machine, tmp_path: Path) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document(forgotten=True))
    other = make_machine(tmp_path / "other")
    trust.on_machine(other.document(peer=tv.document()["peer"]))
    assert trust.peers() == []


def test_a_machine_that_comes_back_with_a_new_key_is_trusted(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document(forgotten=True))
    renewed = Machine(tv.id, tv.state_dir, identity.renew(tv.state_dir, tv.id))
    assert trust.on_machine(renewed.document())
    assert fingerprints(trust) == [renewed.certificate.fingerprint]


def test_forgotten_holds_however_bad_the_rest_of_the_document_is(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document())
    assert trust.on_machine(tv.document(forgotten=True, peer="?", queue="?", hostname=5))
    assert trust.peers() == []


def test_a_certificate_is_trusted_while_its_successor_is_published(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    both = Machine(tv.id, tv.state_dir, identity.rotate(tv.state_dir, tv.id))
    trust.on_machine(both.document())
    assert fingerprints(trust) == [each.fingerprint for each in both.identity.published]
    assert len(fingerprints(trust)) == 2


def test_a_machine_whose_document_is_gone_is_not_trusted(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document())
    assert trust.on_machine_gone(tv.id)
    assert not trust.on_machine_gone(tv.id)
    assert trust.peers() == Trust(file).peers() == []


def test_a_machine_that_was_removed_while_we_were_off_is_not_trusted(file: Path, tv: Machine, tmp_path: Path) -> None:
    Trust(file).on_machine(tv.document())
    other = make_machine(tmp_path / "other")
    trust = Trust(file)
    assert trust.on_machines([other.document()])
    assert fingerprints(trust) == [other.certificate.fingerprint]
    assert not trust.on_machines([other.document()])


def test_a_machine_that_takes_its_certificates_back_is_not_trusted(file: Path, tv: Machine) -> None:
    trust = Trust(file)
    trust.on_machine(tv.document())
    assert trust.on_machine(tv.document(peer={"certificates": []}))
    assert trust.peers() == []


def test_a_bad_certificate_is_told_of_and_the_good_one_holds(
    file: Path, tv: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    trust = Trust(file)
    with caplog.at_level(logging.WARNING):
        trust.on_machine(tv.document(peer={"certificates": ["x", tv.certificate.text]}))
    assert "peer.certificates.0" in caplog.text
    assert fingerprints(trust) == [tv.certificate.fingerprint]


@pytest.mark.parametrize("changes", [{"_id": "../x"}, {"_id": 5}, {"type": "dmedia/file"}])
def test_what_is_no_machine_is_not_trusted(file: Path, tv: Machine, changes: dict[str, object]) -> None:
    assert not Trust(file).on_machine(tv.document(**changes))


def test_a_file_that_cannot_be_understood_is_never_begun_anew(file: Path) -> None:
    file.write_text("{")
    with pytest.raises(InvalidConfig, match=r"peers\.json: whom we trust cannot be understood"):
        Trust(file)
    assert file.read_text() == "{"
