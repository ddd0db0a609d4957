"""Import: files and folders into FileStores, and into the library.

Files are copied into a FileStore batch by batch, and each batch is in the library, with its documents, before the one
after the next begins. One file that fails does not stop the others.
"""

from __future__ import annotations

import base64
import logging
import mimetypes
import re
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol

from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import Interrupted, TransferError
from dmedia_transfer.jobs.copying import Copy, Staged, copied, in_batches
from dmedia_transfer.jobs.walking import Imported, walk
from dmedia_transfer.model import AddFile, FileOutcome

log = logging.getLogger(__name__)

ORIGIN_USER: Final = "user"  # somebody put it into the library, as against a camera or a download
_EXT: Final = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_MIME: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_NAME_MAX: Final = 4096

Progress = Callable[[Path, int, int], None]
"""Called with a file, its bytes done and its bytes in all."""


class Destination(Protocol):
    """What is asked of the FileStore that files are copied into."""

    @property
    def store_id(self) -> str: ...

    def stage(
        self, sources: Sequence[Path], *, buffers: LeafBuffers, progress: Progress, cancelled: Callable[[], bool]
    ) -> Staged:
        """Copy or reflink files; what is hashed is what was copied."""


class Files(Protocol):
    """What is asked of the library's documents."""

    def get_many(self, ids: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        """Those of the documents that are there."""

    def add_files(self, files: Sequence[AddFile]) -> Mapping[str, TransferError]:
        """Write documents of new files; where there is one, only what is stored where; what could not be written."""


class Importer:
    """Imports files, and whole folders, into one FileStore."""

    def __init__(
        self,
        *,
        destination: Callable[[int], Destination],
        files: Callable[[], Files],
        is_filestore: Callable[[Path], bool] = lambda folder: False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is done yet.

        Args:
            destination: The FileStore for so many bytes.
            files: The library's documents. They may come later, or not at all and raise TransferError: nothing is
                published before they are there.
            is_filestore: Whether a folder is a FileStore, whose files are in the library already.
            wall: The time of day, Unix seconds.
        """
        self._destination = destination
        self._files = files
        self._is_filestore = is_filestore
        self._wall = wall
        self._buffers = LeafBuffers(0)

    def run(
        self,
        paths: Iterable[Path],
        *,
        progress: Callable[[Path, int, int], None] = lambda path, done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generator[Imported, None, None]:
        """Import all files in `paths`, folders with all that is in them; tells of each as it is done.

        Args:
            paths: Files and folders. Links are followed if they are named here, and not within folders.
            progress: Called with the file, and the bytes done and in all; on another thread.
            cancelled: Asked often, on another thread; a file that is being copied then leaves nothing behind.

        Raises:
            Interrupted: `cancelled` said so.
            TransferError: There is no way to the library's documents.
        """
        sizes: dict[Path, int] = {}
        found = (self._looked_at(each, sizes) for path in paths for each in walk(path, is_filestore=self._is_filestore))
        stores: dict[Path, Destination] = {}

        def stage(batch: list[Path | Imported], abandoned: Callable[[], bool] = lambda: False) -> Staged:
            files = [each for each in batch if isinstance(each, Path)]
            try:
                store = self._destination(sum(sizes[file] for file in files))
                stores.update(dict.fromkeys(files, store))
                until = lambda: cancelled() or abandoned()  # noqa: E731
                staged: Staged = store.stage(files, buffers=self._buffers, progress=progress, cancelled=until)
            except Interrupted:
                raise
            except TransferError as error:
                return _Refused(dict.fromkeys(files, error))
            try:
                self._files()
            except BaseException:
                staged.close()
                raise
            return staged

        with closing(copied(in_batches(found, lambda each: sizes.get(each, 0)), stage)) as done:  # type: ignore[arg-type]  # a key or not
            for batch, begun in done:
                outcomes = dict(begun)
                # A store that is full is full for what comes then, but perhaps not for all of it.
                while rest := [each for each in batch if isinstance(each, Path) and each not in outcomes]:
                    if any(isinstance(outcome, Interrupted) for outcome in outcomes.values()):
                        break
                    with closing(stage([*rest])) as staged:
                        outcomes |= staged.publish()
                yield from self._entered(batch, outcomes, stores)

    def _looked_at(self, each: Path | Imported, sizes: dict[Path, int]) -> Path | Imported:
        if isinstance(each, Imported):
            return each
        try:
            status = each.stat()
        except OSError as error:
            return Imported(each, FileOutcome.FAILED, reason=f"{each} cannot be imported: {error.strerror}")
        if not status.st_size and stat.S_ISREG(status.st_mode):
            return Imported(each, FileOutcome.SKIPPED, reason="it is empty")
        sizes[each] = status.st_size
        return each

    def _entered(
        self,
        batch: Sequence[Path | Imported],
        outcomes: Mapping[Path, Copy | TransferError],
        stores: Mapping[Path, Destination],
    ) -> Iterator[Imported]:
        """Bring what was copied into the library; tells of each file of the batch, in order."""
        copies = {path: outcome for path, outcome in outcomes.items() if not isinstance(outcome, TransferError)}
        problems: Mapping[str, TransferError]
        files = self._files()
        ids = [copy.file_id for copy in copies.values()]
        try:
            known = set(files.get_many(ids)) if ids else set()
            edits = [self._edit(path, copy, stores[path].store_id) for path, copy in copies.items()]
            problems = files.add_files(edits) if edits else {}
        except TransferError as error:
            problems, known = dict.fromkeys(ids, error), set()
        for each in batch:
            if isinstance(each, Imported):
                yield each
                continue
            outcome = outcomes.get(each)
            if outcome is None or isinstance(outcome, Interrupted):
                raise Interrupted("the import was cancelled")
            problem = outcome if isinstance(outcome, TransferError) else problems.get(outcome.file_id)
            if problem is not None:
                log.debug("import of %s failed: %r", each, problem)
                yield Imported(each, FileOutcome.FAILED, reason=str(problem))
            elif not isinstance(outcome, TransferError):
                result = FileOutcome.KNOWN if outcome.file_id in known else FileOutcome.IMPORTED
                known.add(outcome.file_id)
                yield Imported(each, result, outcome.file_id, outcome.size)

    def _edit(self, path: Path, copy: Copy, store_id: str) -> AddFile:
        digests = base64.b64encode(copy.leaf_digests).decode("ascii")
        return AddFile(copy.file_id, store_id, copy.size, digests, round(self._wall(), 3), **facts(path.name))


class _Refused:
    """Files that no store took."""

    def __init__(self, outcomes: Mapping[Path, TransferError]) -> None:
        self._outcomes = outcomes

    def publish(self) -> Mapping[Path, TransferError]:
        return self._outcomes

    def close(self) -> None:
        """Nothing is open."""


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
