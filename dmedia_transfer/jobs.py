"""The other long jobs: import.

Files are copied into a FileStore one after the other, and each is in the library, with its document, before the next
begins: a kill loses at most the copy that was under way. One that fails does not stop the others.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from dmedia_transfer import documents
from dmedia_transfer.errors import Conflict, Interrupted, InvalidInput, TransferError
from dmedia_transfer.model import RecordStored

log = logging.getLogger(__name__)

ORIGIN_USER: Final = "user"  # somebody put it into the library, as against a camera or a download
_EXT: Final = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_MIME: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_NAME_MAX: Final = 4096

Progress = Callable[[int, int], None]
"""Called with the bytes done and the total of the file that is being imported."""


class Copied(Protocol):
    """A file that was copied into a FileStore, and hashed on the way."""

    @property
    def file_id(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def leaf_digests(self) -> bytes: ...


class Destination(Protocol):
    """What is asked of the FileStore that files are copied into."""

    @property
    def store_id(self) -> str: ...

    def import_file(self, source: Path, *, progress: Progress, cancelled: Callable[[], bool]) -> Copied:
        """Copy or reflink a file; what is hashed is what was copied."""


class Files(Protocol):
    """What is asked of the library's documents."""

    def get(self, document_id: str) -> Mapping[str, Any] | None:
        """A document; None if there is none."""

    def put(self, raw: Mapping[str, Any]) -> str:
        """Write a new document, or raise Conflict if there is one."""

    def record_stored(self, records: list[RecordStored]) -> Mapping[str, TransferError]:
        """Write into file documents what is stored where; what could not be written, and why."""


class Outcome(StrEnum):
    """What became of a path."""

    IMPORTED = "imported"
    KNOWN = "known"  # the library had a file with this content; it is in the FileStore now, too
    SKIPPED = "skipped"  # it is nothing that can be imported
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one path."""

    path: Path
    outcome: Outcome
    file_id: str = ""
    size: int = 0  # bytes
    reason: str = ""  # why it was skipped, or has failed


class Importer:
    """Imports files, and whole folders, into one FileStore."""

    def __init__(
        self,
        *,
        destination: Callable[[int], Destination],
        files: Files,
        is_filestore: Callable[[Path], bool] = lambda folder: False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is done yet.

        Args:
            destination: The FileStore for a file of so many bytes.
            files: The library's documents.
            is_filestore: Whether a folder is a FileStore, whose files are in the library already.
            wall: The time of day, Unix seconds.
        """
        self._destination = destination
        self._files = files
        self._is_filestore = is_filestore
        self._wall = wall

    def run(
        self,
        paths: Iterable[Path],
        *,
        progress: Callable[[Path, int, int], None] = lambda path, done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Imported]:
        """Import all files in `paths`, folders with all that is in them; tells of each as it is done.

        Args:
            paths: Files and folders. Links are followed if they are named here, and not within folders.
            progress: Called with the file, and the bytes done and in all.
            cancelled: Asked often; the file that is being copied then leaves nothing behind.

        Raises:
            Interrupted: `cancelled` said so.
        """
        for path in paths:
            for each in self._within(path):
                if isinstance(each, Imported):
                    yield each
                    continue
                try:
                    yield self._one(each, progress, cancelled)
                except Interrupted:
                    raise
                except TransferError as error:
                    log.debug("import of %s failed", each, exc_info=True)
                    yield Imported(each, Outcome.FAILED, reason=str(error))

    def _within(self, path: Path) -> Iterator[Path | Imported]:
        """The files that a path means, in order, and what cannot be read."""
        if not path.is_dir():
            yield path
            return
        unreadable: list[OSError] = []
        for folder, folders, files in os.walk(path, onerror=unreadable.append):
            here = Path(folder)
            yield from (_not_readable(error) for error in unreadable)
            unreadable.clear()
            if self._is_filestore(here):
                folders.clear()
                yield Imported(here, Outcome.SKIPPED, reason="it is a FileStore")
                continue
            folders.sort()
            for name in sorted(files):
                file = here / name
                if file.is_symlink():
                    yield Imported(file, Outcome.SKIPPED, reason="it is a symbolic link")
                elif not file.is_file():
                    yield Imported(file, Outcome.SKIPPED, reason="it is not a file")
                else:
                    yield file
        yield from (_not_readable(error) for error in unreadable)

    def _one(self, path: Path, progress: Callable[[Path, int, int], None], cancelled: Callable[[], bool]) -> Imported:
        try:
            status = path.stat()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be imported: {error.strerror}") from None
        if not status.st_size and path.is_file():
            return Imported(path, Outcome.SKIPPED, reason="it is empty")
        store = self._destination(status.st_size)
        copied = store.import_file(path, progress=lambda done, total: progress(path, done, total), cancelled=cancelled)
        known = self._enter(path, store.store_id, copied)
        return Imported(path, Outcome.KNOWN if known else Outcome.IMPORTED, copied.file_id, copied.size)

    def _enter(self, path: Path, store_id: str, copied: Copied) -> bool:
        """Bring a copied file into the library; True if the library knew its content already."""
        now = round(self._wall(), 3)
        if self._files.get(copied.file_id) is None:
            try:
                self._files.put(
                    documents.new_file(
                        copied.file_id,
                        copied.size,
                        copied.leaf_digests,
                        time=now,
                        stored={store_id: {"copies": 1, "time": now}},
                        **facts(path.name),
                    )
                )
            except Conflict:
                log.debug("file %s: another program has just written its document", copied.file_id)
            else:
                return False
        record = RecordStored(copied.file_id, store_id, copies=1, time=now)
        problem = self._files.record_stored([record]).get(copied.file_id)
        if problem is not None:
            raise problem
        return True


def facts(name: str) -> dict[str, str]:
    """What a document says of a file of this name: `name`, `ext`, `mime` and `origin`, as far as they can be told."""
    # A name that is not UTF-8 is not a text that a document could have.
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:_NAME_MAX]
    ext = Path(text).suffix.removeprefix(".").lower()
    mime = mimetypes.guess_type(text)[0] or ""
    return {
        "name": text,
        "ext": ext if _EXT.fullmatch(ext) else "",
        "mime": mime if _MIME.fullmatch(mime) else "",
        "origin": ORIGIN_USER,
    }


def _not_readable(error: OSError) -> Imported:
    path = Path(error.filename)
    return Imported(path, Outcome.FAILED, reason=f"{path} cannot be read: {error.strerror}")
