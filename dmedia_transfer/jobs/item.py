"""Item: all that is kept of one long job beside its public value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dmedia_transfer.model import Advanced, FileOutcome, LongJob, Progress
from dmedia_transfer.progress import RateMeter

CancelTimer = Callable[[], None]


class Totals(Protocol):
    """How far a job is, by the journal."""

    @property
    def files_total(self) -> int: ...

    @property
    def bytes_total(self) -> int: ...

    @property
    def bytes_done(self) -> int: ...

    @property
    def outcomes(self) -> Mapping[FileOutcome, int]: ...


@dataclass(slots=True)
class Item:
    """One long job. Owned by `LongJobs`, on the manager's thread."""

    job: LongJob
    run_id: int | None = None  # while a worker has it
    inquiry: object | None = None  # while the library is asked; answers to an older one are not wanted any more
    scanned: bool = False  # the FileStore's own files are listed
    listed_to: str = ""  # the documents are listed up to this file ID
    meter: RateMeter | None = None  # while it is ongoing
    wake: CancelTimer | None = None  # takes back the timer that ends a suspension
    settled: Counter[FileOutcome] = field(default_factory=Counter)  # before the run that is under way
    bytes_settled: int = 0  # likewise
    last: Advanced | None = None  # what the run that is under way said last

    @property
    def busy(self) -> bool:
        """Whether somebody is at it."""
        return self.run_id is not None or self.inquiry is not None

    def stay_asleep(self) -> None:
        """Take back the timer."""
        if self.wake is not None:
            self.wake()
            self.wake = None

    def recount(self, totals: Totals) -> LongJob:
        """The job with what the journal knows of it; the next run counts from there."""
        self.settled = Counter(totals.outcomes)
        self.bytes_settled = totals.bytes_done
        self.last = None
        shown = min(self.job.progress.bytes_done, totals.bytes_total)  # of the file that it was at
        progress = Progress(max(shown, totals.bytes_done), totals.bytes_total)
        return self.job.evolve(
            progress=progress,
            files_done=self.settled.total(),
            files_total=totals.files_total,
            outcomes=dict(self.settled),
        )

    def fold(self) -> None:
        """The run is over: what it said last is settled, but for the file that it was at, which a pause leaves."""
        if self.last is not None:
            self.settled.update(dict(self.last.outcomes))
            self.bytes_settled += self.last.bytes_done
            self.last = None

    def advanced(self, report: Advanced) -> LongJob:
        """The job with what its worker says. Bytes that were shown stay shown."""
        self.last = report
        job = self.job
        outcomes = self.settled + Counter(dict(report.outcomes))
        total = job.progress.bytes_total
        if not job.listed:
            total = max(total, report.bytes_total)
        done = max(job.progress.bytes_done, min(self.bytes_settled + report.bytes_done, total))
        rate, eta_s = 0.0, None
        if self.meter is not None:
            self.meter.update(done)
            rate, eta_s = self.meter.rate, self.meter.eta_s(total) if job.listed else None
        return job.evolve(
            progress=Progress(done, total, rate, eta_s),
            files_done=outcomes.total() if job.listed else job.files_done,
            files_total=job.files_total if job.listed else max(job.files_total, report.files_total),
            outcomes=dict(outcomes) if job.listed else job.outcomes,
            attempts=0 if report.outcomes else job.attempts,
        )
