"""Ledger: what is remembered of transfers beyond the queue; the tables `history`, `failures` and `tombstones`."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dmedia_transfer.journal import codec
from dmedia_transfer.journal.database import Database
from dmedia_transfer.journal.uploadrecords import UploadRecords
from dmedia_transfer.model import Direction, Failure, TransferKey
from dmedia_transfer.states import Status

HISTORY_LINES: Final = 1000
SWEEP_S: Final = 3600.0  # between two looks for tombstones that are too old
TOMBSTONES_S: Final = 365 * 86400.0  # a device that was away for longer may bring an entry back


@dataclass(frozen=True, slots=True)
class Ended:
    """A line of the history."""

    key: TransferKey
    status: Status
    failure: Failure | None
    time: float  # Unix seconds
    bytes: int  # the file's size


class Ledger:
    """`ports.Ledger`. Any thread may call."""

    def __init__(self, database: Database, uploads: UploadRecords) -> None:
        self._database = database
        self._uploads = uploads
        self._swept = 0.0  # Unix seconds, when old tombstones were removed last

    def failures(self) -> Mapping[str, Failure]:
        """Why transfers failed that nobody has retried or removed, by the identity of the entry."""
        return {
            identity: codec.read_failure(text)
            for identity, text in self._database.rows("SELECT identity, failure FROM failures")
        }

    def failed(
        self, key: TransferKey, identities: Sequence[str], failure: Failure, size: int, *, attempts: int = 0
    ) -> None:
        """A transfer has failed; its entries stay in the queue."""
        now = time.time()
        with self._database.write("failure") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO failures (identity, failure, attempts, time) VALUES (?, ?, ?, ?)",
                [(identity, codec.write_failure(failure), attempts, now) for identity in identities],
            )
            self._lines(connection, [(*key, Status.FAILED, codec.write_failure(failure), now, size)])

    def attempts(self) -> Mapping[str, int]:
        """How often those were tried that `failures` tells of."""
        return dict(self._database.rows("SELECT identity, attempts FROM failures"))

    def keep_failures(self, identities: Collection[str]) -> None:
        """Forget the failures of all other entries: they are in the queue no more, or under a new `id`."""
        gone = [(identity,) for identity in self.failures().keys() - set(identities)]
        if gone:
            with self._database.write("failures-forgotten") as connection:
                connection.executemany("DELETE FROM failures WHERE identity = ?", gone)

    def ended(
        self,
        key: TransferKey,
        identities: Sequence[str],
        status: Status,
        size: int,
        *,
        failure: Failure | None = None,
    ) -> None:
        """A transfer is done or cancelled, and its entries do not come back.

        Not durable, as many small files may end at once. What has to leave the queue was put into the outbox before,
        and a power failure takes what was written last: an entry whose tombstone is there leaves the queue. One that
        stays costs a look at a file that is there.
        """
        self._write_ended([(key, identities, status, size)], failure=codec.write_failure(failure))

    def all_ended(self, endings: Sequence[tuple[TransferKey, Sequence[str], Status, int]]) -> None:
        """Many at once, as `ended` takes them, with one write."""
        if endings:
            self._write_ended(endings)

    def _write_ended(
        self, endings: Sequence[tuple[TransferKey, Sequence[str], Status, int]], *, failure: str | None = None
    ) -> None:
        now = time.time()
        gone = [(identity, status) for _, identities, status, _ in endings for identity in identities]
        with self._database.write("ended") as connection:
            self._lines(connection, [(*key, status, failure, now, size) for key, _, status, size in endings])
            connection.executemany(
                "INSERT OR REPLACE INTO tombstones (identity, outcome, time) VALUES (?, ?, ?)",
                [(identity, status, now) for identity, status in gone],
            )
            connection.executemany("DELETE FROM failures WHERE identity = ?", [(identity,) for identity, _ in gone])
            # A worker that died just after it published the file could not forget the leaves itself.
            connection.executemany(
                "DELETE FROM downloads WHERE file_id = ?",
                [
                    (key.file_id,)
                    for key, _, status, _ in endings
                    if (key.direction, status) == (Direction.DOWNLOAD, Status.DONE)
                ],
            )
            if now - self._swept >= SWEEP_S:  # it looks at all of them, which costs more than all of the above
                self._swept = now
                connection.execute("DELETE FROM tombstones WHERE time < ?", (now - TOMBSTONES_S,))

    def _lines(self, connection: sqlite3.Connection, lines: Sequence[tuple[object, ...]]) -> None:
        connection.executemany(
            "INSERT INTO history (direction, file_id, store_id, status, failure, time, bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            lines,
        )
        connection.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY_LINES,))

    def history(self, limit: int = HISTORY_LINES) -> list[Ended]:
        """The transfers that ended last, the latest first; a failed one may have been tried again since."""
        rows = self._database.rows(
            "SELECT direction, file_id, store_id, status, failure, time, bytes FROM history ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [
            Ended(
                TransferKey(Direction(direction), file_id, store_id),
                Status(status),
                codec.read_failure(failure) if failure else None,
                when,
                size,
            )
            for direction, file_id, store_id, status, failure, when, size in rows
        ]

    def done(self) -> list[tuple[TransferKey, float]]:
        """The transfers that were done last, as far as the history goes back, and when (Unix seconds)."""
        return [(line.key, line.time) for line in self.history() if line.status is Status.DONE]

    def uploads(self) -> Mapping[TransferKey, float]:
        """The transfers of which something may be left at a store, and when that was begun last (Unix seconds)."""
        return self._uploads.latest()

    def gone_among(self, identities: Sequence[str]) -> set[str]:
        """Those of these entries that were done, cancelled or removed here before. Only of such that have an `id`."""
        rows = self._database.rows(
            "SELECT identity FROM tombstones WHERE identity IN (SELECT value FROM json_each(?))",
            (json.dumps(list(identities)),),
        )
        return {identity for (identity,) in rows}

    def is_gone(self, identity: str) -> bool:
        """Whether `gone_among` has this one."""
        return bool(self.gone_among([identity]))

    def tombstones(self) -> Mapping[str, str]:
        """How the entries ended that do not come back, by their identity."""
        return dict(self._database.rows("SELECT identity, outcome FROM tombstones"))

    def removed(self, identities: Sequence[str]) -> None:
        """Entries that were taken out of the queue without having ended; they do not come back either."""
        now = time.time()
        with self._database.write("removed") as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO tombstones (identity, outcome, time) VALUES (?, 'removed', ?)",
                [(identity, now) for identity in identities],
            )
