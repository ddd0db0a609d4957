"""Where S3 secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmedia_transfer import credentials
from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.model import StoreSpec
from dmedia_transfer.secretservice import AccessKey
from tests.factories import OTHER_STORE_ID, STORE_ID

SECRET = "50%-secret/+=="


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without AWS settings, in which nothing of the machine is found."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


def key_of(store_id: str = STORE_ID, *, profile: str = "") -> tuple[str | None, str | None]:
    found = credentials.load_session(store_id, profile=profile).get_credentials()
    assert found is not None
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key


def profile_text(name: str, key: str) -> str:
    return f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"


def test_boto3s_own_chain_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert key_of() == ("AKIAENV", SECRET)


def test_a_profile_of_this_store_is_used(home: Path) -> None:
    (home / "credentials").write_text(profile_text("films", "AKIAFILMS"))
    assert key_of(profile="films") == ("AKIAFILMS", SECRET)


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(AccessDenied, match=f"{STORE_ID}.*films"):
        credentials.load_session(STORE_ID, profile="films")


def test_a_systemd_credential_of_this_store_comes_first_and_is_no_other_stores(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    (home / f"s3-{STORE_ID}").write_text(profile_text("any", "AKIASYSTEMD"))
    assert key_of() == ("AKIASYSTEMD", SECRET)
    assert key_of(OTHER_STORE_ID) == ("AKIAENV", "other")


@pytest.mark.parametrize("text", ["", SECRET, "[a]\naws_access_key_id=x\n", f"aws_secret_access_key={SECRET}"])
def test_a_systemd_credential_that_cannot_be_read_is_named_without_showing_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    (home / f"s3-{STORE_ID}").write_text(text)
    with pytest.raises(AccessDenied, match=f"s3-{STORE_ID}") as caught:
        credentials.load_session(STORE_ID)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_source_loads_anew_each_time_and_nothing_before(home: Path) -> None:
    source = credentials.session_source(StoreSpec(STORE_ID, "s3", login="profile:films"))
    for key in ("AKIAOLD", "AKIANEW"):
        (home / "credentials").write_text(profile_text("films", key))
        found = source().get_credentials()
        assert found is not None
        assert found.access_key == key


def test_what_boto3_knows_of_s3_is_read_once_and_keys_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.load_models()
    read: list[str] = []
    monkeypatch.setattr("botocore.loaders.JSONFileLoader.load_file", lambda _, path: read.append(path))
    sessions = [credentials.given(AccessKey(name, "secret"))() for name in ("ann", "bob")]
    for session in sessions:
        session.client("s3", region_name="us-east-1")
    assert read == []
    keys = [session.get_credentials() for session in sessions]
    assert [key and key.access_key for key in keys] == ["ann", "bob"]
