"""ImportRun: a worker imports what the journal lists, file by file.

A file is copied and hashed, published, and settled in the journal together with the edit that brings it into the
library. A kill in between has the copy under way lost, or a published file hashed once more; nothing that is settled.
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from dmedia_transfer import faults
from dmedia_transfer.errors import Interrupted, StoreMissing, TransferError, Waiting
from dmedia_transfer.jobs.files import Account, FileRecords, OpenFile, shown_path
from dmedia_transfer.jobs.importing import Copied, Progress, facts
from dmedia_transfer.model import AddFile, FileOutcome, ImportFiles, JobProblem

log = logging.getLogger(__name__)

PAGE: Final = 100


class Copy(Copied, Protocol):
    """A file that was copied."""

    @property
    def existed(self) -> bool:
        """It was here already, and the copy was thrown away."""


class Destination(Protocol):
    """A FileStore that files are copied into."""

    @property
    def store_id(self) -> str: ...

    def free_bytes(self) -> int:
        """What can still be written; raises StoreMissing if it is not there."""

    def has(self, file_id: str) -> bool:
        """Whether the file is there, complete."""

    def import_file(
        self,
        source: Path,
        *,
        progress: Progress,
        cancelled: Callable[[], bool],
        is_elsewhere: Callable[[str], bool],
    ) -> Copy:
        """Copy or reflink a file, and throw the copy away if its content is elsewhere already."""


class ImportRun:
    """One run of an import. `run` is called once."""

    def __init__(
        self,
        job: ImportFiles,
        *,
        records: FileRecords,
        destinations: Sequence[Destination],
        others: Sequence[Destination],
        account: Account,
        check: Callable[[], None],
        cancelled: Callable[[], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is done yet.

        Args:
            job: What is imported.
            records: The files that are listed for it.
            destinations: Where to; for each file the one with the most room.
            others: What these have need not be copied.
            account: Counts.
            check: Raises `Interrupted` when it has to let go; asked between files.
            cancelled: Whether it has to let go; asked between leaves.
            wall: Unix seconds.
        """
        self._job = job
        self._records = records
        self._destinations = destinations
        self._others = others
        self._account = account
        self._check = check
        self._cancelled = cancelled
        self._wall = wall

    def run(self) -> None:
        """Import all that is not settled yet.

        Raises:
            Interrupted: A pause or a stop.
            StoreMissing: No FileStore is there, or the folder that is imported is not there any more.
            DiskFull: No FileStore has room for the next file.
        """
        while files := self._records.open_files(self._job.key.id, limit=PAGE):
            for file in files:
                self._check()
                self._one(file)

    def _one(self, file: OpenFile) -> None:
        path = Path(os.fsdecode(file.item))
        try:
            elsewhere: list[Destination] = []

            def is_elsewhere(file_id: str) -> bool:
                elsewhere.extend(one for one in self._others if one.has(file_id))
                return bool(elsewhere)

            store = self._emptiest()
            copied = store.import_file(
                path,
                progress=lambda done, total: self._account.at(min(done, file.size)),
                cancelled=self._cancelled,
                is_elsewhere=is_elsewhere,
            )
        except (Interrupted, Waiting):
            raise
        except TransferError as error:
            if error.transient:
                raise
            self._is_there(path)
            self._failed(file, path, error)
            return
        faults.point("import.published")
        self._settle(file, path, elsewhere[0] if elsewhere else store, copied)

    def _settle(self, file: OpenFile, path: Path, store: Destination, copied: Copy) -> None:
        edit = AddFile(
            copied.file_id,
            store.store_id,
            copied.size,
            base64.b64encode(copied.leaf_digests).decode("ascii"),
            round(self._wall(), 3),
            **facts(path.name),
        )
        outcome = FileOutcome.KNOWN if copied.existed else FileOutcome.IMPORTED
        self._records.settle(self._job.key.id, file.item, outcome, edits=[edit])
        faults.point("import.settled")
        log.info("%s: %s is file %s (%s)", self._job.key, shown_path(str(path)), copied.file_id, outcome)
        self._account.settled(outcome, file.size)

    def _failed(self, file: OpenFile, path: Path, error: TransferError) -> None:
        name = shown_path(str(path))
        sentence = shown_path(str(error))
        message = sentence if name in sentence else f"{name}: {sentence}"
        log.warning("%s: %s", self._job.key, message)
        problem = JobProblem(FileOutcome.FAILED, message, path=name, time=round(self._wall(), 3))
        self._records.settle(self._job.key.id, file.item, FileOutcome.FAILED, problem=problem)
        self._account.settled(FileOutcome.FAILED, file.size)

    def _emptiest(self) -> Destination:
        free: list[tuple[int, Destination]] = []
        absent: list[TransferError] = []
        for store in self._destinations:
            try:
                free.append((store.free_bytes(), store))
            except TransferError as error:
                absent.append(error)
        if not free:
            raise StoreMissing("; ".join(map(str, absent)) or "this machine has no FileStore")
        return max(free, key=lambda pair: pair[0])[1]

    def _is_there(self, path: Path) -> None:
        """Thousands of files of a drive that was pulled out have not failed: they wait for it."""
        for root in self._job.paths:
            if path != Path(root) and path.is_relative_to(root) and not Path(root).exists():
                raise StoreMissing(f"{root} is not there any more: was its drive pulled out?")
