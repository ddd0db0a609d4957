"""Database: the journal's connection to SQLite.

The daemon and its workers have the journal open at the same time, each with one connection of its own; within a
process, any thread may use it, one at a time. A process may be killed at any instant: a transaction is there whole
or not at all. All writes begin with BEGIN IMMEDIATE, so that two writers wait for each other and never find at the
end that they have to start again.

Two kinds of promise (https://www.sqlite.org/pragma.html#pragma_synchronous). An ordinary write is in the WAL when it
returns: it outlives a kill of every process, but a power failure may take the last seconds of it. That is enough for
what is found out again by looking (leaves, parts, checkpoints). A durable one is synced, which costs milliseconds:
for what nobody else knows and nothing could rebuild.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from dmedia_transfer import faults
from dmedia_transfer.errors import AccessDenied, DiskFull, InvalidInput, Permanent, TransferError, Transient
from dmedia_transfer.journal.schema import MIGRATIONS

_BUSY_S: Final = 30.0  # longer than any transaction of ours takes on a disk that is busy
_WAL_TRIES: Final = 100
_SUFFIXES: Final = ("", "-wal", "-shm")
_PRIMARY_CODE: Final = 0xFF  # the rest of a code says more about it: https://www.sqlite.org/rescode.html

_log = logging.getLogger(__name__)


class Database:
    """One connection to the journal, for all threads of a process."""

    def __init__(self, path: Path, *, owner: bool = False) -> None:
        """Open the journal, make it, or bring it up to date.

        The `owner` is the daemon: it is started before any worker is, and moves a journal aside that is corrupt.

        Raises:
            InvalidInput: The journal is of a newer version of this program.
            Permanent: It is corrupt, and we are not its owner.
            DiskFull, AccessDenied, Transient: As SQLite says.
        """
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        with self._translated("opening"):
            try:
                self._connection = _open(path, check=owner)
            except sqlite3.DatabaseError as error:
                if not owner or not _is_corrupt(error):
                    raise
                _move_aside(path, error)
                self._connection = _open(path, check=False)

    def close(self) -> None:
        """Let go of the journal. Harmless when closed already."""
        with self._lock, self._translated("closing"):
            self._connection.close()

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows that a SELECT gives."""
        with self._lock, self._translated("reading"):
            return self._connection.execute(statement, parameters).fetchall()

    @contextlib.contextmanager
    def write(self, name: str, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction, done when the block ends and undone when it raises; one within another is a part of it.

        `name` is what is written, and the fault point `journal.NAME` just after it. `durable` outlives a power failure.
        """
        with self._lock, self._translated(f"writing {name}"):
            if self._depth:
                if durable and self._connection.execute("PRAGMA synchronous").fetchone()[0] < 2:
                    raise AssertionError(f"{name} has to be durable, and is written within what is not")
                yield self._connection
                return
            # Of the connection, not of the file, and fixed while a transaction runs.
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0
            faults.point(f"journal.{name}")

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._error(error, doing) from error

    def _error(self, error: sqlite3.Error | OSError, doing: str) -> TransferError:
        sentence = f"{doing}: journal {self.path}: {error}"
        if isinstance(error, OSError):
            return AccessDenied(sentence)
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        primary = code & _PRIMARY_CODE
        if primary == sqlite3.SQLITE_FULL:
            return DiskFull(f"{doing}: the disk of the journal {self.path} is full")
        if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return AccessDenied(sentence)
        if _is_corrupt(error):
            return Permanent(f"{sentence}; it is made anew when the daemon starts")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
            # The shared memory beside the journal cannot grow: SQLite has no word of its own for it.
            if code == sqlite3.SQLITE_IOERR_SHMSIZE and _is_full(self.path):
                return DiskFull(f"{doing}: the disk of the journal {self.path} is full")
            return Transient(sentence)
        return Permanent(sentence)


def _open(path: Path, *, check: bool) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would take the umask
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        if check:
            # Also the first thing that reads all of it, and so finds what is no database.
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                _say_corrupt(problem)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _say_corrupt(problem: str) -> None:
    error = sqlite3.DatabaseError(problem)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn the WAL on. Two processes that do it to a new journal at once may both be told that it is busy."""
    for _ in range(_WAL_TRIES):
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.05)
            continue
        if mode != "wal":
            _log.warning("the journal's file system cannot do WAL (%s): workers will wait for each other more", mode)
        return
    raise sqlite3.OperationalError("database is locked")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        if version > len(MIGRATIONS):
            _refuse(path, version)
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if version:
        _log.info("journal %s: brought from version %s to %s", path, version, len(MIGRATIONS))


def _refuse(path: Path, version: int) -> None:
    raise InvalidInput(
        f"the journal {path} was written by a newer version of this program (journal version {version}, "
        f"this program knows up to {len(MIGRATIONS)}): use that one, or move the journal away"
    )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_corrupt(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _move_aside(path: Path, error: sqlite3.DatabaseError) -> None:
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    _log.error(
        "the journal %s is corrupt (%s): it is kept as %s, and a new one is made; what was transferred is found again "
        "by looking at the files and asking the stores",
        path,
        error,
        aside.name,
    )
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))


def _is_full(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 64 * 1024
