"""ImportRun: a worker imports what the journal lists, file by file.

Files are copied and hashed, published, and settled in the journal together with the edits that bring them into the
library, batch by batch. A kill in between has the copies under way lost, or published files hashed once more; nothing
that is settled.
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from dmedia_transfer import faults
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import Interrupted, StoreMissing, TransferError, Waiting
from dmedia_transfer.jobs.copying import Copy, Outcomes, Staged, copied, in_batches
from dmedia_transfer.jobs.files import Account, FileRecords, OpenFile, shown_path
from dmedia_transfer.jobs.importing import Progress, facts
from dmedia_transfer.model import AddFile, FileOutcome, ImportFiles, JobProblem

log = logging.getLogger(__name__)

PAGE: Final = 1000


class Destination(Protocol):
    """A FileStore that files are copied into."""

    @property
    def store_id(self) -> str: ...

    def free_bytes(self) -> int:
        """What can still be written; raises StoreMissing if it is not there."""

    def has(self, file_id: str) -> bool:
        """Whether the file is there, complete."""

    def stage(
        self,
        sources: Sequence[Path],
        *,
        buffers: LeafBuffers,
        progress: Progress,
        cancelled: Callable[[], bool],
        is_elsewhere: Callable[[str], bool],
    ) -> Staged:
        """Copy or reflink files, and throw a copy away if its content is elsewhere already."""


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
        buffers: LeafBuffers,
        check: Callable[[], None],
        cancelled: Callable[[], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is done yet.

        Args:
            job: What is imported.
            records: The files that are listed for it.
            destinations: Where to; for each batch the one with the most room.
            others: What these have need not be copied.
            account: Counts.
            buffers: Memory for leaves.
            check: Raises `Interrupted` when it has to let go; asked between batches.
            cancelled: Whether it has to let go; asked between leaves.
            wall: Unix seconds.
        """
        self._job = job
        self._records = records
        self._destinations = destinations
        self._others = others
        self._account = account
        self._buffers = buffers
        self._check = check
        self._cancelled = cancelled
        self._wall = wall
        self._homes: dict[Path, Destination] = {}  # where each file was copied to
        self._stop: TransferError | None = None  # why no more is begun

    def run(self) -> None:
        """Import all that is not settled yet.

        Raises:
            Interrupted: A pause or a stop.
            StoreMissing: No FileStore is there, or the folder that is imported is not there any more.
            DiskFull: No FileStore has room for the next file.
        """
        with closing(copied(in_batches(self._open_files(), lambda file: file.size), self._stage)) as done:
            for batch, outcomes in done:
                self._settle(batch, outcomes)
        self._go_on()

    def _open_files(self) -> Iterator[OpenFile]:
        """All that are not settled; each once, though it is settled only after the next ones were asked for."""
        last = b""
        while files := self._records.open_files(self._job.key.id, limit=PAGE, after=last):
            yield from files
            last = files[-1].item

    def _go_on(self) -> None:
        """Raise what has stopped it: only here, so that all that was published before is settled."""
        if self._stop is not None:
            raise self._stop

    def _stage(self, batch: Sequence[OpenFile], abandoned: Callable[[], bool]) -> Staged:
        """Copy a batch; on a thread of its own, while the batch before is published and settled."""
        self._go_on()
        self._check()
        store = self._emptiest()
        sizes = {_path(file): file.size for file in batch}
        self._homes.update(dict.fromkeys(sizes, store))
        done: dict[Path, int] = {}

        def progress(path: Path, bytes_done: int, total: int) -> None:
            done[path] = min(bytes_done, sizes[path])
            self._account.at(sum(done.values()))

        return store.stage(
            list(sizes),
            buffers=self._buffers,
            progress=progress,
            cancelled=lambda: self._cancelled() or abandoned(),
            is_elsewhere=lambda file_id: self._having(file_id) is not None,
        )

    def _settle(self, batch: Sequence[OpenFile], outcomes: Outcomes) -> None:
        """What became of a batch is on record, all of it at once."""
        faults.point("import.published")
        settled = [each for file in batch if (each := self._settled(file, outcomes.get(_path(file)))) is not None]
        if not settled:
            return
        with self._records.together():
            for each in settled:
                self._records.settle(
                    self._job.key.id, each.file.item, each.outcome, problem=each.problem, edits=each.edits
                )
        faults.point("import.settled")
        for each in settled:
            log.log(logging.WARNING if each.problem else logging.INFO, "%s: %s", self._job.key, each.message)
            self._account.settled(each.outcome, each.file.size)

    def _settled(self, file: OpenFile, outcome: Copy | TransferError | None) -> _Settled | None:
        """What there is to record of a file; nothing, if it was not begun or has to be begun again."""
        path = _path(file)
        if outcome is None:
            return None
        if not isinstance(outcome, TransferError):
            return self._imported(file, path, outcome)
        try:
            if isinstance(outcome, Interrupted | Waiting) or outcome.transient:
                raise outcome
            self._is_there(path)
        except TransferError as stop:
            self._stop = self._stop or stop
            return None
        name, sentence = shown_path(str(path)), shown_path(str(outcome))
        message = sentence if name in sentence else f"{name}: {sentence}"
        problem = JobProblem(FileOutcome.FAILED, message, path=name, time=round(self._wall(), 3))
        return _Settled(file, FileOutcome.FAILED, message, problem=problem)

    def _imported(self, file: OpenFile, path: Path, copy: Copy) -> _Settled:
        store = self._homes[path]
        if copy.existed and not store.has(copy.file_id):
            store = self._having(copy.file_id) or store
        edit = AddFile(
            copy.file_id,
            store.store_id,
            copy.size,
            base64.b64encode(copy.leaf_digests).decode("ascii"),
            round(self._wall(), 3),
            **facts(path.name),
        )
        outcome = FileOutcome.KNOWN if copy.existed else FileOutcome.IMPORTED
        message = f"{shown_path(str(path))} is file {copy.file_id} ({outcome})"
        return _Settled(file, outcome, message, edits=(edit,))

    def _having(self, file_id: str) -> Destination | None:
        return next((one for one in self._others if one.has(file_id)), None)

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


@dataclass(frozen=True, slots=True)
class _Settled:
    """What is recorded of a file."""

    file: OpenFile
    outcome: FileOutcome
    message: str  # for the log
    problem: JobProblem | None = None  # for people
    edits: tuple[AddFile, ...] = ()  # for the documents


def _path(file: OpenFile) -> Path:
    return Path(os.fsdecode(file.item))
