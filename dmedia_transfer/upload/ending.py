"""Ending an upload that nobody wants any more, until nothing of it is left at the store."""

from __future__ import annotations

import logging
from typing import Final

from dmedia_transfer import faults
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import Permanent, Transient
from dmedia_transfer.model import TransferKey
from dmedia_transfer.ports import Backend, ListsUploads, UploadRecord, UploadRecords

log = logging.getLogger(__name__)

TRIES: Final = 5
PAUSE_S: Final = 0.2  # a part on its way needs a moment to arrive
CLOCK_SKEW_S: Final = 900.0  # S3 refuses a request from a machine whose clock differs by more


def abandon(record: UploadRecord, *, records: UploadRecords, backend: Backend, crew: Crew) -> None:
    """End an upload at the store, until nothing of it is left there.

    Raises:
        Interrupted: A pause has come into force, or a stop was said.
        Transient: Something is left of it.
        TransferError: What the backend raised.
    """
    if record.upload_id:
        _abandon(record.key, record.object_name, record.upload_id, backend=backend, crew=crew)
    else:
        abandon_strays(record, records=records, backend=backend, crew=crew)


def abandon_strays(record: UploadRecord, *, records: UploadRecords, backend: Backend, crew: Crew) -> None:
    """End what may have been begun for an intent without its ID reaching the journal: we died, or the answer got lost.

    Of all uploads to exactly this name only those can be ours that were begun after the intent, are on no record, and
    have no part. Another device may be about to send its first part to one that looks the same: it then begins anew,
    and has lost nothing that was sent.

    Raises:
        Interrupted: A pause has come into force, or a stop was said.
        Transient: The store does not answer, or something is left.
    """
    if not isinstance(backend, ListsUploads):
        return
    name = record.object_name
    try:
        unstarted = crew.once(lambda: backend.unstarted(name, record.time - CLOCK_SKEW_S))
        for upload_id in sorted(set(unstarted) - records.ids_at(name)):
            log.info("%s: upload %s to %s was begun, but not written down: it ends", record.key, upload_id, name)
            _abandon(record.key, name, upload_id, backend=backend, crew=crew)
    except Permanent as error:
        # Many a policy allows uploads and not their listing. What is left is empty, and a lifecycle rule removes it.
        log.warning("%s: an upload that was begun without our knowing cannot be looked for: %s", record.key, error)


def _abandon(key: TransferKey, object_name: str, upload_id: str, *, backend: Backend, crew: Crew) -> None:
    for _ in range(TRIES):
        if crew.once(lambda: backend.abandon(object_name, upload_id)):
            break
        crew.wait(PAUSE_S)
    else:
        raise Transient(f"{key}: parts of upload {upload_id} are still at {object_name}")
    faults.point("upload.abandoned")
    log.info("%s: the upload to %s is aborted", key, object_name)


def abandon_current(key: TransferKey, *, records: UploadRecords, backend: Backend, crew: Crew) -> None:
    """End the upload that is under way for a transfer, if one is; its record goes when nothing is left of it.

    Raises:
        TransferError: As `abandon`; the record stays.
    """
    record = records.load(key)
    if record is None:
        return
    abandon(record, records=records, backend=backend, crew=crew)
    records.forget(key)
    faults.point("upload.forgotten")
