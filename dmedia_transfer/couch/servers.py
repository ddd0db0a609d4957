"""Which document server, and its life: the one that the configuration names, or one of our own that runs with us.

The daemon makes a `DocumentServer` and keeps it; commands use `connect`, which finds the daemon's server, or starts
one for the time of the command. At most one server of our own has the files at any time: a lock beside them says
which, where it listens and who may ask, readable for its owner only.

What speaks HTTP is imported when it is used: a server of our own starts before that.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import SecretStr

from dmedia_transfer.config import EMBEDDED, PER_USER, Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.embedded import launch
from dmedia_transfer.couch.pause import pause_s
from dmedia_transfer.errors import DatabaseUnavailable, InvalidConfig, TransferError

if TYPE_CHECKING:
    from dmedia_transfer.couch.database import Database

log = logging.getLogger(__name__)

TAKE_OVER_S: Final = 30.0  # until a command that runs a server has ended
POLL_S: Final = 0.05
STEADY_S: Final = 60.0  # a server that ran so long did not die of its start


class _Process(Protocol):
    """A server of our own. For one thread at a time."""

    @property
    def pid(self) -> int | None: ...

    def start(self) -> Address: ...

    def stop(self) -> None: ...


class DocumentServer:
    """The server that the daemon uses. One of our own is started, watched, started again if it dies, and stopped."""

    def __init__(self, config: Config) -> None:
        """Nothing is started yet.

        Raises:
            InvalidConfig: `couchdb` is no URL that may be used.
        """
        self._process = _own_process(config)
        self._path = _locked_path(config)
        self._address = None if self._process else configured_address(config)
        self._thread = threading.Thread(target=self._watch, name="couch-server", daemon=True)
        self._stop_fds: tuple[int, int] | None = None

    def start(self) -> Address:
        """Start it, if it is ours, and say where it is. It keeps its address for as long as this object lives.

        Raises:
            InvalidConfig: It is not installed.
            DatabaseUnavailable: It does not start.
        """
        if self._process is None:
            assert self._address is not None  # noqa: S101 - one of both is there
            return self._address
        self._address = _start(self._process, self._path)
        log.info("document server: process %s at %s", self._process.pid, self._address.url)
        self._stop_fds = os.pipe()
        self._thread.start()
        return self._address

    def stop(self) -> None:
        """End it, if it is ours and was started."""
        if self._process is None or self._stop_fds is None:
            return
        os.close(self._stop_fds[1])
        self._thread.join()
        os.close(self._stop_fds[0])
        self._stop_fds = None
        self._process.stop()

    def _watch(self) -> None:
        """Start the server again whenever it ends; sleeps until it does."""
        assert self._process is not None and self._stop_fds is not None  # noqa: S101, PT018 - see `start`
        stopping, attempt, began = self._stop_fds[0], 0, time.monotonic()
        while _wait_for_end(self._process.pid, stopping):
            attempt = 0 if time.monotonic() - began > STEADY_S else attempt + 1
            wait_s, began = pause_s(None, attempt), time.monotonic()
            log.error("document server: it has ended, starting it again")
            if launch.readable([stopping], wait_s):
                return
            try:
                self._process.start()
            except TransferError:
                log.exception("document server: it does not start, trying again")


@contextlib.contextmanager
def connect(config: Config) -> Iterator[Database]:
    """The database, for a command: of the configured server, of the daemon's, or of one that runs meanwhile.

    Raises:
        InvalidConfig: `couchdb` is no URL that may be used, or CouchDB is not installed.
        DatabaseUnavailable, AccessDenied: There is no way to the database.
    """
    from dmedia_transfer.couch.database import Database

    with _reach(config) as address:
        database = Database(address, config.database)
        try:
            database.ensure_exists()
            yield database
        finally:
            database.close()


def find(config: Config) -> Address | None:
    """Where the server is, without starting one: None if it is one of our own and does not run.

    Raises:
        InvalidConfig: `couchdb` is no URL that may be used.
    """
    if config.couchdb not in (EMBEDDED, PER_USER):
        return configured_address(config)
    found = launch.running(_locked_path(config))
    return _address(found) if found else None


def configured_address(config: Config) -> Address:
    """The server that the configuration names by its URL.

    Raises:
        InvalidConfig: It is no URL, or the password would cross the network for everyone to read.
    """
    address = Address.parse(
        config.couchdb, user=config.couchdb_user, password=config.couchdb_password, ca_file=config.couchdb_ca_file
    )
    if not address.encrypted and not address.loopback and address.host not in config.allowed_http_hosts:
        raise InvalidConfig(
            f"couchdb: {address.url} is not encrypted: use https, or name {address.host} in `allowed_http_hosts`"
        )
    return address


class _Embedded:
    """The embedded server; started again, it keeps address and password."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._server = launch.EmbeddedServer(file)
        self._first: launch.Address | None = None

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def start(self) -> Address:
        if self._first is not None:
            self._server.stop()
            port = int(self._first.url.rpartition(":")[2])
            self._server = launch.EmbeddedServer(self._file, port=port, password=self._first.password)
        self._first = self._server.start()
        return _address(self._first)

    def stop(self) -> None:
        self._server.stop()


def _own_process(config: Config) -> _Process | None:
    """The server that we run ourselves, if the configuration says so."""
    if config.couchdb == EMBEDDED:
        return _Embedded(_locked_path(config))
    if config.couchdb == PER_USER:
        from dmedia_transfer.couch.peruser import PerUserServer

        return PerUserServer(config.state_dir / "couchdb")
    return None


def _locked_path(config: Config) -> Path:
    """The path beside which the lock of our own server is."""
    if config.couchdb == EMBEDDED:
        return config.state_dir / "couch.sqlite"
    from dmedia_transfer.couch.peruser import lock_of

    return lock_of(config.state_dir / "couchdb")


def _address(found: launch.Address) -> Address:
    return Address(found.url, found.user, SecretStr(found.password))


def _start(process: _Process, path: Path) -> Address:
    """Start a server; one that a command runs at the moment has the files until the command has ended."""
    deadline = time.monotonic() + TAKE_OVER_S
    while launch.running(path) is not None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return process.start()


def _wait_for_end(pid: int | None, stopping: int) -> bool:
    """Sleep until a process has ended; False if `stopping` was closed."""
    watched = [stopping]
    try:
        if pid is None:
            return not launch.readable(watched, 0)
        watched.append(os.pidfd_open(pid))
    except ProcessLookupError:
        return not launch.readable(watched, 0)
    try:
        return stopping not in launch.readable(watched)
    finally:
        os.close(watched[1])


@contextlib.contextmanager
def _reach(config: Config) -> Iterator[Address]:
    process = _own_process(config)
    if process is None:
        yield configured_address(config)
        return
    path = _locked_path(config)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _turn(path) as mine:
        if not mine:
            found = launch.running(path)
            if found is None:
                raise DatabaseUnavailable(f"the server of {path} has just ended; try again")
            yield _address(found)
            return
        address = _start(process, path)
        try:
            yield address
        finally:
            process.stop()


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Whether it is on us to run a server: nobody does. Two commands do not share one, as the first may end before."""
    fd = os.open(path.with_name(path.name + ".turn"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + TAKE_OVER_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(f"another command has used {path} for {TAKE_OVER_S:g} s") from None
                time.sleep(POLL_S)
                continue
            if launch.running(path) is None:
                yield True
            else:
                fcntl.flock(fd, fcntl.LOCK_UN)
                yield False
            return
    finally:
        os.close(fd)
