"""The long jobs, joined: workers, documents, stores and journal."""

from __future__ import annotations

from dmedia_transfer.bus import mainloop
from dmedia_transfer.config import Config
from dmedia_transfer.couch.library import CouchLibrary
from dmedia_transfer.filestore import FileStores
from dmedia_transfer.jobs.control import LongJobs
from dmedia_transfer.journal import Journal
from dmedia_transfer.localstores import LocalStores
from dmedia_transfer.manager import TransferManager
from dmedia_transfer.model import PRIORITY_HIGH, Direction, Entry, TransferKey
from dmedia_transfer.workers.pool import WorkerPool


def build(
    *,
    config: Config,
    journal: Journal,
    library: CouchLibrary,
    stores: LocalStores,
    filestores: FileStores,
    pool: WorkerPool,
    manager: TransferManager,
) -> LongJobs:
    """The long jobs of this machine; nothing runs before they are started."""

    def heal(file_id: str) -> TransferKey:
        key = TransferKey(Direction.DOWNLOAD, file_id, "")
        for store_id in filestores.salvage(file_id):
            journal.leaves.forget(key, store_id)  # nothing of what is left is believed before it is hashed
        return manager.queue([Entry(file_id, priority=PRIORITY_HIGH, requested_by="heal")])[0]

    return LongJobs(
        pool=pool,
        inquiries=library,
        stores=stores,
        records=journal.jobs,
        heal=heal,
        download_bps=lambda: manager.summary().download_limit_bps,
        call_later=mainloop.call_later,
        stall_s=config.stall_s,
    )
