"""Databases: create, delete, look up, describe, compact."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dmedia_transfer.couch.embedded.problems import Problem, no_database
from dmedia_transfer.couch.embedded.sqlite import Transaction

DEFAULT_SECURITY = '{"members":{"roles":["_admin"]},"admins":{"roles":["_admin"]}}'

_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]{0,237}", re.ASCII)
_SEQ = re.compile(r"([0-9]{1,18})-([0-9a-f]{32})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Database:
    """A database as it was when it was looked up."""

    key: int
    name: str
    uuid: str  # another one after the database was deleted and made anew
    update_seq: int
    documents: int  # that are not deleted
    deletions: int
    revs_limit: int

    def seq(self, number: int) -> str:
        """A sequence number as it is sent: opaque, and of this very database."""
        return f"{number}-{self.uuid}"

    def since(self, text: str) -> int:
        """The number after which a feed goes on.

        A sequence number of another database (it was made anew), or one that is yet to come (the file was restored from
        a backup), leads back to the start: who reads changes twice loses nothing.

        Raises:
            Problem: 400, if it is no sequence number.
        """
        if text == "now":
            return self.update_seq
        if text in ("", "0"):
            return 0
        match = _SEQ.match(text)
        if match is None:
            raise Problem(400, "bad_request", "Malformed sequence supplied in 'since' parameter.")
        number = int(match[1])
        return number if match[2] == self.uuid and number <= self.update_seq else 0


def find(connection: sqlite3.Connection, name: str) -> Database:
    """The database of this name.

    Raises:
        Problem: 404.
    """
    row = connection.execute(
        "SELECT key, name, uuid, update_seq, documents, deletions, revs_limit FROM databases WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise no_database()
    return Database(*row)


def names(connection: sqlite3.Connection) -> list[str]:
    """The names of all databases, in order."""
    return [name for (name,) in connection.execute("SELECT name FROM databases ORDER BY name")]


def create(transaction: Transaction, name: str) -> None:
    """Make an empty database.

    Raises:
        Problem: 400 for a name that cannot be one, 412 for one that exists.
    """
    if not _NAME.fullmatch(name):
        raise Problem(
            400,
            "illegal_database_name",
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters"
            " _, $, (, ), +, -, and / are allowed. Must begin with a letter.",
        )
    try:
        transaction.execute(
            "INSERT INTO databases (name, uuid, security) VALUES (?, ?, ?)", name, uuid.uuid4().hex, DEFAULT_SECURITY
        )
    except sqlite3.IntegrityError:
        raise Problem(412, "file_exists", "The database could not be created, the file already exists.") from None


def delete(transaction: Transaction, name: str) -> None:
    """Remove a database and all that is in it.

    Raises:
        Problem: 404.
    """
    database = find(transaction.connection, name)
    transaction.execute("DELETE FROM databases WHERE key = ?", database.key)
    transaction.execute("DELETE FROM blobs WHERE NOT EXISTS (SELECT 1 FROM attachments WHERE blob = blobs.key)")
    transaction.dropped.add(database.key)


def describe(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """What `GET /db` answers.

    Raises:
        Problem: 404.
    """
    database = find(connection, name)
    (active,) = connection.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM revisions JOIN documents ON documents.key = revisions.document"
        " WHERE database = ?",
        (database.key,),
    ).fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return {
        "db_name": database.name,
        "doc_count": database.documents,
        "doc_del_count": database.deletions,
        "update_seq": database.seq(database.update_seq),
        "purge_seq": 0,
        "compact_running": False,
        "sizes": {"active": active, "external": active, "file": pages * page_bytes},
        "instance_start_time": "0",
        "uuid": database.uuid,  # CouchDB has no such member; a database that is made anew has another one
        "disk_format_version": 8,
        "props": {},
        "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
    }


def drop_revisions(transaction: Transaction, keys: Iterable[int]) -> None:
    """Remove the bodies of revisions, and the bytes that only they had attached."""
    for key in keys:
        blobs = transaction.execute("SELECT blob FROM attachments WHERE revision = ?", key).fetchall()
        transaction.execute("DELETE FROM revisions WHERE key = ?", key)
        for (blob,) in blobs:
            transaction.execute(
                "DELETE FROM blobs WHERE key = ? AND NOT EXISTS (SELECT 1 FROM attachments WHERE blob = ?)", blob, blob
            )
