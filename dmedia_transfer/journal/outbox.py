"""Outbox: edits that CouchDB has not taken yet; the table `outbox`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from dmedia_transfer.journal import codec
from dmedia_transfer.journal.database import Database
from dmedia_transfer.model import Edit, PendingEdit, RecordStored


class Outbox:
    """`ports.Outbox`. Any thread may call.

    Edits are durable: they are what a person has asked for, or what a transfer has come to, and until CouchDB has taken
    them they are nowhere else. That they were taken is not: doing an edit twice changes nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, edits: Sequence[Edit], *, durable: bool = True) -> list[PendingEdit]:
        """Keep edits, in order; durable when this returns, all of them or none.

        One that is found out again with what it is written together with need not be `durable`.
        """
        pending = []
        now = time.time()
        with self._database.write("outbox", durable=durable) as connection:
            for edit in edits:
                row = connection.execute("INSERT INTO outbox (edit, time) VALUES (?, ?)", (codec.write_edit(edit), now))
                pending.append(PendingEdit(seq=row.lastrowid or 0, edit=edit))
        return pending

    def pending(self) -> list[PendingEdit]:
        """All that wait, in order."""
        rows = self._database.rows("SELECT seq, edit FROM outbox ORDER BY seq")
        return [PendingEdit(seq, codec.read_edit(text)) for seq, text in rows]

    def records(self) -> list[RecordStored]:
        """Of what waits, what was found out of stores; thousands of edits of the queue are not even read."""
        beginning = codec.beginning_of(RecordStored)
        rows = self._database.rows(
            "SELECT edit FROM outbox WHERE substr(edit, 1, ?) = ? ORDER BY seq", (len(beginning), beginning)
        )
        edits = [codec.read_edit(text) for (text,) in rows]
        return [edit for edit in edits if isinstance(edit, RecordStored)]

    def taken(self, seqs: Iterable[int]) -> None:
        """CouchDB has these."""
        with self._database.write("outbox-taken") as connection:
            connection.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
