"""The manager's collaborators, in memory: they record what they were asked, and tests decide what they answer."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dmedia_transfer import documents, merge
from dmedia_transfer.errors import DiskFull, StoreMissing, TransferError, Unknown
from dmedia_transfer.manager import Settings, TransferManager
from dmedia_transfer.model import (
    Discard,
    Download,
    Edit,
    Ended,
    Entry,
    Failure,
    FileSpec,
    Job,
    LongRun,
    Moved,
    Outcome,
    PendingEdit,
    RecordStored,
    StoreSpec,
    Transfer,
    TransferKey,
    Upload,
)
from dmedia_transfer.ports import KnownFile
from dmedia_transfer.states import Status
from tests.factories import MACHINE_ID, OTHER_STORE_ID, STORE_ID

HOME_ID = "H" * 24  # the FileStore of this machine


class FakeClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._ids = itertools.count()

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        timer = next(self._ids)
        self._timers[timer] = (self.now + delay_s, callback)
        return lambda: self._timers.pop(timer, None) and None

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due is called in order."""
        until = self.now + seconds
        while due := sorted((when, timer) for timer, (when, _) in self._timers.items() if when <= until):
            when, timer = due[0]
            self.now = max(self.now, when)
            _, callback = self._timers.pop(timer)
            callback()
        self.now = until


class FakePool:
    """Workers that do nothing until a test lets them."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.said: list[tuple[str, int]] = []
        self.shares: dict[int, tuple[float | None, float | None]] = {}
        self.bundles: list[list[int]] = []  # the runs that were begun together

    def run(self, run_id: int, job: Job | LongRun) -> None:
        assert isinstance(job, Job)
        assert all(other.key != job.key for other in self.jobs.values()), "two workers on one transfer"
        self.jobs[run_id] = job
        self.said.append(("run", run_id))

    def run_together(self, jobs: Mapping[int, Job]) -> None:
        for run_id, job in jobs.items():
            self.run(run_id, job)
        self.said = [*self.said[: -len(jobs)], ("together", min(jobs))]
        self.bundles.append(list(jobs))

    def give_back(self, run_ids: Collection[int]) -> None:
        for run_id in run_ids:
            self._say("give back", run_id)

    def drain(self, run_id: int, grace_s: float) -> None:
        self._say("drain", run_id)

    def carry_on(self, run_id: int) -> None:
        self._say("carry on", run_id)

    def stop(self, run_id: int) -> None:
        self._say("stop", run_id)

    def set_share(self, run_id: int, download_bps: float | None, upload_bps: float | None) -> None:
        assert run_id in self.jobs, "a share for a run that is over"
        self.shares[run_id] = (download_bps, upload_bps)

    def connect(self, run_id: int, connections: int) -> None:
        self._say(f"connect {connections}", run_id)

    def use_sources(self, run_id: int, sources: Sequence[StoreSpec]) -> None:
        job = self.jobs[run_id]
        assert isinstance(job, Download)
        self.jobs[run_id] = replace(job, sources=tuple(sources))
        self._say("sources", run_id)

    def cut(self) -> None:
        self.said.append(("cut", 0))

    def _say(self, word: str, run_id: int) -> None:
        assert run_id in self.jobs, f"{word} to a run that is over"
        self.said.append((word, run_id))

    def run_of(self, key: TransferKey) -> int:
        """The number of the live run of a transfer."""
        return next(run_id for run_id, job in self.jobs.items() if job.key == key)


class FakeLibrary:
    """Documents in a dictionary; answers wait until a test delivers them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.watched: list[str] = []
        self.flushes = 0
        self.recorded = 0  # how often it was told that there are records
        self.left: int | None = None  # entries, as the last flush said

    def request_files(self, file_ids: Iterable[str]) -> None:
        self.asked.extend(file_ids)

    def watch(self, file_ids: Iterable[str]) -> None:
        self.watched = list(file_ids)

    def record(self) -> None:
        self.recorded += 1

    def flush(self, *, left: int | None = None) -> None:
        self.flushes += 1
        self.left = left


class FakeOutbox:
    """An outbox that survives what a test calls a crash."""

    def __init__(self) -> None:
        self.waiting: list[PendingEdit] = []
        self.durable: list[Edit] = []  # those that had to be on the disk
        self._seqs = itertools.count(1)

    def add(self, edits: Sequence[Edit], *, durable: bool = True) -> list[PendingEdit]:
        added = [PendingEdit(next(self._seqs), edit) for edit in edits]
        self.waiting.extend(added)
        self.durable += [one.edit for one in added if durable]
        return added

    def pending(self, kinds: Collection[type[Edit]] = ()) -> list[PendingEdit]:
        return [one for one in self.waiting if not kinds or type(one.edit) in kinds]

    def taken(self, seqs: Iterable[int]) -> None:
        gone = set(seqs)
        self.waiting = [one for one in self.waiting if one.seq not in gone]


class FakeLedger:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.failed_entries: dict[str, Failure] = {}
        self.failures_told: list[tuple[TransferKey, str]] = []
        self.endings: list[tuple[TransferKey, Status]] = []
        self.gone: set[str] = set()
        self.left_uploads: dict[TransferKey, float] = {}

    def failures(self) -> Mapping[str, Failure]:
        return self.failed_entries

    def failed(self, key: TransferKey, identities: Sequence[str], failure: Failure, size: int) -> None:
        self.failures_told.append((key, failure.message))
        self.failed_entries.update((identity, failure) for identity in identities)

    def keep_failures(self, identities: Collection[str]) -> None:
        self.failed_entries = {name: one for name, one in self.failed_entries.items() if name in identities}

    def ended(self, key: TransferKey, identities: Sequence[str], status: Status, size: int) -> None:
        self.endings.append((key, status))
        self.gone.update(identities)
        for identity in identities:
            self.failed_entries.pop(identity, None)

    def all_ended(self, endings: Sequence[tuple[TransferKey, Sequence[str], Status, int]]) -> None:
        for ending in endings:
            self.ended(*ending)

    def done(self) -> list[tuple[TransferKey, float]]:
        return [(key, 500.0) for key, status in self.endings if status is Status.DONE]

    def uploads(self) -> Mapping[TransferKey, float]:
        return self.left_uploads

    def gone_among(self, identities: Sequence[str]) -> set[str]:
        return self.gone & set(identities)


class FakeStores:
    """One FileStore, and remote stores by their IDs."""

    def __init__(self) -> None:
        self.remote: dict[str, StoreSpec | TransferError] = {
            STORE_ID: StoreSpec(STORE_ID, "memory"),
            OTHER_STORE_ID: StoreSpec(OTHER_STORE_ID, "memory", cost=10),
        }
        self.home = StoreSpec(HOME_ID, "filestore", {"path": "/home"}, cost=0, local=True)
        self.files: set[str] = set()
        self.partials: dict[str, float] = {}
        self.trouble: DiskFull | StoreMissing | None = None
        self.free_bytes = 0  # while the disk is full
        self.planned = 0  # how often somebody asked where to save a file

    def survey(self) -> contextlib.AbstractContextManager[FakeStores]:
        return contextlib.nullcontext(self)

    def spec(self, store_id: str) -> StoreSpec:
        known = self.remote.get(store_id)
        if known is None:
            raise Unknown(f"there is no store {store_id}")
        if isinstance(known, TransferError):
            raise known
        return known

    def holding(self, file_id: str) -> list[StoreSpec]:
        return [self.home] if file_id in self.files else []

    def partial(self, file_id: str) -> StoreSpec | None:
        return self.home if file_id in self.partials else None

    def unfinished(self, before: float) -> list[tuple[str, StoreSpec]]:
        return [(file_id, self.home) for file_id, written in sorted(self.partials.items()) if written < before]

    def path(self, file_id: str) -> str | None:
        return f"/home/{file_id}" if file_id in self.files else None

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        self.planned += 1
        if self.trouble is not None:
            raise self.trouble
        return self.home

    def room(self) -> tuple[frozenset[str], int]:
        if isinstance(self.trouble, StoreMissing):
            return frozenset(), 0
        return frozenset({HOME_ID}), self.free_bytes if self.trouble is not None else 2**40


class Recorder:
    """A listener that keeps what it was told, and the history of each transfer's status."""

    def __init__(self) -> None:
        self.statuses: dict[TransferKey, list[Status]] = {}
        self.removed: list[Transfer] = []
        self.progress: dict[TransferKey, list[int]] = {}

    def transfer_added(self, transfer: Transfer) -> None:
        self.statuses.setdefault(transfer.key, []).append(transfer.status)

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        assert before != after
        if before.status is not after.status:
            self.statuses[after.key].append(after.status)

    def transfer_moved(self, transfer: Transfer) -> None:
        self.progress.setdefault(transfer.key, []).append(transfer.progress.bytes_done)

    def transfer_removed(self, transfer: Transfer) -> None:
        self.removed.append(transfer)

    def summary_changed(self) -> None:
        pass


class World:
    """A manager among fakes, and the machine document as CouchDB has it."""

    def __init__(self, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.clock = FakeClock()
        self.time_of_day = datetime(2026, 11, 21, 12, 0)  # noqa: DTZ001 - local time, as the clock starts
        self.library = FakeLibrary()
        self.outbox = FakeOutbox()
        self.ledger = FakeLedger()
        self.stores = FakeStores()
        self.files: dict[str, KnownFile] = {}
        self.machine: dict[str, Any] = {
            **documents.new_machine(MACHINE_ID, "test", time=1.0),
            "_rev": "1-a",
        }
        self.boot()

    def boot(self) -> None:
        """Start the manager, as after a crash: workers are gone, what is durable stays."""
        self.clock._timers.clear()
        self.pool = FakePool()
        self.recorder = Recorder()
        self.manager = TransferManager(
            pool=self.pool,
            library=self.library,
            stores=self.stores,
            outbox=self.outbox,
            ledger=self.ledger,
            call_later=self.clock.call_later,
            settings=self.settings,
            clock=self.clock,
            wall=self.clock,
            chance=lambda: 0.5,
            now=lambda: self.time_of_day + timedelta(seconds=self.clock.now - 1000.0),
        )
        self.manager.subscribe(self.recorder)
        self.library.asked.clear()
        self.manager.start(self.machine)

    def add_file(self, file: FileSpec, *stored: str) -> FileSpec:
        """There is a document for this file."""
        self.files[file.file_id] = KnownFile(file, dict.fromkeys(stored or (STORE_ID,), 1))
        return file

    def answer(self) -> None:
        """Deliver the file documents that were asked for."""
        asked, self.library.asked = list(self.library.asked), []
        none = {file_id: Unknown(f"there is no file {file_id}") for file_id in asked}
        if asked:
            self.manager.files_known(
                none | {file_id: self.files[file_id] for file_id in asked if file_id in self.files}
            )

    def edit_queue(self, *queue: object, **keys: object) -> None:
        """Another device writes the queue, and the feed tells of it."""
        generation = int(self.machine["_rev"].partition("-")[0]) + 1
        self.machine = {**self.machine, **keys, "queue": list(queue), "_rev": f"{generation}-r"}
        self.manager.machine_changed(self.machine)
        self.answer()

    def take_edits(self) -> list[Edit]:
        """CouchDB takes what is in the outbox, and the feed tells of it."""
        pending = self.outbox.pending()
        edits = [one.edit for one in pending]
        generation = int(self.machine["_rev"].partition("-")[0]) + 1
        for edit in edits:
            if isinstance(edit, RecordStored) and edit.file_id in self.files:
                known = self.files[edit.file_id]
                self.files[edit.file_id] = KnownFile(known.file, {**known.stored, edit.store_id: edit.copies})
        queue_edits = merge.queue_edits(edits)
        if queue_edits:
            self.machine = {**merge.apply(self.machine, queue_edits), "_rev": f"{generation}-w"}
        self.outbox.taken([one.seq for one in pending])
        self.manager.edits_taken([one.seq for one in pending], self.machine if queue_edits else None)
        self.answer()
        return edits

    def queue(self, *entries: Entry) -> list[TransferKey]:
        """A local app asks for transfers."""
        keys = self.manager.queue(entries)
        self.answer()
        return keys

    def move(self, key: TransferKey, done: int, *, leaves: int = 0, sent: int | None = None) -> None:
        """The worker reports progress; `sent` is what crossed the wire, where that is not the same."""
        self.manager.report(Moved(self.pool.run_of(key), done, leaves, sent_bytes=done if sent is None else sent))

    def end(self, key: TransferKey, outcome: Outcome = Outcome.FINISHED, failure: Failure | None = None) -> None:
        """The worker lets go."""
        run_id = self.pool.run_of(key)
        job = self.pool.jobs.pop(run_id)
        if outcome is Outcome.FINISHED and isinstance(job, Download):
            self.stores.files.add(job.file.file_id)
        self.manager.report(Ended(run_id, outcome, failure))
        self.answer()

    def status(self, key: TransferKey) -> str:
        """What the transfer is doing, and why."""
        transfer = self.manager.transfers()[key]
        return str(transfer.status) + (f" ({transfer.reason})" if transfer.reason else "")

    def running(self) -> list[TransferKey]:
        """The transfers that workers have."""
        return [job.key for job in self.pool.jobs.values() if isinstance(job, Download | Upload)]

    def discarding(self) -> list[TransferKey]:
        """The transfers whose left-overs are being removed."""
        return [job.key for job in self.pool.jobs.values() if isinstance(job, Discard)]
