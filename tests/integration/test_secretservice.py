"""Access keys in a real keyring: bound to their place, never asked for by a worker, and a clear word without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmedia_transfer import secretservice
from dmedia_transfer.errors import AccessDenied, CredentialsExpired
from dmedia_transfer.secretservice import AccessKey, Place
from tests.bus import PrivateBus
from tests.factories import OTHER_STORE_ID, STORE_ID
from tests.keyring import running_keyring

PLACE = Place(STORE_ID, "https://s3.example.org", "films")
KEY = AccessKey("AKIAEXAMPLE", "50%-secret/+==")


@pytest.fixture(autouse=True)
def session(private_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> PrivateBus:
    """The bus on which the keyring is looked for."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", private_bus.address)
    return private_bus


def test_a_key_is_found_only_by_all_of_what_it_was_entered_for(session: PrivateBus, tmp_path: Path) -> None:
    with running_keyring(session, tmp_path / "keys"):
        secretservice.save(PLACE, AccessKey("old", "old"))
        secretservice.save(PLACE, KEY)
        assert secretservice.load(PLACE) == KEY
        for other in (
            Place(OTHER_STORE_ID, PLACE.endpoint_url, PLACE.bucket),
            Place(STORE_ID, "https://elsewhere.example.org", PLACE.bucket),
            Place(STORE_ID, "", PLACE.bucket),
            Place(STORE_ID, PLACE.endpoint_url, "other"),
        ):
            with pytest.raises(AccessDenied, match="stores login"):
                secretservice.load(other)
        assert not secretservice.remove(OTHER_STORE_ID)
        assert secretservice.remove(STORE_ID)
        with pytest.raises(AccessDenied):
            secretservice.load(PLACE)


def test_a_locked_keyring_is_waited_for_and_nobody_is_asked(session: PrivateBus, tmp_path: Path) -> None:
    with running_keyring(session, tmp_path / "keys"):
        secretservice.save(PLACE, KEY)
    with (
        running_keyring(session, tmp_path / "keys", unlocked=False),
        pytest.raises(CredentialsExpired, match="is locked") as caught,
    ):
        secretservice.load(PLACE)
    assert caught.value.transient
    with running_keyring(session, tmp_path / "keys"):
        assert secretservice.load(PLACE) == KEY


def test_without_a_keyring_or_a_bus_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in (None, f"unix:path={tmp_path}/no-bus", "nonsense"):
        if address is not None:
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        with pytest.raises(CredentialsExpired, match="no keyring"):
            secretservice.load(PLACE)
        with pytest.raises(CredentialsExpired, match="no keyring"):
            secretservice.save(PLACE, KEY)
        with pytest.raises(CredentialsExpired, match="no keyring"):
            secretservice.remove(STORE_ID)


def test_a_key_is_never_shown() -> None:
    assert "secret" not in repr(KEY).replace("secret_key", "")
    assert KEY.access_key not in repr(KEY)
