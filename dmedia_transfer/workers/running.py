"""Runs one job in the worker: joins its stores, its journal and its threads, and tells how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.download import Download, Source
from dmedia_transfer.errors import DiskFull, FileMissing, Interrupted, SourceChanged, StoreMissing, TransferError
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.jobs.files import Account
from dmedia_transfer.journal import Journal
from dmedia_transfer.limiter import TokenBucket
from dmedia_transfer.model import (
    Advanced,
    Direction,
    Discard,
    Ended,
    Failure,
    Job,
    LongRun,
    Moved,
    Outcome,
    SourceUse,
    StoreSpec,
)
from dmedia_transfer.model import Download as DownloadJob
from dmedia_transfer.model import Upload as UploadJob
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload import Upload, abandon
from dmedia_transfer.workers import longruns
from dmedia_transfer.workers.stores import OpenStores

log = logging.getLogger(__name__)

DISCARD_STALL_S = 20.0  # nobody waits for it


class Newest:
    """The sources that a download has from now on, until somebody has looked. One thread puts, another one takes."""

    def __init__(self) -> None:
        self._sources: tuple[StoreSpec, ...] | None = None

    def put(self, sources: tuple[StoreSpec, ...]) -> None:
        """These are the sources; what was put before does not matter any more."""
        self._sources = sources

    def take(self) -> tuple[StoreSpec, ...] | None:
        """The sources, if they are new."""
        if self._sources is None:  # each piece that is taken comes past here
            return None
        sources, self._sources = self._sources, None
        return sources


@dataclass(frozen=True, slots=True)
class Running:
    """A job that was given to this worker, from the moment on at which it was read from the pipe."""

    run_id: int
    job: Job | LongRun
    crew: Crew  # obeys commands also before the job's thread has begun
    news: Newest = field(default_factory=lambda: Newest())  # of the sources of a download


class Runner:
    """Runs jobs one after another, on one thread; what is worth keeping is kept in between."""

    def __init__(
        self,
        *,
        journal: Callable[[], Journal],
        stores: OpenStores,
        buckets: dict[Direction, TokenBucket],
        buffers: LeafBuffers,
        report: Callable[[Moved | Advanced], None],
        report_interval_s: float,
    ) -> None:
        self._journal = journal
        self._stores = stores
        self._buckets = buckets
        self._report = report
        self._interval_s = report_interval_s
        self._buffers = buffers

    def run(self, running: Running) -> Ended:
        """Do the job and say how it ended; never raises what a job can raise."""
        job = running.job
        size = job.file.size if isinstance(job, Job) and job.file is not None else 0
        progress = Progress(running.run_id, self._report, self._interval_s)
        tally = Tally(size, progress)
        outcome, failure = Outcome.FINISHED, None
        try:
            match job:
                case DownloadJob():
                    self._download(running, job, tally, progress)
                case UploadJob():
                    self._upload(running, job, tally)
                case Discard():
                    self._discard(running, job)
                case _:
                    self._long(running, job)
        except Interrupted:
            outcome = Outcome.STOPPED
        except _Blamed as error:
            outcome, failure = Outcome.FAILED, Failure.of(error.error, store_id=error.store_id)
        except TransferError as error:
            outcome, failure = Outcome.FAILED, Failure.of(error)
        except Exception as error:
            log.exception("a fault of dmedia-transfer")
            outcome, failure = Outcome.FAILED, Failure.of(error)
        progress.last(tally)
        return Ended(running.run_id, outcome, failure, tally.sent_bytes)

    def _download(self, running: Running, job: DownloadJob, tally: Tally, progress: Progress) -> None:
        sources, unusable = self._sources(job.sources, job)
        if not sources and unusable is not None:
            raise unusable

        def news() -> list[Source] | None:
            specs = running.news.take()
            return None if specs is None else self._sources(specs, job)[0]

        destination, records = FileStore.of(job.destination), self._journal().leaves
        if destination.quarantined(job.file.file_id) and destination.salvage(job.file.file_id):
            records.forget(job.key, destination.store_id)  # nothing of it is believed before it is hashed
            log.info("%s: what is good of a corrupt copy is kept", job.key)
        download = Download(
            job.key,
            job.file,
            sources=sources,
            destination=destination,
            records=records,
            crew=running.crew,
            buffers=self._buffers,
            tally=tally,
            pace=self._pace(running),
            news=news,
        )
        progress.sources = download.sources
        try:
            download.run()
        except Interrupted:
            raise
        except TransferError as error:
            of_ours = isinstance(error, DiskFull | StoreMissing)
            raise _Blamed(error, download.blames(error) or (job.destination.store_id if of_ours else "")) from error

    def _upload(self, running: Running, job: UploadJob, tally: Tally) -> None:
        try:
            backend = self._stores.backend(job.destination, stall_s=job.stall_s)
            with FileStore.of(job.source).open(job.file.file_id) as local:
                upload = Upload(
                    job.key,
                    job.file,
                    local=local,
                    backend=backend,
                    records=self._journal().uploads,
                    crew=running.crew,
                    buffers=self._buffers,
                    tally=tally,
                    pace=self._pace(running),
                    replaces=job.replaces,
                )
                upload.run()
        except Interrupted:
            raise
        except TransferError as error:
            of_ours = isinstance(error, FileMissing | SourceChanged | StoreMissing)
            raise _Blamed(error, job.source.store_id if of_ours else job.destination.store_id) from error

    def _discard(self, running: Running, job: Discard) -> None:
        running.crew.check()
        if job.key.direction is Direction.DOWNLOAD or job.store.local:
            FileStore.of(job.store).discard(job.key.file_id)
            self._journal().leaves.forget(job.key, job.store.store_id)
            log.info("%s: its partial file is removed", job.key)
            return
        records = self._journal().uploads
        if not job.keep_current:
            records.unwanted(job.key)
        mine = [record for record in records.to_abort() if record.key == job.key]
        if not mine:
            return
        backend = self._stores.backend(job.store, stall_s=DISCARD_STALL_S)
        running.crew.cuts(backend.cut)
        for record in mine:
            abandon(record, records=records, backend=backend, crew=running.crew)
            records.aborted(record)

    def _long(self, running: Running, job: LongRun) -> None:
        bucket = self._buckets[Direction.DOWNLOAD]
        account = Account(running.run_id, self._report, interval_s=self._interval_s)
        try:
            longruns.run(
                job,
                records=self._journal().jobs,
                stores=self._stores,
                crew=running.crew,
                buffers=self._buffers,
                account=account,
                pace=lambda count: bucket.take(count, running.crew.wait),
            )
        finally:
            account.last()

    def _sources(self, specs: Sequence[StoreSpec], job: DownloadJob) -> tuple[list[Source], TransferError | None]:
        """Those of the stores that can be read from, and why the last of the others cannot."""
        sources: list[Source] = []
        unusable: TransferError | None = None
        for spec in specs:
            try:
                if spec.local:
                    local = self._stores.local(spec)
                    sources.append(Source(spec.store_id, local, spec.cost, copy=local.copy))
                else:
                    backend = self._stores.backend(spec, stall_s=job.stall_s)
                    sources.append(Source(spec.store_id, backend, spec.cost))
            except TransferError as error:
                log.warning("store %s cannot be used: %s", spec.store_id, error)
                unusable = error
        return sources, unusable

    def _pace(self, running: Running) -> Callable[[int], None]:
        assert isinstance(running.job, Job)  # noqa: S101 - long jobs have no direction
        bucket = self._buckets[running.job.key.direction]
        wait = running.crew.wait
        return lambda count: bucket.take(count, wait)


class _Blamed(Exception):
    """An error, and the store that it is about."""

    def __init__(self, error: TransferError, store_id: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.store_id = store_id


class Progress:
    """Listens to a tally, and reports now and then; what comes too soon is told a moment later, also if all stalls."""

    def __init__(self, run_id: int, report: Callable[[Moved], None], interval_s: float) -> None:
        self._run_id = run_id
        self._report = report
        self._interval_s = interval_s
        self.sources: Callable[[], tuple[SourceUse, ...]] = tuple  # how it goes with each source of a download
        self._lock = threading.Lock()
        self._next = 0.0  # monotonic seconds
        self._late: threading.Timer | None = None
        self._over = False
        self._last: Moved | None = None

    def __call__(self, tally: Tally) -> None:
        """Something has moved. Any thread may call."""
        now = time.monotonic()
        with self._lock:
            if self._late is not None:
                return
            if now < self._next:
                self._late = threading.Timer(self._next - now, self._tell_late, (tally,))
                self._late.daemon = True
                self._late.start()
                return
            self._next = now + self._interval_s
        self._send(tally)

    def last(self, tally: Tally) -> None:
        """Report what was not reported yet; there is nothing after this."""
        with self._lock:
            self._over = True
            if self._late is not None:
                self._late.cancel()
        if tally.bytes_done or self._last:
            self._send(tally)

    def _tell_late(self, tally: Tally) -> None:
        with self._lock:
            if self._over:
                return
            self._late = None
            self._next = time.monotonic() + self._interval_s
            self._send(tally)

    def _send(self, tally: Tally) -> None:
        moved = Moved(
            self._run_id,
            tally.bytes_done,
            tally.pieces_done,
            self.sources(),
            tally.sent_bytes,
            tally.in_flight,
            tally.wrong,
        )
        if moved != self._last:
            self._last = moved
            self._report(moved)
