"""Outbox: edits that CouchDB has not taken yet; the table `outbox`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from dmedia_transfer.journal import codec
from dmedia_transfer.journal.database import Database
from dmedia_transfer.model import Edit, PendingEdit


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

    def pending(self, kinds: Collection[type[Edit]] = ()) -> list[PendingEdit]:
        """All that wait, in order; if `kinds` are named, only those, and thousands of others are not even read."""
        beginnings = [codec.beginning_of(kind) for kind in kinds]
        chosen = " OR ".join(["substr(edit, 1, ?) = ?"] * len(beginnings)) or "TRUE"
        rows = self._database.rows(
            f"SELECT seq, edit FROM outbox WHERE {chosen} ORDER BY seq",  # noqa: S608 - of nothing but constants
            [value for each in beginnings for value in (len(each), each)],
        )
        return [PendingEdit(seq, codec.read_edit(text)) for seq, text in rows]

    def taken(self, seqs: Iterable[int]) -> None:
        """CouchDB has these."""
        with self._database.write("outbox-taken") as connection:
            connection.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
