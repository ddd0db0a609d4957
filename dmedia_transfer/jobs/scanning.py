"""Scanning: what a long job has to do, listed in the journal before it is begun.

Doing it again adds what is new and leaves the rest as it is, so a kill in the middle costs another look.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from dmedia_transfer.jobs.files import Account, FileRecords, shown_path
from dmedia_transfer.jobs.walking import walk
from dmedia_transfer.model import FileOutcome, JobProblem

PAGE: Final = 500

_Row = tuple[bytes, int, JobProblem | None]


class Found(Protocol):
    """A file that lies in a FileStore."""

    @property
    def file_id(self) -> str: ...

    @property
    def size(self) -> int: ...


def scan_folders(
    job_id: str,
    paths: Sequence[str],
    *,
    records: FileRecords,
    account: Account,
    check: Callable[[], None],
    is_filestore: Callable[[Path], bool],
    wall: Callable[[], float] = time.time,
) -> None:
    """List the files that an import means; `check` raises when it has to let go."""
    _list(job_id, _in_folders(paths, is_filestore, wall), records, account, check)


def scan_store(
    job_id: str, files: Iterable[Found], *, records: FileRecords, account: Account, check: Callable[[], None]
) -> None:
    """List the files that a FileStore has."""
    _list(job_id, ((each.file_id.encode(), each.size, None) for each in files), records, account, check)


def _list(job_id: str, rows: Iterator[_Row], records: FileRecords, account: Account, check: Callable[[], None]) -> None:
    while page := list(itertools.islice(rows, PAGE)):
        check()
        records.list_files(job_id, page)
        account.listed(page)


def _in_folders(
    paths: Sequence[str], is_filestore: Callable[[Path], bool], wall: Callable[[], float]
) -> Iterator[_Row]:
    for each in itertools.chain.from_iterable(walk(Path(path), is_filestore=is_filestore) for path in paths):
        if isinstance(each, Path):
            path, outcome, reason = each, FileOutcome.SKIPPED, "it is empty"
            try:
                status = path.stat()
            except OSError as error:
                status, outcome, reason = None, FileOutcome.FAILED, f"it cannot be read: {error.strerror}"
            if status is not None and status.st_size:
                yield os.fsencode(path), status.st_size, None
                continue
        else:
            path, outcome, reason = each.path, each.outcome, each.reason
        name = shown_path(str(path))
        message = reason if name in reason else f"{name} is left out: {reason}"
        yield os.fsencode(path), 0, JobProblem(outcome, message, path=name, time=round(wall(), 3))
