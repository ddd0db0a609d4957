"""A worker: a process that runs one job at a time, or a bundle of small files.

Forked by `forker`, with its end of a pipe to the pool. The control thread reads commands, the main thread does the
job, and both write reports. It can be killed at any instant, and everything is made for that: what is recorded
was verified, what was begun at a store is on record before, and a file gets its name by rename at the very end.

When its pipe ends, the daemon has died, and it leaves at once without another word: the daemon that is started next may
give the same file to another worker, and no two must ever be on one.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.journal import Journal
from dmedia_transfer.limiter import TokenBucket
from dmedia_transfer.model import (
    CarryOn,
    Connect,
    Cut,
    Direction,
    Download,
    Drain,
    Ended,
    JobKey,
    Logged,
    Moved,
    Run,
    RunTogether,
    SetShare,
    Several,
    Stop,
    TransferKey,
    Upload,
    UseSources,
)
from dmedia_transfer.workers.bundle import Bundle
from dmedia_transfer.workers.messages import Leave, Ready, WorkerSettings
from dmedia_transfer.workers.running import Runner, Running
from dmedia_transfer.workers.smallfiles import SmallFiles
from dmedia_transfer.workers.stores import OpenStores

MAX_LINE = 8000  # characters of a line in the log: what crosses the pipe is small


class Worker:
    """The process's one and only."""

    def __init__(self, connection: Connection, settings: WorkerSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Running | Bundle | None] = queue.SimpleQueue()
        self._current: Running | Bundle | None = None  # also before the main thread has taken it
        self._stores = OpenStores()
        self._buckets = {direction: TokenBucket(None) for direction in Direction}
        self._buffers = LeafBuffers(1)
        self._opened: Journal | None = None

    def serve(self) -> None:
        """Do what is asked until there is nothing more."""
        logging.root.addHandler(_Forward(self))
        logging.root.setLevel(self._settings.log_level)
        if self._settings.log_level != "DEBUG":
            logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells at each start where it found credentials
        threading.Thread(target=self._obey, name="control", daemon=True).start()
        runner = Runner(
            journal=self._journal,
            stores=self._stores,
            buckets=self._buckets,
            buffers=self._buffers,
            report=self.send,
            report_interval_s=self._settings.report_interval_s,
        )
        small = SmallFiles(journal=self._journal, stores=self._stores, buckets=self._buckets, buffers=self._buffers)
        self.send(Ready(os.getpid()))
        while (work := self._inbox.get()) is not None:
            if isinstance(work, Bundle):
                small.run(work)
            else:
                ended = runner.run(work)
                self._current = None
                self.send(ended)

    @property
    def key(self) -> TransferKey | JobKey | None:
        """What it, or of small files the calling thread, is busy with."""
        match self._current:
            case Bundle() as bundle:
                return bundle.current.job.key if bundle.current is not None else None
            case Running() as running:
                return running.job.key
        return None

    def send(self, message: Any) -> None:
        """Tell the daemon; from any thread."""
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                os._exit(0)

    def _report(self, reports: Sequence[Moved | Ended]) -> None:
        self.send(Several(tuple(reports)))

    def _journal(self) -> Journal:
        if self._opened is None:
            self._opened = Journal(self._settings.journal_path)
        return self._opened

    def _obey(self) -> None:
        """The control thread."""
        while True:
            try:
                command = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # not sys.exit: nothing that is still under way may have a say
            self._handle(command)

    def _handle(self, command: Any) -> None:
        current = self._current
        if isinstance(current, Bundle):
            current.obey(command)
            current = None
        match command:
            case RunTogether(runs):
                for bucket in self._buckets.values():
                    bucket.set_rate(None)
                self._current = Bundle(runs, report=self._report, cut=self._stores.cut)
                self._buffers.resize(self._current.connections)
                self._inbox.put(self._current)
            case Run(run_id, job):
                for bucket in self._buckets.values():
                    bucket.set_rate(None)
                connections = job.connections if isinstance(job, Download | Upload) else 1
                self._buffers.resize(connections)
                self._current = Running(run_id, job, Crew(connections, grows=True))
                self._inbox.put(self._current)
            case Drain(run_id, grace_s) if current is not None and current.run_id == run_id:
                # A part that was sent in full is worth something later, a leaf that was received in part is not.
                current.crew.pause(grace_s if isinstance(current.job, Upload) else 0)
            case CarryOn(run_id) if current is not None and current.run_id == run_id:
                current.crew.resume()
            case Stop(run_id) if current is not None and current.run_id == run_id:
                current.crew.stop()
            case Connect(run_id, connections) if current is not None and current.run_id == run_id:
                current.crew.connect(connections)
                self._buffers.resize(current.crew.lines.room)
            case UseSources(run_id, sources) if current is not None and current.run_id == run_id:
                current.news.put(sources)
                current.crew.spread(len(sources))
                current.crew.poke()
            case Cut():
                if current is not None:
                    current.crew.cut()
                self._stores.cut()
            case SetShare(download_bps, upload_bps):
                self._buckets[Direction.DOWNLOAD].set_rate(download_bps)
                self._buckets[Direction.UPLOAD].set_rate(upload_bps)
            case Leave():
                self._inbox.put(None)


class _Forward(logging.Handler):
    """Sends what is logged to the daemon's log, with the transfer that it is about."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        try:
            key = self._worker.key
            # The daemon puts the key before each line.
            line = self.format(record).removeprefix(f"{key}: ")[:MAX_LINE]
            code = (record.pathname, record.lineno, record.funcName)
            self._worker.send(Logged(record.levelno, record.name, line, key, code))
        except Exception:
            self.handleError(record)


def run(connection: Connection) -> NoReturn:
    """Be a worker on this pipe, to the end of the process."""
    try:
        settings = connection.recv()
    except (EOFError, OSError):
        os._exit(0)
    Worker(connection, settings).serve()
    os._exit(0)
