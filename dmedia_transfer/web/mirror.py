"""Mirror: what the manager does, as the web's thread sees it.

The manager's thread notes what changed, and the web's takes that over, all at once, when it comes to it. What changed
several times in between is there once, as it is now: however slow the web is, no more is kept than there are transfers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dmedia_transfer.model import LongJob, Transfer, TransferKey


@dataclass(slots=True)
class News:
    """What has changed since the last time; None: it is gone."""

    transfers: dict[TransferKey, Transfer | None] = field(default_factory=dict)
    moved: dict[TransferKey, Transfer] = field(default_factory=dict)  # only their progress changed
    jobs: dict[str, LongJob | None] = field(default_factory=dict)
    moved_jobs: dict[str, LongJob] = field(default_factory=dict)
    summary: bool = False


class Mirror:
    """A `ports.Listener` and a `ports.JobListener`. `take` is for the web's thread, all else for the manager's."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called, on the manager's thread, when there is something to take and was not before."""
        self._wake = wake
        self._lock = threading.Lock()
        self._news: News | None = None

    def take(self) -> News:
        """What has changed since the last call."""
        with self._lock:
            news, self._news = self._news, None
        return news or News()

    def load(self, transfers: Iterable[Transfer], jobs: Iterable[LongJob] = ()) -> None:
        """All that there is."""

        def note(news: News) -> None:
            news.transfers.update((each.key, each) for each in transfers)
            news.jobs.update((each.id, each) for each in jobs)
            news.summary = True

        self._note(note)

    def transfer_added(self, transfer: Transfer) -> None:
        """There is a new transfer."""
        self._put(transfer.key, transfer)

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Something of it changed."""
        self._put(after.key, after, summary=before.status is not after.status)

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes moved."""

        def note(news: News) -> None:
            if transfer.key in news.transfers:
                news.transfers[transfer.key] = transfer
            else:
                news.moved[transfer.key] = transfer

        self._note(note)

    def transfer_removed(self, transfer: Transfer) -> None:
        """It is gone."""
        self._put(transfer.key, None)

    def summary_changed(self) -> None:
        """Something that is not of one transfer changed."""

        def note(news: News) -> None:
            news.summary = True

        self._note(note)

    def job_added(self, job: LongJob) -> None:
        """There is a new job."""
        self._put_job(job.id, job)

    def job_changed(self, before: LongJob, after: LongJob) -> None:
        """Something of it changed."""
        self._put_job(after.id, after)

    def job_moved(self, job: LongJob) -> None:
        """It is further."""

        def note(news: News) -> None:
            if job.id in news.jobs:
                news.jobs[job.id] = job
            else:
                news.moved_jobs[job.id] = job

        self._note(note)

    def job_removed(self, job: LongJob) -> None:
        """It is gone."""
        self._put_job(job.id, None)

    def _put(self, key: TransferKey, transfer: Transfer | None, *, summary: bool = True) -> None:
        def note(news: News) -> None:
            news.moved.pop(key, None)
            news.transfers[key] = transfer
            news.summary = news.summary or summary

        self._note(note)

    def _put_job(self, job_id: str, job: LongJob | None) -> None:
        def note(news: News) -> None:
            news.moved_jobs.pop(job_id, None)
            news.jobs[job_id] = job

        self._note(note)

    def _note(self, note: Callable[[News], None]) -> None:
        with self._lock:
            first = self._news is None
            if self._news is None:
                self._news = News()
            note(self._news)
        if first:
            self._wake()
