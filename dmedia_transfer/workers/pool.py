"""WorkerPool: has worker processes made, watches and ends them.

The manager's thread calls; reports go back to it through the injected `call_soon`, from one reader thread that waits
on all pipes. Promised:

- A worker that dies is noticed at once, and its run is reported as lost when it is gone. Nothing that a worker does or
  says harms the daemon.
- The process that forks them (`nursery`) is there as long as one of them is.
- A worker is reused, the one that was last used first, so that its connections are warm and the others can leave when
  they have been idle for a while.
- A transfer always gets a worker: how many there are at once is the manager's decision. What is left to be removed
  (`Discard`) gets an idle one, or a single one more, so that it neither waits for hours nor comes in hundreds.
- A worker that does not obey a stop or a pause within a few seconds is killed.
- Of a worker that had several small files, nobody knows which one killed it: each of them is tried by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import connection
from typing import Any, Final

from dmedia_transfer.config import Config
from dmedia_transfer.model import (
    Advanced,
    CarryOn,
    Connect,
    Cut,
    Discard,
    Download,
    Drain,
    Ended,
    Failure,
    GiveBack,
    Job,
    Logged,
    LongRun,
    Moved,
    Outcome,
    Report,
    Run,
    RunTogether,
    SetShare,
    Several,
    Stop,
    StoreSpec,
    Upload,
    UseSources,
    VerifyFiles,
)
from dmedia_transfer.workers import nursery
from dmedia_transfer.workers.messages import Died, Leave, Ready, WorkerSettings
from dmedia_transfer.workers.nursery import Nursery
from dmedia_transfer.workers.process import Process

log = logging.getLogger(__name__)

JOURNAL: Final = "journal.sqlite"  # in the state folder, as the daemon opens it
OBEY_S: Final = 3.0  # so long a worker may take to stop
KILLED_S: Final = 0.3  # so long a worker that is killed takes at most, unless it waits for a disk
SPARE_WORKERS: Final = 1  # for what is left to be removed, while all others are busy


class WorkerPool:
    """All worker processes of the daemon: `ports.WorkerPool`. Any thread may call; nothing blocks but `shutdown`."""

    def __init__(
        self,
        *,
        config: Config,
        on_report: Callable[[Report], None],
        call_soon: Callable[..., None],
        obey_s: float = OBEY_S,
        command: Sequence[str] = nursery.COMMAND,
    ) -> None:
        """No worker is started before there is something to do.

        Args:
            config: Where the journal is, how much is logged, how long an idle worker stays.
            on_report: Takes a report, on the thread that `call_soon` calls on.
            call_soon: Calls a function with arguments, later and on the right thread.
            obey_s: Seconds that a worker may take to obey.
            command: The program that forks workers; the number of its pipe is appended.
        """
        self._settings = WorkerSettings(config.state_dir / JOURNAL, config.log_level)
        self._idle_s = config.worker_idle_s
        self._on_report = on_report
        self._call_soon = call_soon
        self._obey_s = obey_s
        self._command = tuple(command)
        self._lock = threading.RLock()
        self._nursery: Nursery | None = None
        self._processes: list[Process] = []
        self._idle: list[Process] = []  # the one that was last used at the end
        self._busy: dict[int, Process] = {}
        self._waiting: deque[Run] = deque()
        self._reader: threading.Thread | None = None
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closing = False

    # What the manager asks

    def run(self, run_id: int, job: Job | LongRun) -> None:
        """Give the job to an idle worker, or to a new one."""
        with self._lock:
            self._place(Run(run_id, job))

    def run_together(self, jobs: Mapping[int, Job]) -> None:
        """Give the transfers of small files, by the numbers of their runs, to one idle worker, or to a new one."""
        with self._lock:
            self._place(*(Run(run_id, job) for run_id, job in jobs.items()))

    def give_back(self, run_ids: Collection[int]) -> None:
        """Have the worker of these runs let go of those that it has not begun."""
        with self._lock:
            for run_id in run_ids:
                if (worker := self._busy.get(run_id)) is not None:
                    worker.send(GiveBack(tuple(run_ids)))
                    return

    def drain(self, run_id: int, grace_s: float) -> None:
        """Ask the worker to pause."""
        self._tell(run_id, Drain(run_id, grace_s), kill_after_s=grace_s + self._obey_s)

    def carry_on(self, run_id: int) -> None:
        """Take a drain back."""
        with self._lock:
            if run_id in self._busy:
                self._busy[run_id].may_take_its_time(run_id)
                self._busy[run_id].send(CarryOn(run_id))

    def stop(self, run_id: int) -> None:
        """Ask the worker to let go at once."""
        self._tell(run_id, Stop(run_id), kill_after_s=self._obey_s)

    def set_share(self, run_id: int, download_bps: float | None, upload_bps: float | None) -> None:
        """The worker of this run has this share of the bandwidth from now on; None is no limit."""
        with self._lock:
            if run_id in self._busy:
                self._busy[run_id].send(SetShare(download_bps, upload_bps))

    def connect(self, run_id: int, connections: int) -> None:
        """The worker of this run has so many connections from now on."""
        with self._lock:
            if run_id in self._busy:
                self._busy[run_id].send(Connect(run_id, connections))

    def use_sources(self, run_id: int, sources: Sequence[StoreSpec]) -> None:
        """The download of this run has these sources from now on."""
        with self._lock:
            if run_id in self._busy:
                self._busy[run_id].send(UseSources(run_id, tuple(sources)))

    def cut(self) -> None:
        """All workers cut their connections and connect anew."""
        with self._lock:
            for worker in self._processes:
                worker.send(Cut())

    # What else the daemon asks

    def warm(self, count: int = 1) -> None:
        """Start workers ahead of need; like all that are idle they leave after a while."""
        with self._lock:
            for _ in range(count - len(self._idle)):
                if (worker := self._start(())) is not None:
                    self._idle.append(worker)

    def change(self, *, idle_s: float, log_level: str) -> None:
        """From now on idle workers leave after `idle_s` seconds, and those that are started log at `log_level`."""
        with self._lock:
            self._idle_s = idle_s
            self._settings = replace(self._settings, log_level=log_level)
            self._wake()

    @property
    def pids(self) -> list[int]:
        """The workers that are ready."""
        with self._lock:
            return [worker.pid for worker in self._processes if worker.pid is not None]

    @property
    def forker(self) -> int | None:
        """The process that forks them, while there is one."""
        with self._lock:
            return self._nursery.pid if self._nursery else None

    def shutdown(self, timeout_s: float) -> None:
        """End all workers: those that have not let go after `timeout_s` are killed.

        Returns when all are gone, or a moment later: a process that waits for a disk ends when the disk answers.
        """
        until = time.monotonic() + timeout_s
        with self._lock:
            self._closing = True
            self._waiting.clear()
            for worker in self._processes:
                for run_id in worker.runs:
                    worker.send(Stop(run_id))
                worker.send(Leave())
            reader = self._reader
            self._wake()
        if reader is None:
            return
        reader.join(max(0.0, until - time.monotonic()))
        with self._lock:
            for worker in self._processes:
                log.warning("worker %s does not end and is killed", worker.pid)
                worker.kill()
        reader.join(KILLED_S)

    # Inside; with the lock held

    def _place(self, *runs: Run) -> None:
        worker = self._idle.pop() if self._idle else None
        if worker is None and isinstance(runs[0].job, Discard) and self._discards() >= SPARE_WORKERS:
            self._waiting.append(runs[0])
            return
        worker = worker or self._start([plugin for run in runs for plugin in _plugins(run.job)])
        if worker is None:
            failure = Failure("WorkerLost", "a worker process could not be started", transient=True)
            self._lose([run.run_id for run in runs], failure, together=len(runs) > 1)
            return
        worker.runs = {run.run_id: run.job for run in runs}
        worker.together = len(runs) > 1
        self._busy.update(dict.fromkeys(worker.runs, worker))
        worker.send(RunTogether(runs) if worker.together else runs[0])

    def _lose(self, run_ids: Sequence[int], failure: Failure, *, together: bool) -> None:
        if together:
            self._report(Several(tuple(Ended(run_id, Outcome.ALONE, failure) for run_id in run_ids)))
        else:
            self._report(Ended(run_ids[0], Outcome.LOST, failure))

    def _discards(self) -> int:
        return sum(isinstance(job, Discard) for worker in self._processes for job in worker.runs.values())

    def _start(self, plugins: Collection[str]) -> Process | None:
        if self._closing:
            return None
        try:
            self._nursery = self._nursery or Nursery(command=self._command)
            worker = Process(self._nursery, self._settings, plugins=frozenset(plugins))
        except OSError:
            log.exception("a worker process could not be started")
            return None
        self._processes.append(worker)
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name="worker-reports", daemon=True)
            self._reader.start()
        self._wake()
        return worker

    def _tell(self, run_id: int, command: Drain | Stop, *, kill_after_s: float) -> None:
        with self._lock:
            for run in self._waiting:
                if run.run_id == run_id:
                    self._waiting.remove(run)
                    self._report(Ended(run_id, Outcome.STOPPED))
                    return
            worker = self._busy.get(run_id)
            if worker is None:
                return  # it has ended, and the report is on its way
            worker.obey_within(kill_after_s, run_id)
            worker.send(command)
            self._wake()

    def _report(self, report: Report) -> None:
        self._call_soon(self._on_report, report)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of wake-ups already
            os.write(self._wake_w, b".")

    # The reader thread

    def _read(self) -> None:
        while True:
            with self._lock:
                unused = self._unused_nursery()
                heard = self._heard()
                over = self._closing and not self._processes
                timeout_s = self._until_next_deadline()
            if unused is not None:
                unused.close()
            if over:
                return
            for source in connection.wait(list(heard), timeout_s):
                heard[source]()
            with self._lock:
                self._enforce()

    def _heard(self) -> dict[Any, Callable[[], object]]:
        """What the reader waits for, and what is done when something comes."""
        heard: dict[Any, Callable[[], object]] = {self._wake_r: lambda: os.read(self._wake_r, 4096)}
        if self._nursery is not None:
            heard[self._nursery] = partial(self._hear, self._nursery)
        for worker in self._processes:
            if not worker.connection.closed:
                heard[worker.connection] = partial(self._receive, worker)
        return heard

    def _unused_nursery(self) -> Nursery | None:
        """The forker, if it has no worker any more; it is ours no more."""
        if self._processes:
            return None
        unused, self._nursery = self._nursery, None
        return unused

    def _until_next_deadline(self) -> float | None:
        deadlines = [worker.kill_at for worker in self._processes if worker.kill_at is not None]
        deadlines += [worker.idle_since + self._idle_s for worker in self._idle]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _enforce(self) -> None:
        """Kill who does not obey, and send home who has nothing to do."""
        now = time.monotonic()
        for worker in self._processes:
            if worker.kill_at is not None and worker.kill_at <= now:
                log.warning("worker %s does not let go of %s and is killed", worker.pid, _names(worker.runs.values()))
                worker.may_take_its_time()
                worker.kill()
        for worker in [worker for worker in self._idle if worker.idle_since + self._idle_s <= now]:
            self._idle.remove(worker)
            worker.leaving = True
            worker.obey_within(self._obey_s)
            worker.send(Leave())

    def _receive(self, worker: Process) -> None:
        try:
            message = worker.receive()
        except EOFError:
            with self._lock:
                worker.kill()  # a process without its pipe is of no use, whatever it is doing
                worker.connection.close()
                if worker in self._idle:
                    self._idle.remove(worker)
            self._mourn(worker)
            return
        match message:
            case Ready():
                log.debug("worker %s is ready", message.pid)
                with self._lock:
                    worker.ready(message)
            case Ended():
                self._ended(worker, message, (message,))
            case Several():
                self._ended(worker, message, [one for one in message.reports if isinstance(one, Ended)])
            case Moved() | Advanced() | Logged():
                self._report(message)
            case _:
                log.error("worker %s says what no worker says, and is killed: %.80r", worker.pid, message)
                worker.kill()

    def _ended(self, worker: Process, report: Ended | Several, ended: Sequence[Ended]) -> None:
        """`ended` is what of the report says so."""
        with self._lock:
            if any(one.run_id not in worker.runs for one in ended):
                return
            for one in ended:
                del worker.runs[one.run_id], self._busy[one.run_id]
                worker.may_take_its_time(one.run_id)
            if ended and not worker.runs:
                worker.idle_since = time.monotonic()
                if not self._closing:
                    self._idle.append(worker)
                    if self._waiting:
                        self._place(self._waiting.popleft())
        self._report(report)

    def _hear(self, forking: Nursery) -> None:
        """The forker has something to tell: that one of its workers has ended; or it has, and all of them with it."""
        deaths: list[Died] = []
        with contextlib.suppress(EOFError):
            deaths.append(forking.receive())
        if not deaths:
            log.error("the process that forks workers has ended; its workers end with it")
            with self._lock:
                if self._nursery is forking:
                    self._nursery = None
            forking.close()
            deaths = [Died(worker.number, None) for worker in self._processes if worker.nursery is forking]
        for death in deaths:
            for worker in list(self._processes):
                if worker.nursery is forking and worker.number == death.number:
                    worker.death = worker.death or death
                    self._mourn(worker)

    def _mourn(self, worker: Process) -> None:
        """A worker has ended, or its pipe has: when both have, it is gone, and nothing else of it is to come."""
        if not worker.gone:
            return
        with self._lock:
            self._processes.remove(worker)
            lost, worker.runs = worker.runs, {}
            for run_id in lost:
                del self._busy[run_id]
            if self._waiting and not self._closing:
                self._place(self._waiting.popleft())
        if not lost:
            log.log(logging.DEBUG if worker.leaving or self._closing else logging.WARNING, "%s", worker.obituary())
            return
        log.warning("%s: %s", _names(lost.values()), worker.obituary())
        self._lose(list(lost), Failure.of(worker.obituary()), together=worker.together)


def _names(jobs: Collection[Job | LongRun]) -> str:
    """What a worker is busy with, for the log."""
    first = next((str(job.key) for job in jobs), "nothing")
    return f"{first} and {len(jobs) - 1} more" if len(jobs) > 1 else first


def _plugins(job: Job | LongRun) -> list[str]:
    """The backends that a worker needs for this."""
    match job:
        case Download(sources=stores):
            return [store.plugin for store in stores]
        case Upload(destination=store) | Discard(store=store) | VerifyFiles(store=store):
            return [store.plugin]
    return []
