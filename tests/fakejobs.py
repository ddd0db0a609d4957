"""Long jobs that are not real: a `ports.JobControl` in memory, which does what a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dmedia_transfer.errors import InvalidRequest, Unknown
from dmedia_transfer.model import Entry, FileOutcome, JobKind, JobProblem, LongJob, TransferKey, random_id
from dmedia_transfer.ports import Control, JobListener
from dmedia_transfer.states import Event


class FakeJobs:
    """Does what `ports.JobControl` promises, without any work behind it."""

    def __init__(self, control: Control) -> None:
        self.found: dict[str, list[JobProblem]] = {}
        self.healed: list[str] = []
        self._control = control
        self._jobs: dict[str, LongJob] = {}
        self._listeners: list[JobListener] = []

    def reset(self) -> None:
        """As new, but the listeners stay."""
        for job in list(self._jobs.values()):
            del self._jobs[job.id]
            for listener in self._listeners:
                listener.job_removed(job)
        self.found, self.healed = {}, []

    # What a test does.

    def change(self, job_id: str, **changes: Any) -> None:
        """Change a job in any way."""
        before = self._jobs[job_id]
        after = self._jobs[job_id] = before.evolve(**changes)
        for listener in self._listeners:
            listener.job_changed(before, after)

    def move(self, job_id: str, **changes: Any) -> None:
        """It gets further."""
        moved = self._jobs[job_id] = self._jobs[job_id].evolve(**changes)
        for listener in self._listeners:
            listener.job_moved(moved)

    def find(self, job_id: str, *problems: JobProblem) -> None:
        """It has found something."""
        self.found.setdefault(job_id, []).extend(problems)
        outcomes: dict[FileOutcome, int] = {}
        for problem in self.found[job_id]:
            outcomes[problem.outcome] = outcomes.get(problem.outcome, 0) + 1
        self.change(job_id, outcomes=outcomes)

    # What `ports.JobControl` promises.

    def import_files(self, paths: Sequence[str], *, store_id: str = "", requested_by: str = "") -> str:
        for path in paths:
            if not path.startswith("/"):
                raise InvalidRequest(f"{path} is not absolute")
        return self._add(LongJob(random_id(), JobKind.IMPORT, store_id, tuple(paths), requested_by=requested_by))

    def verify(self, store_id: str, *, requested_by: str = "") -> str:
        for job in self._jobs.values():
            if job.kind is JobKind.VERIFY and job.store_id == store_id and not job.status.ended:
                return job.id
        return self._add(LongJob(random_id(), JobKind.VERIFY, store_id, requested_by=requested_by))

    def jobs(self) -> Mapping[str, LongJob]:
        return self._jobs

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> Sequence[JobProblem]:
        self._known(job_id)
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
        job = self._known(job_id)
        if not job.status.ended:
            return False
        del self._jobs[job_id]
        for listener in self._listeners:
            listener.job_removed(job)
        return True

    def heal(self, file_id: str) -> TransferKey:
        self.healed.append(file_id)
        return self._control.queue([Entry(file_id)])[0]

    def subscribe(self, listener: JobListener) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: JobListener) -> None:
        self._listeners.remove(listener)

    def _add(self, job: LongJob) -> str:
        self._jobs[job.id] = job
        for listener in self._listeners:
            listener.job_added(job)
        return job.id

    def _command(self, job_id: str, event: Event) -> bool:
        before = self._known(job_id)
        after = before.on(event)
        if after != before:
            self.change(job_id, status=after.status, reason=after.reason)
        return after != before

    def _known(self, job_id: str) -> LongJob:
        if job_id not in self._jobs:
            raise Unknown(f"there is no job {job_id}")
        return self._jobs[job_id]
