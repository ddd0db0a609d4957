"""Bindings: this machine's own list of stores, and what a store has to be like to be used here.

Store documents come from other devices, and whoever can edit one could send our signature or our files elsewhere. So a
store is used only after a person enabled it on this machine, and only while its document names the plugin, endpoint
and bucket that it named then. The list lives in `stores.json` in the state folder, for its owner only. The command
line changes it while the daemon runs: each call sees the latest.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmedia_transfer import documents, leaves
from dmedia_transfer.errors import AccessDenied, InvalidConfig, InvalidDocument, InvalidRequest, shown
from dmedia_transfer.fields import RandomId

FILE_NAME: Final = "stores.json"
S3: Final = "s3"

# Of a store whose plugin we know nothing of, everything but these could say where our bytes go.
_HARMLESS: Final = frozenset({"_id", "_rev", "type", "time", "ver", "name", "copies", "cost", "_attachments"})


class _Login(BaseModel):
    """Where the credentials for a place are; not the credentials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: dict[str, Any]  # what the store was like then
    profile: str = ""  # of AWS's shared files; empty: the desktop's keyring


class _List(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ver: int = 0
    filestores: dict[RandomId, Path] = Field(default_factory=dict)
    enabled: dict[RandomId, dict[str, Any]] = Field(default_factory=dict)  # what each was like when it was enabled
    logins: dict[RandomId, _Login] = Field(default_factory=dict)


class Bindings:
    """The list of stores in `path`. Any thread and any process may call."""

    def __init__(self, path: Path, *, allowed_http_hosts: Sequence[str] = ()) -> None:
        """`allowed_http_hosts` may be reached without TLS, besides this machine itself."""
        self._path = path
        self.allow_http(allowed_http_hosts)
        self._lock = threading.Lock()
        self._list = _List()
        self._read_as: tuple[int, int, int] | None = None

    def allow_http(self, hosts: Sequence[str]) -> None:
        """From now on these hosts may be reached without TLS, besides this machine itself."""
        self._allowed_http_hosts = frozenset(host.lower() for host in hosts)

    def filestores(self) -> dict[str, Path]:
        """Where each FileStore of this machine is, whether or not it is there now, by its ID.

        Raises:
            InvalidConfig: The list cannot be read.
        """
        return dict(self._current().filestores)

    def enabled(self) -> set[str]:
        """The IDs of the other stores that were enabled here."""
        return set(self._current().enabled)

    def add_filestore(self, store_id: str, root: Path) -> None:
        """This machine has a FileStore there; one of the same ID has moved.

        Raises:
            InvalidRequest: The ID is none, the path is relative, or another FileStore is there.
        """
        if not leaves.is_random_id(store_id):
            raise InvalidRequest(f"{shown(store_id)} is not a store ID (24 characters of base32)")
        if not root.is_absolute():
            raise InvalidRequest(f"the path of a FileStore has to be absolute, not {root}")
        with self._changing() as stores:
            for other, path in stores.filestores.items():
                if path == root and other != store_id:
                    raise InvalidRequest(f"FileStore {other} is at {root} already")
            stores.filestores[store_id] = root

    def remove(self, store_id: str) -> bool:
        """Take a store off the list, of whatever kind; nothing in it is touched. False if it was not on it."""
        with self._changing() as stores:
            known = store_id in stores.filestores or store_id in stores.enabled
            stores.filestores.pop(store_id, None)
            stores.enabled.pop(store_id, None)
            stores.logins.pop(store_id, None)
            return known

    def enable(self, raw: Mapping[str, Any]) -> None:
        """Use the store of this document from now on, as long as it goes to where it goes now.

        Raises:
            InvalidDocument: The document cannot be believed.
            AccessDenied: It would be reached without TLS.
        """
        store = documents.read_store(raw)
        where = _where(raw)
        self._check_transport(raw)
        with self._changing() as stores:
            stores.enabled[store.id] = where

    def log_in(self, raw: Mapping[str, Any], *, profile: str = "") -> None:
        """The credentials for the store of this document are in that profile, or else in the desktop's keyring.

        Raises:
            InvalidDocument: The document cannot be believed.
        """
        store = documents.read_store(raw)
        with self._changing() as stores:
            stores.logins[store.id] = _Login(place=_where(raw), profile=profile)

    def log_out(self, store_id: str) -> bool:
        """The credentials for this store are in boto3's own places again; False if they were."""
        with self._changing() as stores:
            return stores.logins.pop(store_id, None) is not None

    def login(self, raw: Mapping[str, Any]) -> str:
        """Where the credentials for the store of this document are: `keyring`, `profile:NAME`, or empty.

        Raises:
            InvalidDocument: The document cannot be believed.
        """
        login = self._current().logins.get(str(raw.get("_id")))
        if login is None or login.place != _where(raw):
            return ""
        return f"profile:{login.profile}" if login.profile else "keyring"

    def disable(self, store_id: str) -> bool:
        """Use this store no more; False if it was not enabled."""
        with self._changing() as stores:
            return stores.enabled.pop(store_id, None) is not None

    def check_enabled(self, raw: Mapping[str, Any]) -> None:
        """See whether the store of this document may be used.

        Raises:
            AccessDenied: It was not enabled on this machine, has changed since, or would be reached without TLS.
            InvalidDocument: The document cannot be believed.
        """
        store = documents.read_store(raw)
        label = f"store {store.id} ({shown(store.name)})" if store.name else f"store {store.id}"
        way_out = f"`dmedia-transfer stores enable {store.id}` allows it"
        then = self._current().enabled.get(store.id)
        if then is None:
            raise AccessDenied(f"{label} was not enabled on this machine; {way_out}")
        now = _where(raw)
        changed = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
        if changed:
            changes = ", ".join(f"{key} from {shown(then.get(key))} to {shown(now.get(key))}" for key in changed)
            raise AccessDenied(f"{label} has changed since it was enabled on this machine: {changes}; {way_out}")
        self._check_transport(raw)

    def _check_transport(self, raw: Mapping[str, Any]) -> None:
        for key, value in raw.items():
            if key not in _HARMLESS and isinstance(value, str) and value.lower().startswith("http:"):
                host = _host(str(raw.get("_id")), key, value)
                if not _is_loopback(host) and host not in self._allowed_http_hosts:
                    raise AccessDenied(
                        f"store {raw.get('_id')} would be reached without TLS at {shown(host)}: https only, except on "
                        "this machine and at hosts that `allowed_http_hosts` in its configuration names"
                    )

    def _current(self) -> _List:
        """The list as it is in the file now; read again only if that is another one."""
        with self._lock:
            try:
                status = self._path.stat()
            except FileNotFoundError:
                self._list, self._read_as = _List(), None
                return self._list
            except OSError as error:
                raise InvalidConfig(f"{self._path}: cannot be read: {error.strerror}") from None
            read_as = (status.st_ino, status.st_mtime_ns, status.st_size)
            if read_as != self._read_as:
                self._list = self._read()
                self._read_as = read_as
            return self._list

    def _read(self) -> _List:
        try:
            return _List.model_validate_json(self._path.read_bytes())
        except OSError as error:
            raise InvalidConfig(f"{self._path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InvalidConfig(f"{self._path}: {key + ': ' if key else ''}{first['msg']}") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_List]:
        """The list, to be changed; written when the block ends. One process at a time: none undoes another's change."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._current()
            after = before.model_copy(deep=True)
            yield after
            if after != before:
                _write(self._path, after.model_dump_json(indent=1).encode() + b"\n")
        finally:
            os.close(lock)


def _where(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What of a store document decides where our bytes and our signature go."""
    plugin = raw.get("plugin")
    if plugin == S3:
        settings = documents.read_s3_settings(raw)
        return {"plugin": S3, "endpoint_url": settings.endpoint_url, "bucket": settings.bucket}
    return {key: value for key, value in raw.items() if key not in _HARMLESS}


def _host(document_id: str, key: str, url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError as error:
        raise InvalidDocument(document_id, key, f"{shown(url)} is not a URL: {error}") from None
    if not host:
        raise InvalidDocument(document_id, key, f"{shown(url)} names no host")
    return host.lower()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _write(path: Path, body: bytes) -> None:
    """Replace the file, for its owner only: the new one is there whole, or the old one is."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
