"""The journal's tables, as a list of steps from one version to the next.

`PRAGMA user_version` is the number of steps that were taken. A step that was ever released is not changed again:
what is different from then on is a new step.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = (
    # Leaves that were verified and written; one bit for each in `leaves`, the lowest of the first byte is leaf 0.
    """
    CREATE TABLE downloads (
        file_id TEXT NOT NULL,
        store_id TEXT NOT NULL,     -- the FileStore that it is saved to
        identity TEXT NOT NULL,     -- boot, mount and inode; under another one the leaves say nothing
        leaves BLOB NOT NULL,
        time REAL NOT NULL,         -- Unix seconds of the last leaf
        PRIMARY KEY (file_id, store_id)
    ) WITHOUT ROWID
    """,
    # Uploads that were begun, or were about to be; a row goes when nothing is left at the server.
    """
    CREATE TABLE uploads (
        id INTEGER PRIMARY KEY,
        direction TEXT NOT NULL,
        file_id TEXT NOT NULL,
        store_id TEXT NOT NULL,
        object_name TEXT NOT NULL,
        upload_id TEXT NOT NULL,    -- empty: only the intent
        part_leaves INTEGER NOT NULL,
        time REAL NOT NULL,         -- Unix seconds of the intent
        wanted INTEGER NOT NULL     -- 0: its abort is not confirmed yet
    )
    """,
    "CREATE UNIQUE INDEX wanted_uploads ON uploads (direction, file_id, store_id) WHERE wanted",
    # Parts that the server has confirmed.
    """
    CREATE TABLE parts (
        upload INTEGER NOT NULL REFERENCES uploads ON DELETE CASCADE,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        sha256 BLOB,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID
    """,
    # The transfers that ended last.
    """
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        direction TEXT NOT NULL,
        file_id TEXT NOT NULL,
        store_id TEXT NOT NULL,
        status TEXT NOT NULL,
        failure TEXT,               -- JSON
        time REAL NOT NULL,
        bytes INTEGER NOT NULL
    )
    """,
    # Where reading a database's changes goes on.
    """
    CREATE TABLE checkpoints (
        feed TEXT PRIMARY KEY,      -- the server's and the database's identity
        seq TEXT NOT NULL,          -- opaque
        time REAL NOT NULL
    ) WITHOUT ROWID
    """,
    # Edits of documents that CouchDB has not taken yet. AUTOINCREMENT: a number is never given twice.
    """
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        edit TEXT NOT NULL,         -- JSON
        time REAL NOT NULL
    )
    """,
    # Why transfers failed that nobody has retried or removed.
    """
    CREATE TABLE failures (
        identity TEXT PRIMARY KEY,  -- of the queue's entry
        failure TEXT NOT NULL,      -- JSON
        attempts INTEGER NOT NULL,
        time REAL NOT NULL
    ) WITHOUT ROWID
    """,
    # Entries that were done, cancelled or removed and do not come back.
    """
    CREATE TABLE tombstones (
        identity TEXT PRIMARY KEY,
        outcome TEXT NOT NULL,
        time REAL NOT NULL
    ) WITHOUT ROWID
    """,
    # The revision of the machine document in which each entry was first seen.
    """
    CREATE TABLE appearances (
        identity TEXT PRIMARY KEY,
        revision TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    # Documents as they were last seen good: what a merge compares with, and what stays in force when they are lost.
    """
    CREATE TABLE bases (
        document_id TEXT PRIMARY KEY,
        revision TEXT NOT NULL,
        body TEXT NOT NULL          -- JSON
    ) WITHOUT ROWID
    """,
)

# What it takes to merge revisions of the machine document: see `merge.Lineage`.
_LINEAGE: Final = (
    "DROP TABLE appearances",
    # The revisions that were in force, in the order in which they came into force.
    """
    CREATE TABLE views (
        number INTEGER PRIMARY KEY,
        revision TEXT NOT NULL UNIQUE
    )
    """,
    # Leaves that were merged, and the view that took each of them in.
    """
    CREATE TABLE branches (
        revision TEXT PRIMARY KEY,
        number INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    # Of the entries in force, the revisions in which they first appeared: a view, and such of other branches.
    """
    CREATE TABLE appearances (
        identity TEXT NOT NULL,
        revision TEXT NOT NULL,
        PRIMARY KEY (identity, revision)
    ) WITHOUT ROWID
    """,
    # Of entries without `id` that have left, the view from which on they were gone.
    """
    CREATE TABLE departures (
        identity TEXT PRIMARY KEY,
        number INTEGER NOT NULL,
        time REAL NOT NULL
    ) WITHOUT ROWID
    """,
)

# Imports and verifications, and what of each is done.
_JOBS: Final = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        job TEXT NOT NULL           -- JSON
    )
    """,
    """
    CREATE TABLE job_files (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        item BLOB NOT NULL,         -- a path, or a file ID
        size INTEGER NOT NULL,      -- bytes, as it was listed
        outcome TEXT NOT NULL,      -- empty: not settled yet
        problem TEXT,               -- JSON; of outcomes that a person should look at
        so_far BLOB,                -- of a file that was left in the middle
        PRIMARY KEY (job, item)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX open_job_files ON job_files (job, item) WHERE outcome = ''",
    "CREATE INDEX job_problems ON job_files (job, item) WHERE problem IS NOT NULL",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _LINEAGE, _JOBS)
