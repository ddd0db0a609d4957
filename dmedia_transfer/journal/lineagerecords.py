"""Lineage records: the `merge.Lineage` of this machine's document; the tables `views`, `branches`, `appearances`,
`departures`.

Lost, entries are kept rather than removed: a merge that cannot tell errs on that side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from dmedia_transfer.journal.database import Database
from dmedia_transfer.merge import Lineage, News
from dmedia_transfer.merge.identities import has_id

VIEWS_KEPT: Final = 2000  # CouchDB itself knows the last 1,000 ancestors of a revision (`_revs_limit`)
DEPARTURES_S: Final = 365 * 86400.0  # as tombstones are kept


class LineageRecords:
    """Any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> Lineage:
        """The lineage as it was last kept."""
        return Lineage(
            views=dict(self._database.rows("SELECT revision, number FROM views")),
            branches=dict(self._database.rows("SELECT revision, number FROM branches")),
            appearances=self._database.rows("SELECT identity, revision FROM appearances"),
            departures=dict(self._database.rows("SELECT identity, number FROM departures")),
        )

    def keep(self, news: Sequence[News]) -> None:
        """Add what was learned, in order, in one transaction."""
        now = time.time()
        with self._database.write("lineage") as connection:
            for each in news:
                revision, number = each.revision, each.number
                if not each.in_force:
                    connection.execute(
                        "INSERT OR REPLACE INTO branches (revision, number) VALUES (?, ?)", (revision, number)
                    )
                else:
                    connection.execute(
                        "INSERT OR REPLACE INTO views (number, revision) VALUES (?, ?)", (number, revision)
                    )
                    departed = [(identity,) for identity in each.departed]
                    connection.executemany("DELETE FROM appearances WHERE identity = ?", departed)
                    connection.executemany(
                        "INSERT OR REPLACE INTO departures (identity, number, time) VALUES (?, ?, ?)",
                        [(identity, number, now) for identity in each.departed if not has_id(identity)],
                    )
                    connection.executemany(
                        "DELETE FROM departures WHERE identity = ?",
                        [(identity,) for identity in each.appeared if not has_id(identity)],
                    )
                connection.executemany(
                    "INSERT OR IGNORE INTO appearances (identity, revision) VALUES (?, ?)",
                    [(identity, revision) for identity in each.appeared],
                )
            connection.execute(
                "DELETE FROM views WHERE number <= (SELECT max(number) FROM views) - ? "
                "AND revision NOT IN (SELECT revision FROM appearances)",
                (VIEWS_KEPT,),
            )
            connection.execute(
                "DELETE FROM branches WHERE number <= (SELECT max(number) FROM views) - ?", (VIEWS_KEPT,)
            )
            connection.execute("DELETE FROM departures WHERE time < ?", (now - DEPARTURES_S,))
