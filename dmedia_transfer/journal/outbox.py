"""Outbox: edits that CouchDB has not taken yet; the table `outbox`."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from dmedia_transfer.journal import codec
from dmedia_transfer.journal.database import Database
from dmedia_transfer.model import Edit, PendingEdit


class Outbox:
    """`ports.Outbox`. Any thread may call.

    Edits of people are durable: until CouchDB has taken them they are nowhere else. What a transfer has come to is
    found again by looking, and need not be; nor need it be that edits were taken, as doing one twice changes nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, edits: Sequence[Edit], *, durable: bool = True) -> list[PendingEdit]:
        """Keep edits, in order, all of them or none; `durable`: on the disk when this returns."""
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
