"""The file: its schema, its threads, its transactions.

One thread writes, two read; each has its own connection. A write is one transaction and is on the disk when it is
answered: WAL with `synchronous=FULL` syncs the log at each commit (`NORMAL` would be enough against `kill -9`, but a
power cut could then take back what was answered with 201, and clients forget what was answered so). Readers see a
snapshot and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SCHEMA_VERSION = 2
READERS = 2
LOG_BYTES = 16 << 20  # the write-ahead log is cut back to this after it was larger

_SCHEMA = """
CREATE TABLE databases (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    uuid TEXT NOT NULL,
    update_seq INTEGER NOT NULL DEFAULT 0,
    documents INTEGER NOT NULL DEFAULT 0,
    deletions INTEGER NOT NULL DEFAULT 0,
    revs_limit INTEGER NOT NULL DEFAULT 1000,
    security TEXT NOT NULL
) STRICT;
CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    database INTEGER NOT NULL REFERENCES databases ON DELETE CASCADE,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    winner TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    tree TEXT NOT NULL,
    type TEXT,
    UNIQUE (database, id),
    UNIQUE (database, seq)
) STRICT;
CREATE INDEX documents_by_type ON documents (database, type, id);
CREATE TABLE revisions (
    key INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    rev TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (document, rev)
) STRICT;
CREATE TABLE blobs (
    key INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    md5 BLOB NOT NULL,
    length INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE attachments (
    revision INTEGER NOT NULL REFERENCES revisions ON DELETE CASCADE,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    revpos INTEGER NOT NULL,
    blob INTEGER NOT NULL REFERENCES blobs,
    PRIMARY KEY (revision, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_by_blob ON attachments (blob);
CREATE TABLE locals (
    database INTEGER NOT NULL REFERENCES databases ON DELETE CASCADE,
    id TEXT NOT NULL,
    rev INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (database, id)
) STRICT;
"""

# `type` is the winning revision's member of that name, if it is a text: what libraries look for.
_FROM_1_TO_2 = """
ALTER TABLE documents ADD COLUMN type TEXT;
UPDATE documents SET type = (
    SELECT json_extract(CAST(body AS TEXT), '$.type') FROM revisions
    WHERE document = documents.key AND rev = documents.winner
        AND json_type(CAST(body AS TEXT), '$.type') = 'text'
);
CREATE INDEX documents_by_type ON documents (database, type, id);
"""


def make_schema(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; bring those of an older one up to date.

    Raises:
        sqlite3.Error: They are not ours, or of a newer program.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version == 1:
        connection.executescript(f"BEGIN; {_FROM_1_TO_2} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"the file has schema {version}; this program knows {SCHEMA_VERSION}")


@dataclass(slots=True)
class Counts:
    """What a database counts, as a write leaves it."""

    update_seq: int
    documents: int
    deletions: int


class Transaction:
    """A write under way: the connection, and what it changes, for those who wait for changes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.counts: dict[int, Counts] = {}  # by the keys of databases that have new changes
        self.dropped: set[int] = set()  # keys of databases that are deleted

    def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(statement, arguments)

    def finish(self) -> None:
        """Write what was counted: once, not for each of hundreds of documents."""
        for key, counts in self.counts.items():
            self.execute(
                "UPDATE databases SET update_seq = ?, documents = ?, deletions = ? WHERE key = ?",
                counts.update_seq,
                counts.documents,
                counts.deletions,
                key,
            )


class Engine:
    """Runs reads and writes on their threads. All methods are for the event loop's thread."""

    def __init__(self, file: Path, *, committed: Callable[[set[int], set[int]], None]) -> None:
        """Open the file, or make it.

        Args:
            file: The database file; its folder must exist.
            committed: Called in the event loop with the keys of databases that advanced and that were dropped, after
                each write, also when who asked for it has gone away meanwhile.

        Raises:
            sqlite3.Error: The file is not ours or is damaged.
        """
        self._file = file
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, "couch-writer")
        self._readers = ThreadPoolExecutor(READERS, "couch-reader")
        self._writer.submit(self._prepare).result()

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on a snapshot."""
        return await self._loop.run_in_executor(self._readers, self._read, job)

    async def write(self, job: Callable[[Transaction], T]) -> T:
        """Run a job in a transaction, which is committed and synced when this returns, or undone when it raises."""
        return await self._loop.run_in_executor(self._writer, self._write, job)

    async def shrink(self) -> None:
        """Give pages that nothing uses back to the file system."""
        await self._loop.run_in_executor(self._writer, self._shrink)

    def close(self) -> None:
        """Wait for what runs, and close the file."""
        self._readers.shutdown(cancel_futures=True)
        self._writer.shutdown()
        for connection in self._connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        try:
            found: sqlite3.Connection = self._local.connection
        except AttributeError:
            found = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=30)
            found.execute("PRAGMA foreign_keys = ON")
            found.execute("PRAGMA synchronous = FULL")
            found.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            self._local.connection = found
            with self._connections_lock:
                self._connections.append(found)
        return found

    def _prepare(self) -> None:
        connection = self._connection()
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only has effect in a new file
        connection.execute("PRAGMA journal_mode = WAL")
        make_schema(connection)

    def _shrink(self) -> None:
        self._connection().execute("PRAGMA incremental_vacuum").fetchall()

    def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return job(connection)
        finally:
            connection.execute("ROLLBACK")

    def _write(self, job: Callable[[Transaction], T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(connection)
        try:
            result = job(transaction)
            transaction.finish()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if transaction.counts or transaction.dropped:
            self._loop.call_soon_threadsafe(self._committed, set(transaction.counts), transaction.dropped)
        return result
