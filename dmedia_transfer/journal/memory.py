"""What is remembered of CouchDB: how far its changes were read, and the last good documents.

All of it can be found out again, so none of it is durable beyond a kill: an older checkpoint repeats changes, which
changes nothing; a document is read again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from dmedia_transfer.journal.database import Database


class Checkpoints:
    """Where reading the changes of a database goes on; the table `checkpoints`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, feed: str) -> str | None:
        """The sequence that was last kept for this feed (server, database and what identifies it)."""
        rows = self._database.rows("SELECT seq FROM checkpoints WHERE feed = ?", (feed,))
        return rows[0][0] if rows else None

    def keep(self, feed: str, seq: str) -> None:
        """All changes up to here were taken in."""
        with self._database.write("checkpoint") as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checkpoints (feed, seq, time) VALUES (?, ?, ?)", (feed, seq, time.time())
            )

    def forget(self, feed: str) -> None:
        """The database is another one: begin anew."""
        with self._database.write("checkpoint-forgotten") as connection:
            connection.execute("DELETE FROM checkpoints WHERE feed = ?", (feed,))


class Bases:
    """Documents as they were last seen good; the table `bases`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, document_id: str) -> tuple[str, dict[str, Any]] | None:
        """The revision and the body that were last kept."""
        rows = self._database.rows("SELECT revision, body FROM bases WHERE document_id = ?", (document_id,))
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    def keep(self, document_id: str, revision: str, body: Mapping[str, Any]) -> None:
        """This is the last good one."""
        with self._database.write("base") as connection:
            connection.execute(
                "INSERT OR REPLACE INTO bases (document_id, revision, body) VALUES (?, ?, ?)",
                (document_id, revision, json.dumps(body, separators=(",", ":"))),
            )
