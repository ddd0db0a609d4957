"""Long jobs that are not real: a `ports.JobControl` that keeps jobs in memory and moves them when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dmedia_transfer.errors import InvalidRequest, Unknown
from dmedia_transfer.model import (
    Direction,
    Entry,
    FileOutcome,
    JobKind,
    JobProblem,
    LongJob,
    TransferKey,
    random_id,
)
from dmedia_transfer.ports import Control, JobListener
from dmedia_transfer.states import Event, Reason


class FakeJobs:
    """Does what `ports.JobControl` promises, without any work behind it. One thread, as the real one."""

    def __init__(self, control: Control | None = None) -> None:
        """`control` is where the download is queued that heals a file, if somebody looks for it there."""
        self._control = control
        self.healed: list[str] = []
        self.found: dict[str, list[JobProblem]] = {}  # by job
        self.fail_with: Exception | None = None  # raised by the next command
        self.when_added: Callable[[LongJob], object] = lambda job: None  # called with each that a caller asked for
        self._jobs: dict[str, LongJob] = {}
        self._listeners: list[JobListener] = []

    def reset(self) -> None:
        """As new, but the listeners stay."""
        for job_id in list(self._jobs):
            self.remove(job_id)
        self.healed, self.found, self.fail_with = [], {}, None
        self.when_added = lambda job: None

    # What a test does.

    def add(self, job: LongJob) -> LongJob:
        """Put a job in place."""
        self._jobs[job.id] = job
        for listener in self._listeners:
            listener.job_added(job)
        return job

    def change(self, job_id: str, **changes: Any) -> LongJob:
        """Change a job in any way."""
        return self._put(self._jobs[job_id].evolve(**changes))

    def on(self, job_id: str, event: Event, reason: Reason | None = None) -> bool:
        """Something happens to a job; says whether that changed anything."""
        before = self._jobs[job_id]
        return self._put(before.on(event, reason)) != before

    def move(self, job_id: str, **changes: Any) -> None:
        """It is further."""
        after = self._jobs[job_id] = self._jobs[job_id].evolve(**changes)
        for listener in self._listeners:
            listener.job_moved(after)

    def find(self, job_id: str, *problems: JobProblem) -> None:
        """Files turn out to be such that a person should look at them."""
        for problem in problems:
            self.found.setdefault(job_id, []).append(problem)
            before = self._jobs[job_id].outcomes
            self.change(job_id, outcomes={**before, problem.outcome: before.get(problem.outcome, 0) + 1})

    def remove(self, job_id: str) -> None:
        """It is forgotten."""
        gone = self._jobs.pop(job_id)
        for listener in self._listeners:
            listener.job_removed(gone)

    # `ports.JobControl`

    def import_files(self, paths: Sequence[str], *, store_id: str = "", requested_by: str = "") -> str:
        self._fail()
        for path in paths:
            if not path.startswith("/"):
                raise InvalidRequest(f"path {path!r:.200}: should be absolute")
        job = LongJob(
            random_id(), JobKind.IMPORT, store_id=store_id, paths=tuple(paths), requested_by=requested_by, time=5.0
        )
        return self._asked(job)

    def verify(self, store_id: str, *, requested_by: str = "") -> str:
        self._fail()
        for job in self._jobs.values():
            if job.kind is JobKind.VERIFY and job.store_id == store_id and not job.status.ended:
                return job.id
        return self._asked(LongJob(random_id(), JobKind.VERIFY, store_id=store_id, requested_by=requested_by))

    def jobs(self) -> Mapping[str, LongJob]:
        return dict(self._jobs)

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> Sequence[JobProblem]:
        self._job(job_id)
        return self.found.get(job_id, [])[offset : offset + limit]

    def pause(self, job_id: str) -> bool:
        return self._command(job_id, Event.PAUSE)

    def resume(self, job_id: str) -> bool:
        return self._command(job_id, Event.RESUME)

    def cancel(self, job_id: str) -> bool:
        return self._command(job_id, Event.CANCEL)

    def retry(self, job_id: str) -> bool:
        return self._command(job_id, Event.RETRY)

    def forget(self, job_id: str) -> bool:
        self._fail()
        if not self._job(job_id).status.ended:
            return False
        self.remove(job_id)
        return True

    def heal(self, file_id: str) -> TransferKey:
        self._fail()
        self.healed.append(file_id)
        if self._control is not None:
            return self._control.queue([Entry(file_id)])[0]
        return TransferKey(Direction.DOWNLOAD, file_id, "")

    def subscribe(self, listener: JobListener) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: JobListener) -> None:
        self._listeners.remove(listener)

    def _asked(self, job: LongJob) -> str:
        self.add(job)
        self.when_added(job)
        return job.id

    def _job(self, job_id: str) -> LongJob:
        if job_id not in self._jobs:
            raise Unknown(f"there is no job {job_id:.80}")
        return self._jobs[job_id]

    def _command(self, job_id: str, event: Event) -> bool:
        self._fail()
        self._job(job_id)
        return self.on(job_id, event)

    def _put(self, after: LongJob) -> LongJob:
        before = self._jobs[after.id]
        if after != before:
            self._jobs[after.id] = after
            for listener in self._listeners:
                listener.job_changed(before, after)
        return after

    def _fail(self) -> None:
        error, self.fail_with = self.fail_with, None
        if error is not None:
            raise error


def corrupt(file_id: str, store_id: str, *leaves: int) -> JobProblem:
    """A corrupt file."""
    return JobProblem(FileOutcome.CORRUPT, "it is corrupt", file_id=file_id, store_id=store_id, leaves=leaves, time=1.0)
