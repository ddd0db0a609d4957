"""What a run of a long job goes by: the files that the journal lists for it, and the account of what was done."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dmedia_transfer.model import Advanced, FileEdit, FileOutcome, JobProblem


class OpenFile(Protocol):
    """A file that is listed and not settled yet."""

    @property
    def item(self) -> bytes:
        """A path, or a file ID."""

    @property
    def size(self) -> int:
        """Bytes, as it was listed."""

    @property
    def so_far(self) -> bytes:
        """What `keep` was given last; else empty."""


class FileRecords(Protocol):
    """The files of a job: the journal's table `job_files`."""

    def list_files(self, job_id: str, files: Iterable[tuple[bytes, int, JobProblem | None]]) -> None:
        """These are to be done (item, size), or cannot be; those that are listed already stay as they are."""

    def open_files(self, job_id: str, *, limit: int, after: bytes = b"") -> Sequence[OpenFile]:
        """The next ones that are not settled, in order; of those after an item."""

    def keep(self, job_id: str, item: bytes, so_far: bytes) -> None:
        """A file is left in the middle."""

    def together(self) -> AbstractContextManager[object]:
        """What is settled within the block is on record when it ends, or none of it."""

    def settle(
        self,
        job_id: str,
        item: bytes,
        outcome: FileOutcome,
        *,
        size: int = 0,
        problem: JobProblem | None = None,
        edits: Sequence[FileEdit] = (),
    ) -> None:
        """A file is done, and this is what it means for the documents; all of it or nothing."""


class Account:
    """Counts what one run does, and tells of it now and then. Of an import, two threads do so."""

    def __init__(
        self,
        run_id: int,
        report: Callable[[Advanced], None],
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is called at most every `interval_s` seconds, and at the end."""
        self._run_id = run_id
        self._report = report
        self._interval_s = interval_s
        self._clock = clock
        self._next = 0.0
        self._outcomes: Counter[FileOutcome] = Counter()
        self._settled_bytes = 0
        self._in_work = 0  # bytes of the file in work
        self._bytes_total = 0
        self._files_total = 0
        self._lock = threading.Lock()

    def listed(self, files: Sequence[tuple[bytes, int, JobProblem | None]]) -> None:
        """So many more are to be done."""
        with self._lock:
            self._files_total += len(files)
            self._bytes_total += sum(size for _, size, _ in files)
            self._tell()

    def at(self, bytes_done: int) -> None:
        """So much of the file in work is done."""
        with self._lock:
            self._in_work = bytes_done
            self._tell()

    def settled(self, outcome: FileOutcome, size: int) -> None:
        """The file in work is done; it counts with the size with which it was listed."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._settled_bytes += size
            self._in_work = 0
            self._tell()

    def last(self) -> None:
        """Tell how it is now, due or not."""
        with self._lock:
            self._next = 0.0
            self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval_s
        done = self._settled_bytes + self._in_work
        outcomes = tuple(sorted(self._outcomes.items()))
        self._report(Advanced(self._run_id, done, outcomes, self._bytes_total, self._files_total))


def shown_path(path: str) -> str:
    """A path as people and documents see it: what in it is no text is replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
