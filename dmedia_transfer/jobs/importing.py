"""Import: files and folders into FileStores, and into the library.

Files are copied into a FileStore one after the other, and each is in the library, with its document, before the next
begins: a kill loses at most the copy that was under way. One that fails does not stop the others.
"""

from __future__ import annotations

import logging
import mimetypes
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from dmedia_transfer import documents
from dmedia_transfer.errors import Conflict, Interrupted, InvalidInput, TransferError
from dmedia_transfer.jobs.walking import Imported, walk
from dmedia_transfer.model import FileOutcome, RecordStored

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
            for each in walk(path, is_filestore=self._is_filestore):
                if isinstance(each, Imported):
                    yield each
                    continue
                try:
                    yield self._one(each, progress, cancelled)
                except Interrupted:
                    raise
                except TransferError as error:
                    log.debug("import of %s failed", each, exc_info=True)
                    yield Imported(each, FileOutcome.FAILED, reason=str(error))

    def _one(self, path: Path, progress: Callable[[Path, int, int], None], cancelled: Callable[[], bool]) -> Imported:
        try:
            status = path.stat()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be imported: {error.strerror}") from None
        if not status.st_size and path.is_file():
            return Imported(path, FileOutcome.SKIPPED, reason="it is empty")
        store = self._destination(status.st_size)
        copied = store.import_file(path, progress=lambda done, total: progress(path, done, total), cancelled=cancelled)
        known = self._enter(path, store.store_id, copied)
        return Imported(path, FileOutcome.KNOWN if known else FileOutcome.IMPORTED, copied.file_id, copied.size)

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
