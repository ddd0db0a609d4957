"""The steps of an upload: each answer of the server is kept in the journal before the next step is taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from dmedia_transfer import faults
from dmedia_transfer.errors import CorruptLeaf
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import Backend, Body, Meter, Part, UploadRecord, UploadRecords
from dmedia_transfer.upload.leafbody import LeafBody

log = logging.getLogger(__name__)

T = TypeVar("T")
SENDS_PER_PART: Final = 3  # of one that is damaged on the way


class ObjectTarget:
    """The file's object at the store, as `MultipartUpload` sees it."""

    def __init__(
        self,
        backend: Backend,
        file: FileSpec,
        *,
        store_id: str,
        leaves_of: Callable[[int], LeafBody],
        is_finished: Callable[[Sequence[Part]], bool],
        dropped: Callable[[int], None],
    ) -> None:
        """The object of `file`.

        Args:
            backend: The store.
            file: The file.
            store_id: The store's ID.
            leaves_of: The leaves of a part, by its number.
            is_finished: Whether the object is there, made of these parts.
            dropped: Told of the number of a part that is sent again.
        """
        self.parallel_parts = backend.capabilities.parallel_parts
        self._backend = backend
        self._file = file
        self._store_id = store_id
        self._leaves_of = leaves_of
        self._is_finished = is_finished
        self._dropped = dropped

    def begin(self) -> str:
        """Begin an upload and return its ID."""
        upload_id = self._backend.begin(self._file)
        faults.point("upload.begun")
        return upload_id

    def put_part(self, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Send a part, again if it was damaged on the way.

        Raises:
            SourceChanged: It is wrong on this machine's disk.
            CorruptLeaf: It was damaged on the way, time and again.
        """

        def send(body: Body) -> Part:
            part = self._backend.put_part(self._file, upload_id, number, body, meter)
            faults.point("upload.part-sent")
            if None not in (part.sha256, body.sha256) and part.sha256 != body.sha256:
                leaf = self._leaves_of(number).first_leaf
                raise CorruptLeaf(self._file.file_id, leaf, self._store_id, "the store confirmed something else")
            return part

        def attempt() -> Part:
            if not isinstance(body, LeafBody):
                return send(body)
            with body.loaded() as loaded:
                return send(loaded)

        return again_if_damaged(attempt, self._leaves_of(number), lambda: self._dropped(number))

    def list_parts(self, upload_id: str) -> list[Part]:
        """All parts that the server has."""
        parts = self._backend.list_parts(self._file, upload_id)
        faults.point("upload.listed")
        return parts

    def finish(self, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the parts one object."""
        self._backend.finish(self._file, upload_id, parts)
        faults.point("upload.finished")

    def is_finished(self, parts: Sequence[Part]) -> bool:
        """Whether the object is there and made of exactly these parts."""
        return self._is_finished(parts)

    def abort(self, upload_id: str) -> None:
        """Forget the upload."""
        self._backend.abort(self._file, upload_id)

    def cut(self) -> None:
        """Cut all connections."""
        self._backend.cut()


class Journalled:
    """Keeps each step of an upload in the journal: the `Diary` of `MultipartUpload`."""

    def __init__(self, records: UploadRecords, intent: UploadRecord) -> None:
        self._records = records
        self._intent = intent

    def intend(self) -> None:
        """An upload is about to be begun."""
        self._records.intend(self._intent)
        faults.point("upload.intended")

    def begun(self, upload_id: str) -> None:
        """The server gave it this ID."""
        self._records.begun(self._intent.key, upload_id)
        faults.point("upload.recorded")

    def confirmed(self, part: Part) -> None:
        """The server has confirmed a part."""
        self._records.confirmed(self._intent.key, part)
        faults.point("upload.part-recorded")


def again_if_damaged(send: Callable[[], T], what: LeafBody, dropped: Callable[[], None]) -> T:
    """Send bytes again that the server saw otherwise, unless they are wrong on our own disk.

    Args:
        send: Sends them.
        what: What they should be.
        dropped: Told before they are sent again.

    Raises:
        SourceChanged: They are wrong on our own disk.
        CorruptLeaf: They were damaged on the way, time and again.
    """
    for attempt in range(1, SENDS_PER_PART + 1):
        try:
            return send()
        except CorruptLeaf as error:
            log.warning("attempt %s of %s: %s", attempt, SENDS_PER_PART, error)
            what.check()
            dropped()
            if attempt == SENDS_PER_PART:
                raise
    raise AssertionError("unreachable")
