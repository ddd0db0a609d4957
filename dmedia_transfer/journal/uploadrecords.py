"""UploadRecords: uploads begun and parts confirmed; the tables `uploads` and `parts`."""

# ruff: noqa: S608 - what is put into the statements are the two constants below

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dmedia_transfer.journal.database import Database
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.ports import Part, UploadRecord

_THIS: Final = "direction = ? AND file_id = ? AND store_id = ?"
_RECORD: Final = "direction, file_id, store_id, object_name, upload_id, part_leaves, time"


class UploadRecords:
    """`ports.UploadRecords`, and what the sweep of unfinished uploads needs. Any thread may call.

    Intents and upload IDs are durable: an unfinished upload costs money, and after a power failure nothing else on
    this machine knows of it. Parts are not: the server lists them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, key: TransferKey) -> UploadRecord | None:
        """The upload that is under way for this transfer."""
        rows = self._database.rows(f"SELECT {_RECORD} FROM uploads WHERE {_THIS} AND wanted", key)
        return _record(rows[0]) if rows else None

    def files_to(self, store_id: str) -> set[str]:
        """The files of which an upload to a store is under way."""
        rows = self._database.rows("SELECT file_id FROM uploads WHERE store_id = ? AND wanted", (store_id,))
        return {file_id for (file_id,) in rows}

    def parts(self, key: TransferKey) -> list[Part]:
        """The parts that the server has confirmed for it, in order."""
        rows = self._database.rows(
            "SELECT number, size, etag, sha256 FROM parts WHERE upload = "
            f"(SELECT id FROM uploads WHERE {_THIS} AND wanted) ORDER BY number",
            key,
        )
        return [Part(number, size, etag, sha256) for number, size, etag, sha256 in rows]

    def ids_at(self, object_name: str) -> set[str]:
        """The IDs of all uploads to this name that are on record, whichever transfer and whether wanted or not."""
        rows = self._database.rows(
            "SELECT upload_id FROM uploads WHERE object_name = ? AND upload_id != ''", (object_name,)
        )
        return {upload_id for (upload_id,) in rows}

    def intend(self, record: UploadRecord) -> None:
        """An upload is about to be begun; durable when this returns. One that was under way is not wanted any more."""
        with self._database.write("intent", durable=True) as connection:
            connection.execute(f"UPDATE uploads SET wanted = 0 WHERE {_THIS} AND wanted", record.key)
            connection.execute(
                f"INSERT INTO uploads ({_RECORD}, wanted) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
                (*record.key, record.object_name, record.upload_id, record.part_leaves, record.time),
            )

    def begun(self, key: TransferKey, upload_id: str) -> None:
        """The server gave it this ID; durable when this returns."""
        with self._database.write("upload-id", durable=True) as connection:
            connection.execute(f"UPDATE uploads SET upload_id = ? WHERE {_THIS} AND wanted", (upload_id, *key))

    def confirmed(self, key: TransferKey, part: Part) -> None:
        """The server has confirmed a part; one of the same number replaces it."""
        with self._database.write("part") as connection:
            connection.execute(
                "INSERT OR REPLACE INTO parts (upload, number, size, etag, sha256) "
                f"SELECT id, ?, ?, ?, ? FROM uploads WHERE {_THIS} AND wanted",
                (part.number, part.size, part.etag, part.sha256, *key),
            )

    def forget(self, key: TransferKey) -> None:
        """The upload was finished, or its abort is confirmed."""
        with self._database.write("upload-forgotten") as connection:
            connection.execute(f"DELETE FROM uploads WHERE {_THIS} AND wanted", key)

    def latest(self) -> Mapping[TransferKey, float]:
        """The transfers of which something may be left at a store, and when that was begun last (Unix seconds)."""
        rows = self._database.rows(
            "SELECT direction, file_id, store_id, MAX(time) FROM uploads GROUP BY direction, file_id, store_id"
        )
        return {_key(row[:3]): row[3] for row in rows}

    def under_way(self) -> list[UploadRecord]:
        """All that are wanted, the oldest first; the sweep compares them with the queue and with their age."""
        return [
            _record(row) for row in self._database.rows(f"SELECT {_RECORD} FROM uploads WHERE wanted ORDER BY time")
        ]

    def unwanted(self, key: TransferKey) -> None:
        """The upload is to be aborted; its row stays until `aborted`. Durable when this returns."""
        with self._database.write("upload-unwanted", durable=True) as connection:
            connection.execute(f"UPDATE uploads SET wanted = 0 WHERE {_THIS}", key)

    def to_abort(self) -> list[UploadRecord]:
        """All whose abort is not confirmed yet. An `upload_id` that is empty: it may have been begun all the same."""
        return [
            _record(row) for row in self._database.rows(f"SELECT {_RECORD} FROM uploads WHERE NOT wanted ORDER BY time")
        ]

    def aborted(self, record: UploadRecord) -> None:
        """Nothing of it is left at the server."""
        with self._database.write("upload-aborted") as connection:
            connection.execute(
                f"DELETE FROM uploads WHERE {_THIS} AND NOT wanted AND object_name = ? AND upload_id = ?",
                (*record.key, record.object_name, record.upload_id),
            )


def _key(row: Any) -> TransferKey:
    direction, file_id, store_id = row
    return TransferKey(Direction(direction), file_id, store_id)


def _record(row: Any) -> UploadRecord:
    *key, object_name, upload_id, part_leaves, time = row
    return UploadRecord(_key(key), object_name, upload_id, part_leaves, time)
