"""Library: the file documents, read from the database when a peer wants to send a file. Blocking: called in threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.errors import TransferError, Unknown
from dmedia_transfer.model import FileSpec

KEPT: Final = 64  # files that are being sent; a document never changes in what is asked for here

ReadFiles = Callable[[Iterable[str]], Mapping[str, dict[str, Any] | TransferError]]


class Library:
    """What the library knows of files. Any thread may ask."""

    def __init__(self, read: ReadFiles) -> None:
        """`read` reads file documents with their leaf digests: `couch.database.Database.get_with_leaves`."""
        self._read = read
        self._lock = threading.Lock()
        self._specs: OrderedDict[str, FileSpec] = OrderedDict()

    def file(self, file_id: str) -> FileSpec:
        """A file, its leaf digests checked against its ID.

        Raises:
            Unknown: The library has no such file, or its document has not come here yet.
            InvalidDocument: Its document cannot be believed.
            DatabaseUnavailable: The database does not answer.
        """
        with self._lock:
            if file_id in self._specs:
                self._specs.move_to_end(file_id)
                return self._specs[file_id]
        raw = self._read([file_id])[file_id]
        if isinstance(raw, Unknown):
            raise Unknown(f"file {file_id} has no document in this library, or it has not come here yet")
        if isinstance(raw, TransferError):
            raise raw
        spec = documents.file_spec(documents.read_file(raw), documents.inline_leaves(raw))
        with self._lock:
            self._specs[file_id] = spec
            while len(self._specs) > KEPT:
                self._specs.popitem(last=False)
        return spec
