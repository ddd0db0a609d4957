"""Runs one step of a long job in the worker: joins what the jobs' room needs with FileStores and backends."""

from __future__ import annotations

import secrets
from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import Interrupted, ObjectMissing, SizeDisputed, SourceChanged
from dmedia_transfer.filestore import FileStore, Scrub
from dmedia_transfer.jobs.files import Account
from dmedia_transfer.jobs.importrun import ImportRun
from dmedia_transfer.jobs.scanning import scan_folders, scan_store
from dmedia_transfer.jobs.verifyrun import Copies, Copy, VerifyRun
from dmedia_transfer.journal import JobRecords
from dmedia_transfer.model import FileSpec, ImportFiles, LongRun, ScanFolders, ScanStore, VerifyFiles
from dmedia_transfer.ports import Backend, Meter, ObjectInfo
from dmedia_transfer.workers.stores import OpenStores

LISTED: Final = 10_000  # more than the daemon gives to one run


def run(
    job: LongRun,
    *,
    records: JobRecords,
    stores: OpenStores,
    crew: Crew,
    buffers: LeafBuffers,
    account: Account,
    pace: Meter,
) -> None:
    """Do one step of a long job.

    Raises:
        Interrupted: A pause has come into force, or a stop was said.
        TransferError: The job cannot go on, or not now.
    """
    crew.check()
    match job:
        case ScanFolders(key, paths):
            scan_folders(
                key.id,
                paths,
                records=records,
                account=account,
                check=crew.check,
                is_filestore=lambda folder: FileStore.store_at(folder) is not None,
            )
        case ScanStore(key, spec):
            scan_store(key.id, FileStore.of(spec).files(), records=records, account=account, check=crew.check)
        case ImportFiles():
            ImportRun(
                job,
                records=records,
                destinations=[FileStore.of(spec) for spec in job.destinations],
                others=[FileStore.of(spec) for spec in job.others],
                account=account,
                buffers=buffers,
                check=crew.check,
                cancelled=lambda: crew.interrupting,
            ).run()
        case VerifyFiles():
            copies: Copies
            if job.store.local:
                copies = _FilesAtHome(FileStore.of(job.store))
            else:
                copies = _Objects(job.store.store_id, stores.backend(job.store, stall_s=job.stall_s), crew, pace)
            VerifyRun(job, records=records, copies=copies, account=account, buffers=buffers, check=crew.check).run(
                records.open_files(job.key.id, limit=LISTED)
            )


class _FilesAtHome:
    """The files of a FileStore."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self.store_id = store.store_id

    def open(self, file: FileSpec) -> Scrub | None:
        """The file; else what was put aside by a run that was killed before it could say so."""
        return self._store.scrub(file.file_id)

    def set_aside(self, file_id: str) -> None:
        """Into quarantine."""
        self._store.quarantine(file_id)


class _Objects:
    """The objects of a store that is reached through a backend."""

    def __init__(self, store_id: str, backend: Backend, crew: Crew, pace: Meter) -> None:
        self.store_id = store_id
        self._backend = backend
        self._crew = crew
        self._pace = pace
        crew.cuts(backend.cut)

    def open(self, file: FileSpec) -> Copy | None:
        """The object, if the store has one under the file's name."""
        info = self._crew.once(lambda: self._backend.stat(file))
        return None if info is None else _Object(file, info, self._backend, self._crew, self._pace)

    def set_aside(self, file_id: str) -> None:
        """It stays where it is: the documents say that it is no copy, and it may be all that there is."""


class _Object:
    """An object, read through a backend."""

    def __init__(self, file: FileSpec, info: ObjectInfo, backend: Backend, crew: Crew, pace: Meter) -> None:
        self._file = file
        self._backend = backend
        self._crew = crew
        self._pace = pace
        self.size = info.size
        self.identity = f"{info.size}/{info.etag or secrets.token_hex(8)}"
        self.proven = bool(file.size) and leaves.object_is_file(
            file_bytes=file.size,
            leaf_digests=file.leaf_digests,
            object_bytes=info.size,
            object_sha256=info.sha256,
            object_composite_sha256=info.composite_sha256,
        )

    def read(self, start: int, into: memoryview) -> bool:
        """Fetch it."""
        try:
            self._crew.once(lambda: self._backend.fetch(self._file, start, into, self._meter))
        except (ObjectMissing, SizeDisputed) as error:
            raise SourceChanged(f"{error}: it changed while it was verified") from error
        return True

    def close(self) -> None:
        """Nothing is open between reads."""

    def _meter(self, count: int) -> None:
        if self._crew.interrupting:
            raise Interrupted("the verification was cut")
        self._pace(count)
