"""LeafRecords: which leaves of a download were written; the table `downloads`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from dmedia_transfer.journal.database import Database
from dmedia_transfer.model import TransferKey


class LeafRecords:
    """`ports.LeafRecords`. Any thread may call; a kill between a leaf's write and its record loses only the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, key: TransferKey, store_id: str, identity: str) -> set[int]:
        """The leaves recorded under this identity; empty if it changed."""
        rows = self._database.rows(
            "SELECT leaves FROM downloads WHERE file_id = ? AND store_id = ? AND identity = ?",
            (key.file_id, store_id, identity),
        )
        return unpack_bits(rows[0][0]) if rows else set()

    def files_in(self, store_id: str) -> set[str]:
        """The files of which something is on record in a store."""
        rows = self._database.rows("SELECT file_id FROM downloads WHERE store_id = ?", (store_id,))
        return {file_id for (file_id,) in rows}

    def record(self, key: TransferKey, store_id: str, identity: str, leaf: int) -> None:
        """A leaf was verified and written. What was recorded under another identity is dropped."""
        self.record_all(key, store_id, identity, (leaf,))

    def record_all(self, key: TransferKey, store_id: str, identity: str, leaves: Iterable[int]) -> None:
        """Several leaves were."""
        with self._database.write("leaf") as connection:
            row = connection.execute(
                "SELECT leaves FROM downloads WHERE file_id = ? AND store_id = ? AND identity = ?",
                (key.file_id, store_id, identity),
            ).fetchone()
            bits = bytearray(row[0] if row else b"")
            for leaf in leaves:
                set_bit(bits, leaf)
            connection.execute(
                "INSERT OR REPLACE INTO downloads (file_id, store_id, identity, leaves, time) VALUES (?, ?, ?, ?, ?)",
                (key.file_id, store_id, identity, bits, time.time()),
            )

    def forget(self, key: TransferKey, store_id: str) -> None:
        """Drop all records: the file was published, discarded, or a write failed."""
        with self._database.write("leaves-forgotten") as connection:
            connection.execute("DELETE FROM downloads WHERE file_id = ? AND store_id = ?", (key.file_id, store_id))


def set_bit(bits: bytearray, index: int) -> None:
    """Set bit `index`, counted from the lowest of the first byte; the bytes grow as needed."""
    if index < 0:
        raise ValueError(f"there is no leaf {index}")
    missing = index // 8 + 1 - len(bits)
    if missing > 0:
        bits.extend(bytes(missing))
    bits[index // 8] |= 1 << index % 8


def unpack_bits(bits: bytes) -> set[int]:
    """The indexes of all bits that are set."""
    return {place * 8 + bit for place, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}
