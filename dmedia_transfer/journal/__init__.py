"""The SQLite tables: this machine's own database of unfinished work."""

from dmedia_transfer.journal.jobrecords import JobRecords, OpenFile, Totals
from dmedia_transfer.journal.journal import Journal
from dmedia_transfer.journal.leafrecords import LeafRecords
from dmedia_transfer.journal.ledger import Ended, Ledger
from dmedia_transfer.journal.lineagerecords import LineageRecords
from dmedia_transfer.journal.memory import Bases, Checkpoints
from dmedia_transfer.journal.outbox import Outbox
from dmedia_transfer.journal.uploadrecords import UploadRecords

__all__ = [
    "Bases",
    "Checkpoints",
    "Ended",
    "JobRecords",
    "Journal",
    "LeafRecords",
    "Ledger",
    "LineageRecords",
    "OpenFile",
    "Outbox",
    "Totals",
    "UploadRecords",
]
