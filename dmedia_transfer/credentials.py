"""Where S3 secrets come from, and what they are bound to.

Secrets live in boto3's sessions only: nothing here keeps, shows or logs one. The order is: a systemd credential made
for this store, the profile that this machine's configuration names for it, boto3's own chain (environment, shared
files, SSO, instance metadata).
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from pathlib import Path

import boto3
import botocore.exceptions

from dmedia_transfer.errors import AccessDenied

SessionSource = Callable[[], boto3.session.Session]
"""Loads credentials anew each time it is called, so that a rotated key or a renewed login is found."""


def session_source(store_id: str, *, profile: str = "") -> SessionSource:
    """Where the credentials of a store come from on this machine; nothing is read before the source is called."""
    return lambda: load_session(store_id, profile=profile)


def load_session(store_id: str, *, profile: str = "") -> boto3.session.Session:
    """A boto3 session with this store's credentials.

    Raises:
        AccessDenied: The profile does not exist, or the systemd credential cannot be understood.
    """
    try:
        return _from_systemd(store_id) or boto3.session.Session(profile_name=profile or None)
    except botocore.exceptions.BotoCoreError as error:
        raise AccessDenied(f"no credentials for store {store_id}: {error}") from None


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
        return boto3.session.Session(
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
