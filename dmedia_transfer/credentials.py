"""Where S3 secrets come from, and what they are bound to.

Secrets live in boto3's sessions only: nothing here keeps, shows or logs one. The order is: a systemd credential made
for this store; what a person logged in with on this machine, an access key in the desktop's keyring or a named profile;
boto3's own chain (environment, shared files, SSO, instance metadata). They are loaded in the process that uses them, a
worker, and never cross a pipe.
"""

from __future__ import annotations

import configparser
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import boto3
import botocore.exceptions
import botocore.loaders
import botocore.session

from dmedia_transfer import secretservice
from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.model import StoreSpec
from dmedia_transfer.secretservice import AccessKey, Place

KEYRING: Final = "keyring"  # of `StoreSpec.login`
PROFILE: Final = "profile:"

SessionSource = Callable[[], boto3.session.Session]
"""Loads credentials anew each time it is called, so that a rotated key or a renewed login is found."""


def session_source(store: StoreSpec) -> SessionSource:
    """Where the credentials of a store come from on this machine; nothing is read before the source is called."""
    profile = store.login.removeprefix(PROFILE) if store.login.startswith(PROFILE) else ""
    place = Place.of(store.store_id, store.settings) if store.login == KEYRING else None
    return lambda: load_session(store.store_id, profile=profile, place=place)


def given(key: AccessKey) -> SessionSource:
    """An access key that a person has just entered."""
    return lambda: _session(aws_access_key_id=key.access_key, aws_secret_access_key=key.secret_key)


def load_session(store_id: str, *, profile: str = "", place: Place | None = None) -> boto3.session.Session:
    """A boto3 session with this store's credentials.

    Args:
        store_id: The store.
        profile: The profile to use; empty: boto3's own choice.
        place: What the access key in the keyring was entered for, if it is there.

    Raises:
        AccessDenied: The profile does not exist, the keyring has no access key, or the systemd credential cannot be
            understood.
        CredentialsExpired: The keyring is not there, or locked.
    """
    try:
        session = _from_systemd(store_id)
        if session is None and place is not None:
            session = given(secretservice.load(place))()
        return session or _session(profile or None)
    except botocore.exceptions.BotoCoreError as error:
        raise AccessDenied(f"no credentials for store {store_id}: {error}") from None


def load_models() -> None:
    """Have all that a client reads of boto3's description of S3 read, by one that is asked for nothing.

    For this process, and those that it forks.
    """
    nobody = dict.fromkeys(["aws_access_key_id", "aws_secret_access_key"], "nobody")
    _session(**nobody).client("s3", region_name="us-east-1")


def _session(profile: str | None = None, **keys: str | None) -> boto3.session.Session:
    """A session that shares with all others what boto3 knows of S3; of each other, they know nothing.

    Of the 65 ms of CPU that it takes to make a client, 60 are reading that.
    """
    core = botocore.session.Session(profile=profile)
    models = _models(core.get_config_variable("data_path"))
    core.register_component("data_loader", models)
    session = boto3.session.Session(botocore_session=core, **keys)
    models.search_paths[:] = dict.fromkeys(models.search_paths)  # to which each session adds a folder
    return session


@functools.cache
def _models(data_path: str | None) -> botocore.loaders.Loader:
    return botocore.loaders.create_loader(data_path)


def _from_systemd(store_id: str) -> boto3.session.Session | None:
    """`LoadCredential=s3-STORE_ID:FILE` in the unit: a file in the form of AWS's shared credentials file."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, f"s3-{store_id}") if folder else None
    if path is None or not path.is_file():
        return None
    parser = configparser.ConfigParser(interpolation=None)  # a secret may contain %
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser[parser.sections()[0]]
        return _session(
            aws_access_key_id=section["aws_access_key_id"],
            aws_secret_access_key=section["aws_secret_access_key"],
            aws_session_token=section.get("aws_session_token"),
        )
    except (OSError, UnicodeDecodeError, configparser.Error, IndexError, KeyError) as error:
        # Only the kind of error: a parser's message quotes the line, and the line may be the secret.
        raise AccessDenied(
            f"the systemd credential {path.name} should have one section with aws_access_key_id and "
            f"aws_secret_access_key ({type(error).__name__})"
        ) from None
