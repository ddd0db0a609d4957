"""Long jobs with real workers, FileStores and a journal; the documents are in memory."""

from __future__ import annotations

import base64
import queue
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dmedia_transfer import documents, leaves
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.config import Config
from dmedia_transfer.errors import TransferError, Unknown
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.jobs.control import LongJobs
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import (
    AddFile,
    Advanced,
    Direction,
    Ended,
    FileOutcome,
    FileSpec,
    Logged,
    LongJob,
    RecordStored,
    Report,
    StoreSpec,
    TransferKey,
)
from dmedia_transfer.multipart import BufferBody
from dmedia_transfer.ports import KnownFile
from dmedia_transfer.states import Status
from dmedia_transfer.workers.pool import WorkerPool
from tests.factories import STORE_ID, file_spec

HOME_ID, OTHER_HOME_ID = "H" * 24, "J" * 24


class Papers:
    """File documents in memory, and the outbox that is written into them."""

    def __init__(self, journal: Journal) -> None:
        self.files: dict[str, FileSpec] = {}
        self.stored: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}
        self._journal = journal

    def add(self, file: FileSpec, *stores: str) -> None:
        """There is a document."""
        self.files[file.file_id] = file
        self.stored[file.file_id] = {store_id: {"copies": 1, "time": 1.0} for store_id in stores}

    def copies(self, file_id: str, store_id: str = HOME_ID) -> int:
        """What the document says of a store."""
        return int(self.stored[file_id].get(store_id, {}).get("copies", 0))

    def read_files(
        self, file_ids: Sequence[str], answer: Callable[[Mapping[str, KnownFile | TransferError]], object]
    ) -> None:
        self.flush()
        found: dict[str, KnownFile | TransferError] = {}
        for file_id in file_ids:
            if file_id in self.files:
                stored = {store_id: line["copies"] for store_id, line in self.stored[file_id].items()}
                found[file_id] = KnownFile(self.files[file_id], stored)
            else:
                found[file_id] = Unknown(f"file {file_id} has no document")
        answer(found)

    def list_stored(
        self, store_id: str, after: str, limit: int, answer: Callable[[Sequence[tuple[str, int]]], object]
    ) -> None:
        self.flush()
        having = sorted(file_id for file_id in self.files if self.copies(file_id, store_id) and file_id > after)
        answer([(file_id, self.files[file_id].size) for file_id in having[:limit]])

    def flush(self) -> None:
        """Take what is in the outbox."""
        for pending in self._journal.outbox.pending():
            match pending.edit:
                case AddFile() as file:
                    digests = base64.b64decode(file.leaf_digests)
                    leaves.check_leaf_digests(file.file_id, file.size, digests)
                    self.files.setdefault(file.file_id, FileSpec(file.file_id, file.size, digests, ext=file.ext))
                    self.names.setdefault(file.file_id, file.name)
                    self._record(file.record)
                case RecordStored() as record:
                    self._record(record)
                case other:
                    raise AssertionError(f"no long job makes {other}")
            self._journal.outbox.taken([pending.seq])

    def _record(self, record: RecordStored) -> None:
        line: dict[str, Any] = {"copies": record.copies, "time": record.time}
        if record.corrupt is not None:
            line["corrupt"] = list(record.corrupt)
        before = self.stored.setdefault(record.file_id, {})
        self.stored[record.file_id] = documents.merge_stored([before, {record.store_id: line}])


class LongBench:
    """A machine with two FileStores; its daemon can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = Config(state_dir=folder / "state", runtime_dir=folder, worker_idle_s=60.0, log_level="DEBUG")
        self.filestores = [self._home(HOME_ID, "home"), self._home(OTHER_HOME_ID, "other")]
        self.lines: list[str] = []  # what workers logged, over all lives
        self.healed: list[str] = []
        self.boot()

    def _home(self, store_id: str, name: str) -> FileStore:
        FileStore.create(self.folder / name, store_id)
        return FileStore(store_id, self.folder / name, floor_bytes=0)

    def boot(self) -> None:
        """Start."""
        self.reports: queue.Queue[Report] = queue.Queue()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.journal = Journal(self.config.state_dir / "journal.sqlite", owner=True)
        papers = getattr(self, "papers", None)
        self.papers = Papers(self.journal)
        if papers is not None:
            self.papers.files, self.papers.stored, self.papers.names = papers.files, papers.stored, papers.names
        self.pool = WorkerPool(
            config=self.config, on_report=self.reports.put, call_soon=lambda call, *args: call(*args)
        )
        self.jobs = LongJobs(
            pool=self.pool,
            inquiries=self.papers,
            stores=self,
            records=self.journal.jobs,
            heal=self._heal,
            download_bps=lambda: None,
            call_later=self._call_later,
            stall_s=20.0,
            chance=lambda: 0.0,  # what failed is tried again at once
        )
        self.jobs.start()

    def kill(self) -> None:
        """End daemon and workers at once."""
        self.pool.shutdown(0.0)
        self.journal.close()

    def stop(self) -> None:
        """End as a daemon does."""
        self.jobs.shutdown()
        self.pool.shutdown(5.0)
        self._take()
        self.journal.close()

    # `jobs.control.Stores`

    def spec(self, store_id: str) -> StoreSpec:
        for home in self.filestores:
            if home.store_id == store_id:
                home.check()
                return home.spec
        if store_id == STORE_ID:
            return StoreSpec(STORE_ID, "memory", {"folder": "store"})
        raise Unknown(f"there is no store {store_id}")

    def homes(self) -> list[StoreSpec]:
        return [home.spec for home in self.filestores]

    # What a test does

    @property
    def home(self) -> FileStore:
        """The first FileStore."""
        return self.filestores[0]

    def put_home(self, data: bytes, *, documented: bool = True, home: int = 0) -> FileSpec:
        """A file that a FileStore has."""
        file = file_spec(data)
        path = self.filestores[home].path(file.file_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if documented:
            self.papers.add(file, self.filestores[home].store_id)
        return file

    def put_object(self, data: bytes, *, instead: bytes | None = None) -> FileSpec:
        """A file that the remote store has, or has something else instead of."""
        file = file_spec(data)
        MemoryBackend(self.spec(STORE_ID)).put(file, BufferBody(instead or data), lambda count: None)
        self.papers.add(file, STORE_ID)
        return file

    def damage(self, file: FileSpec, offset: int, *, home: int = 0) -> None:
        """Turn a byte of a copy."""
        path = self.filestores[home].path(file.file_id)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    def wait(self, job_id: str, until: Callable[[LongJob], bool] | None = None, timeout_s: float = 60.0) -> LongJob:
        """Let things happen until a job has ended, or is as wanted."""
        wanted = until or (lambda job: bool(job.ended))
        deadline = time.monotonic() + timeout_s
        while not wanted(job := self.jobs.jobs()[job_id]):
            assert time.monotonic() < deadline, f"{job}\n" + "\n".join(self.lines[-30:])
            self._take(0.05)
        return job

    def outcomes(self, job_id: str) -> dict[str, int]:
        """How many files came to what."""
        return {str(outcome): count for outcome, count in self.jobs.jobs()[job_id].outcomes.items()}

    def settled(self) -> set[str]:
        """The files (paths or IDs) of which the journal says that they are done."""
        rows = sqlite3.connect(self.journal.path).execute("SELECT item FROM job_files WHERE outcome != ''")
        return {bytes(item).decode() for (item,) in rows}

    def _heal(self, file_id: str) -> TransferKey:
        self.healed.append(file_id)
        return TransferKey(Direction.DOWNLOAD, file_id, "")

    def _call_later(self, delay_s: float, function: Callable[[], None]) -> Callable[[], None]:
        timer = (time.monotonic() + delay_s, function)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer) if timer in self.timers else None

    def _take(self, wait_s: float = 0.0) -> None:
        for timer in [one for one in self.timers if one[0] <= time.monotonic()]:
            self.timers.remove(timer)
            timer[1]()
        try:
            while True:
                report = self.reports.get(timeout=wait_s) if wait_s else self.reports.get_nowait()
                wait_s = 0.0
                if isinstance(report, Logged):
                    self.lines.append(report.message)
                elif isinstance(report, Advanced | Ended):
                    self.jobs.report(report)
        except queue.Empty:
            pass


def ended_as(status: Status) -> Callable[[LongJob], bool]:
    """For `LongBench.wait`."""
    return lambda job: job.status is status


__all__ = ["HOME_ID", "OTHER_HOME_ID", "FileOutcome", "LongBench", "Papers", "ended_as"]
