"""What a store's document says of it: what it is called, where it is, and its bucket, if it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from dmedia_transfer.cli import names, words

if TYPE_CHECKING:
    from dmedia_transfer.backends.s3 import S3Backend
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.credentials import SessionSource

STALL_S: Final = 20.0  # somebody is waiting: no longer than this for a server that says nothing


def where(raw: Mapping[str, Any]) -> str:
    """Where a store is, as its document says."""
    if raw.get("plugin") == "s3":
        endpoint = str(raw.get("endpoint_url") or "Amazon S3")
        return words.printable(f"{raw.get('bucket')}/{raw.get('prefix') or ''} at {endpoint}")
    if raw.get("plugin") == "filestore":
        return f"on machine {words.short(words.printable(str(raw.get('machine_id') or '?')))}"
    return ""


def called(raw: Mapping[str, Any]) -> str:
    """What people call it, with the beginning of its ID."""
    name = names.name_of(raw)
    return f"{name} ({words.short(raw['_id'])})" if name else str(raw["_id"])


@contextmanager
def bucket_of(
    device: Device, raw: Mapping[str, Any], *, login: str | None = None, sessions: SessionSource | None = None
) -> Iterator[S3Backend]:
    """The bucket of an S3 store, which was enabled, while it is needed.

    Args:
        device: This machine.
        raw: The store's document.
        login: Where its credentials are; None: where they are for the daemon.
        sessions: Gives other credentials.
    """
    from dmedia_transfer import documents
    from dmedia_transfer.backends.s3 import S3Backend
    from dmedia_transfer.model import StoreSpec

    settings = documents.read_s3_settings(raw).model_dump()
    login = device.bindings.login(raw) if login is None else login
    spec = StoreSpec(str(raw["_id"]), "s3", settings, login=login)
    backend = S3Backend(spec, stall_s=min(device.config.stall_s, STALL_S), connections=1, sessions=sessions)
    try:
        yield backend
    finally:
        backend.close()
