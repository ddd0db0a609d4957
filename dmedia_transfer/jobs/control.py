"""LongJobs: owns all imports and verifications, and decides what becomes of each.

Everything here runs on the manager's thread, and nothing blocks. A job is a row of steps, each of which a worker does
or the library answers: list what is to be done, then do it, a batch after the other. What there is to do and what is
done is in the journal, so each step can be begun again at any time: after a pause, a lost worker, or a restart.

No more than a few jobs run at once, each in a worker of its own: transfers do not wait for them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dmedia_transfer import retry
from dmedia_transfer.errors import InvalidRequest, StoreMissing, TransferError, Unknown
from dmedia_transfer.jobs.asking import check_path
from dmedia_transfer.jobs.item import CancelTimer, Item
from dmedia_transfer.jobs.records import Records, Stores
from dmedia_transfer.jobs.steps import Question, Step, Steps, Turn
from dmedia_transfer.model import (
    Advanced,
    Ended,
    Failure,
    JobKind,
    JobProblem,
    LongJob,
    LongRun,
    Outcome,
    TransferKey,
    VerifyFiles,
    random_id,
)
from dmedia_transfer.ports import Inquiries, JobListener, WorkerPool
from dmedia_transfer.progress import RateMeter
from dmedia_transfer.states import Event, Reason, Status

log = logging.getLogger(__name__)

MAX_JOBS: Final = 2  # at once; disks and processors are there for transfers, too
MAX_PATHS: Final = 1000  # of one import
RECHECK_S: Final = 15.0  # until what waits for a disk or a store tries again
MAX_NAME: Final = 256  # characters of `requested_by`
MAX_BACKGROUND_SHARE: Final = 0.5  # of a bandwidth limit, for reading from a store


class LongJobs:
    """The `ports.JobControl` of this machine."""

    def __init__(
        self,
        *,
        pool: WorkerPool,
        inquiries: Inquiries,
        stores: Stores,
        records: Records,
        heal: Callable[[str], TransferKey],
        download_bps: Callable[[], float | None],
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        stall_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            pool: Workers; runs of long jobs have numbers below zero, so that they are never those of transfers.
            inquiries: The library's documents.
            stores: Where to and from.
            records: The journal.
            heal: Has a file brought here again, out of what is left of it.
            download_bps: The limit of all downloads together; None is none.
            call_later: Calls something later, on this thread.
            stall_s: Seconds without a byte after which a connection is cut.
            clock: Monotonic seconds.
            wall: Unix seconds.
            chance: A random number in [0, 1).
        """
        self._pool = pool
        self._inquiries = inquiries
        self._stores = stores
        self._records = records
        self._heal = heal
        self._download_bps = download_bps
        self._call_later = call_later
        self._steps = Steps(inquiries=inquiries, stores=stores, records=records, stall_s=stall_s)
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._items: dict[str, Item] = {}
        self._runs: dict[int, Item] = {}
        self._last_run = 0
        self._listeners: list[JobListener] = []
        self._stopped = True

    # Events from the edges.

    def start(self) -> None:
        """Take up the jobs of an earlier life. What was paused stays so; all else that has not ended goes on."""
        self._stopped = False
        for job in self._records.load():
            item = self._items[job.id] = Item(job)
            if not job.status.ended:
                item.job = job.on(Event.CLEAR if job.status is Status.SUSPENDED else Event.LOST)
                item.job = item.recount(self._records.totals(job.id))
                if item.job.status is not job.status:
                    self._records.put(item.job)
            self._tell("job_added", item.job)
        for item in list(self._items.values()):
            if item.job.status.ended and not item.job.ended:  # killed before it was wound up
                self._close(item)
        self._pump()

    def owns(self, run_id: int) -> bool:
        """Whether a worker's report is about a long job."""
        return run_id < 0

    def report(self, report: Advanced | Ended) -> None:
        """A worker has something to say."""
        item = self._runs.get(report.run_id)
        if item is None:
            return
        if isinstance(report, Advanced):
            self._advanced(item, report)
        else:
            del self._runs[report.run_id]
            item.run_id = None
            self._run_ended(item, report)
            self._pump()

    def stores_changed(self) -> None:
        """A store was added, enabled, changed, mounted."""
        for item in self._items.values():
            if item.job.reason is Reason.STORE_MISSING:
                self._wake(item)

    def shutdown(self) -> None:
        """Suspend all that runs; the pool is ended by whoever made it."""
        self._stopped = True
        for item in self._items.values():
            item.stay_asleep()
            if item.job.status in (Status.ONGOING, Status.QUEUED):
                self._event(item, Event.SUSPEND, Reason.SHUTDOWN)
            if item.run_id is not None:
                self._pool.stop(item.run_id)

    # Commands.

    def import_files(self, paths: Sequence[str], *, store_id: str = "", requested_by: str = "") -> str:
        """See `ports.JobControl.import_files`."""
        if not paths:
            raise InvalidRequest("paths: there is nothing to import")
        if len(paths) > MAX_PATHS:
            raise InvalidRequest(f"paths: has {len(paths)} paths, more than the {MAX_PATHS} of one import")
        for path in paths:
            check_path(path)
        if store_id:
            if not self._stores.spec(store_id).local:
                raise Unknown(f"store {store_id} is no FileStore of this machine")
        elif not self._stores.homes():
            raise StoreMissing("this machine has no FileStore, or none is there now")
        return self._add(JobKind.IMPORT, store_id=store_id, paths=tuple(paths), requested_by=requested_by)

    def verify(self, store_id: str, *, requested_by: str = "") -> str:
        """See `ports.JobControl.verify`."""
        self._stores.spec(store_id)
        for item in self._items.values():
            if item.job.kind is JobKind.VERIFY and item.job.store_id == store_id and not item.job.status.ended:
                return item.job.id
        return self._add(JobKind.VERIFY, store_id=store_id, requested_by=requested_by)

    def jobs(self) -> Mapping[str, LongJob]:
        """See `ports.JobControl.jobs`."""
        return {job_id: item.job for job_id, item in self._items.items()}

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> Sequence[JobProblem]:
        """See `ports.JobControl.problems`."""
        return self._records.problems(self._item(job_id).job.id, offset=offset, limit=limit)

    def pause(self, job_id: str) -> bool:
        """See `ports.JobControl.pause`."""
        return self._command(job_id, Event.PAUSE)

    def resume(self, job_id: str) -> bool:
        """See `ports.JobControl.resume`."""
        return self._command(job_id, Event.RESUME)

    def cancel(self, job_id: str) -> bool:
        """See `ports.JobControl.cancel`."""
        return self._command(job_id, Event.CANCEL)

    def retry(self, job_id: str) -> bool:
        """See `ports.JobControl.retry`."""
        return self._command(job_id, Event.RETRY)

    def forget(self, job_id: str) -> bool:
        """See `ports.JobControl.forget`."""
        item = self._item(job_id)
        if not item.job.status.ended or item.busy:
            return False
        self._records.forget(job_id)
        del self._items[job_id]
        self._tell("job_removed", item.job)
        return True

    def heal(self, file_id: str) -> TransferKey:
        """See `ports.JobControl.heal`."""
        return self._heal(file_id)

    def subscribe(self, listener: JobListener) -> None:
        """See `ports.JobControl.subscribe`."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: JobListener) -> None:
        """See `ports.JobControl.unsubscribe`."""
        self._listeners.remove(listener)

    def _add(self, kind: JobKind, **facts: Any) -> str:
        facts["requested_by"] = facts["requested_by"][:MAX_NAME]
        job = LongJob(random_id(), kind, time=round(self._wall(), 3), **facts)
        self._records.put(job)
        self._items[job.id] = Item(job)
        self._tell("job_added", job)
        self._pump()
        return job.id

    def _command(self, job_id: str, event: Event) -> bool:
        """What a person says. Says whether it changed anything."""
        item = self._item(job_id)
        before = item.job.status
        self._event(item, event)
        after = item.job.status
        if after is before:
            return False
        item.stay_asleep()
        if after is Status.PAUSING:
            if item.run_id is None:  # the library is asked; nobody has to let go
                item.inquiry = None
                self._event(item, Event.STOPPED)
            else:
                self._pool.drain(item.run_id, 0.0)
        elif before is Status.PAUSING and after is Status.ONGOING and item.run_id is not None:
            self._pool.carry_on(item.run_id)
        elif after is Status.CANCELLED:
            item.inquiry = None
            if item.run_id is not None:
                self._pool.stop(item.run_id)
            else:
                self._close(item)
        elif event is Event.RETRY:
            self._change(item, failure=None, attempts=0, ended=0.0)
        self._pump()
        return True

    # Steps.

    def _pump(self) -> None:
        """Start what can be started."""
        if self._stopped:
            return
        room = MAX_JOBS - sum(one.busy or one.job.status is Status.ONGOING for one in self._items.values())
        for item in list(self._items.values()):
            if room <= 0:
                return
            if item.job.status is Status.QUEUED and not item.busy:
                room -= 1
                self._event(item, Event.START)
                item.meter = RateMeter(self._clock, bytes_done=item.job.progress.bytes_done)
                if not item.job.started:
                    self._change(item, started=round(self._wall(), 3))
                log.info("%s: goes on" if item.job.listed else "%s: begins", item.job.key)
                self._step(item)

    def _step(self, item: Item) -> None:
        """Do what is next of a job that is ongoing and that nobody has."""
        try:
            self._do(item, self._steps.next(item))
        except TransferError as error:
            self._went_wrong(item, Failure.of(error))

    def _do(self, item: Item, step: Step) -> None:
        match step:
            case Question():
                self._ask(item, step)
            case Turn.LISTED:
                self._put(item, item.recount(self._records.totals(item.job.id)).evolve(listed=True))
                log.info("%s: %s files, %s bytes", item.job.key, item.job.files_total, item.job.progress.bytes_total)
                self._do(item, self._steps.next(item))
            case Turn.AGAIN:
                self._do(item, self._steps.next(item))
            case Turn.DONE:
                self._change(item, failure=None)
                self._event(item, Event.FINISH)
                self._close(item)
            case _:
                self._run(item, step)

    def _run(self, item: Item, run: LongRun) -> None:
        """Give a step to a worker."""
        self._last_run -= 1
        item.run_id = self._last_run
        self._runs[item.run_id] = item
        self._pool.run(item.run_id, run)
        limit_bps = self._download_bps()
        if isinstance(run, VerifyFiles) and not run.store.local and limit_bps is not None:
            self._pool.set_share(item.run_id, limit_bps * MAX_BACKGROUND_SHARE, None)

    def _ask(self, item: Item, question: Question) -> None:
        """Ask the library, and go on with its answer unless something else was decided meanwhile."""
        inquiry = item.inquiry = object()

        def answer(found: Any) -> None:
            if item.inquiry is not inquiry:
                return
            item.inquiry = None
            try:
                self._do(item, question.then(found))
            except TransferError as error:
                self._went_wrong(item, Failure.of(error))
            self._pump()

        question.ask(answer)

    # What workers say.

    def _advanced(self, item: Item, report: Advanced) -> None:
        before = item.job
        after = item.advanced(report)
        if after.files_done != before.files_done:
            self._inquiries.flush()  # what was found out waits in the outbox
        if after.problem_count != before.problem_count:
            self._put(item, after)
        elif after != before:
            item.job = after
            self._tell("job_moved", after)

    def _run_ended(self, item: Item, report: Ended) -> None:
        self._inquiries.flush()
        item.fold()
        status = item.job.status
        if report.outcome in (Outcome.FAILED, Outcome.LOST):
            self._went_wrong(item, report.failure or Failure("TransferError", "it ended without saying why"))
        elif status is Status.ONGOING and report.outcome is Outcome.FINISHED:
            item.scanned = True
            self._step(item)
        elif status is not Status.CANCELLED:
            self._event(item, Event.STOPPED)
            self._recount(item)
        if item.job.status is Status.CANCELLED:
            self._close(item)

    def _went_wrong(self, item: Item, failure: Failure) -> None:
        status = item.job.status
        self._event(item, Event.LOST)
        self._recount(item)
        if status not in (Status.ONGOING, Status.PAUSING):
            return
        self._change(item, failure=failure, attempts=item.job.attempts + 1)
        decision = retry.decide(failure, item.job.attempts, chance=self._chance())
        log.warning("%s: %s", item.job.key, failure)
        if decision.reason is None:
            self._event(item, Event.FAIL)
            self._close(item)
        elif status is Status.ONGOING:
            self._event(item, Event.SUSPEND, decision.reason)
            after_s = RECHECK_S if decision.after_s is None else decision.after_s
            item.wake = self._call_later(after_s, lambda: self._wake(item))

    def _wake(self, item: Item) -> None:
        item.stay_asleep()
        if item.job.status is Status.SUSPENDED and not self._stopped:
            self._event(item, Event.CLEAR)
            self._pump()

    # The public values, and who is told.

    def _item(self, job_id: str) -> Item:
        try:
            return self._items[job_id]
        except KeyError:
            raise Unknown(f"there is no job {job_id:.80}") from None

    def _close(self, item: Item) -> None:
        """It has ended, and nobody is at it any more."""
        if not item.job.ended:
            self._recount(item)
            self._change(item, ended=round(self._wall(), 3))
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in item.job.outcomes.items())
            log.info("%s: %s; %s", item.job.key, item.job.status, outcomes or "nothing was there to do")
        for job_id in self._records.ended(item.job):
            gone = self._items.pop(job_id, None)
            if gone is not None:
                self._tell("job_removed", gone.job)

    def _recount(self, item: Item) -> None:
        item.meter = None
        self._put(item, item.recount(self._records.totals(item.job.id)))

    def _event(self, item: Item, event: Event, reason: Reason | None = None) -> None:
        self._put(item, item.job.on(event, reason))

    def _change(self, item: Item, **changes: Any) -> None:
        self._put(item, item.job.evolve(**changes))

    def _put(self, item: Item, after: LongJob) -> None:
        before = item.job
        if before == after:
            return
        item.job = after
        if (before.status, before.reason, before.listed, before.failure, before.ended) != (
            after.status,
            after.reason,
            after.listed,
            after.failure,
            after.ended,
        ):
            self._records.put(after)
        for listener in self._listeners:
            listener.job_changed(before, after)

    def _tell(self, notice: str, job: LongJob) -> None:
        for listener in self._listeners:
            getattr(listener, notice)(job)
