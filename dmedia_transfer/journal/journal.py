"""Journal: this machine's own database of unfinished work, as one object with a part for each purpose.

Lost, it is rebuilt: the queue says what is wanted, partial files are hashed again, stores are asked for their parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from dmedia_transfer.journal.database import Database
from dmedia_transfer.journal.jobrecords import JobRecords
from dmedia_transfer.journal.leafrecords import LeafRecords
from dmedia_transfer.journal.ledger import Ledger
from dmedia_transfer.journal.lineagerecords import LineageRecords
from dmedia_transfer.journal.memory import Bases, Checkpoints
from dmedia_transfer.journal.outbox import Outbox
from dmedia_transfer.journal.uploadrecords import UploadRecords

FILE_NAME: Final = "journal.sqlite"


class Journal:
    """An open journal, of one process; any of its threads may use it. Not to be taken over a fork."""

    def __init__(self, path: Path, *, owner: bool = False) -> None:
        """Open the journal at `path`, and make it if it is not there; see `Database` for `owner` and the errors."""
        self._database = Database(path, owner=owner)
        self.path = path
        self.leaves = LeafRecords(self._database)
        self.uploads = UploadRecords(self._database)
        self.outbox = Outbox(self._database)
        self.jobs = JobRecords(self._database, self.outbox)
        self.ledger = Ledger(self._database, self.uploads)
        self.checkpoints = Checkpoints(self._database)
        self.lineage = LineageRecords(self._database)
        self.bases = Bases(self._database)

    @contextlib.contextmanager
    def together(self, *, durable: bool = False) -> Iterator[None]:
        """All that this thread writes within the block is written at once, or not at all.

        Has to be `durable` if anything in it promises to be.
        """
        with self._database.write("together", durable=durable):
            yield

    def close(self) -> None:
        """Let go of the journal. Harmless when closed already."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
