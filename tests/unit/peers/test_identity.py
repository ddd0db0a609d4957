from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from dmedia_transfer.errors import InvalidConfig
from dmedia_transfer.peers import identity
from tests.factories import MACHINE_ID
from tests.peers import NOW


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = identity.keep(tmp_path, MACHINE_ID)
    assert identity.keep(tmp_path, MACHINE_ID) == first == identity.load(tmp_path)
    assert stat.S_IMODE(first.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.file.parent.stat().st_mode) == 0o700
    assert first.published == (first.certificate,)


def test_a_key_is_made_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = identity.keep(tmp_path, MACHINE_ID)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600


def test_before_the_daemon_made_a_key_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="there is no key for peers yet"):
        identity.load(tmp_path)


def test_a_successor_is_published_long_before_it_is_used(tmp_path: Path) -> None:
    old = identity.keep(tmp_path, MACHINE_ID, now=NOW).certificate
    late = old.not_after - identity.ROTATE_BEFORE + timedelta(minutes=1)
    both = identity.keep(tmp_path, MACHINE_ID, now=late)
    assert both.certificate == old
    assert both.published[0] == old
    assert len(both.published) == 2
    waiting = identity.keep(tmp_path, MACHINE_ID, now=late + identity.LEARN - timedelta(minutes=1))
    assert waiting == both
    used = identity.keep(tmp_path, MACHINE_ID, now=late + identity.LEARN + timedelta(minutes=1))
    assert used.certificate == both.published[1]
    assert used.published == (used.certificate,)


def test_a_certificate_that_has_expired_waits_for_nobody(tmp_path: Path) -> None:
    old = identity.keep(tmp_path, MACHINE_ID, now=NOW).certificate
    expired = old.not_after + timedelta(days=1)
    successor = identity.keep(tmp_path, MACHINE_ID, now=expired).published[1]
    assert identity.keep(tmp_path, MACHINE_ID, now=expired).certificate == successor


def test_a_person_may_rotate_at_any_time_and_once_only(tmp_path: Path) -> None:
    old = identity.keep(tmp_path, MACHINE_ID).certificate
    rotating = identity.rotate(tmp_path, MACHINE_ID)
    assert rotating.certificate == old
    assert len(rotating.published) == 2
    assert identity.rotate(tmp_path, MACHINE_ID) == rotating


def test_a_stolen_key_is_thrown_away_at_once(tmp_path: Path) -> None:
    old = identity.rotate(tmp_path, MACHINE_ID)
    renewed = identity.renew(tmp_path, MACHINE_ID)
    assert old.certificate not in renewed.published
    assert len(renewed.published) == 1


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_key_is_told_of_and_never_replaced_by_itself(tmp_path: Path, damage: bytes) -> None:
    file = identity.keep(tmp_path, MACHINE_ID).file
    file.write_bytes(damage)
    with pytest.raises(InvalidConfig, match="is no key and certificate"):
        identity.keep(tmp_path, MACHINE_ID)
    assert file.read_bytes() == damage


def test_a_key_of_another_certificate_is_told_of(tmp_path: Path) -> None:
    ours = identity.keep(tmp_path / "a", MACHINE_ID).file
    other = identity.keep(tmp_path / "b", MACHINE_ID).file
    key = ours.read_text().partition("-----BEGIN CERTIFICATE-----")[0]
    ours.write_text(key + "-----BEGIN CERTIFICATE-----" + other.read_text().partition("-----BEGIN CERTIFICATE-----")[2])
    with pytest.raises(InvalidConfig, match="not that of the certificate"):
        identity.load(tmp_path / "a")
