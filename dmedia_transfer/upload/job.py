"""One run of an upload.

Runs in a worker, on the job's thread and a crew of as many threads as there are connections; it may be killed at any
instant. The order of steps makes that harmless: the intent is recorded before an upload is begun, its ID before the
first part is sent, a part when the server has confirmed it. What the server has is asked of the server, and each part
is compared by checksum.

An object that is there under the file's name counts as the file only if the server's checksums prove it, or if it was
read and verified leaf by leaf. One that is not is never overwritten, unless a verification found it corrupt before: it
is read once more, and if it still is not the file, the file takes its place.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from dmedia_transfer import faults, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import (
    ConnectionLost,
    Interrupted,
    ObjectDiffers,
    ObjectMissing,
    SizeDisputed,
    SourceChanged,
    Transient,
    UploadGone,
)
from dmedia_transfer.leaves import Span
from dmedia_transfer.model import FileSpec, TransferKey
from dmedia_transfer.multipart import FileBody, FileParts, MultipartUpload
from dmedia_transfer.multipart.bodies import composite_sha256
from dmedia_transfer.ports import Backend, Body, LocalFile, Meter, ObjectInfo, Part, UploadRecord, UploadRecords
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload.ending import abandon_current, abandon_strays
from dmedia_transfer.upload.leafbody import LeafBody
from dmedia_transfer.upload.steps import Journalled, ObjectTarget, again_if_damaged

log = logging.getLogger(__name__)


class Upload:
    """One run of an upload. `run` is called once."""

    def __init__(
        self,
        key: TransferKey,
        file: FileSpec,
        *,
        local: LocalFile,
        backend: Backend,
        records: UploadRecords,
        crew: Crew,
        buffers: LeafBuffers,
        tally: Tally,
        pace: Meter,
        replaces: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """An upload that is not begun yet.

        Args:
            key: The transfer.
            file: What is sent; its digests were checked against its ID.
            local: Its bytes.
            backend: Where to.
            records: Uploads begun and parts confirmed.
            crew: The threads, commanded by the caller.
            buffers: Memory for a leaf per thread.
            tally: Counts bytes.
            pace: Is called after each piece that moved, and may wait.
            replaces: An object that is there and is not the file gives way to it.
            clock: Unix seconds.
        """
        self._key = key
        self._file = file
        self._local = local
        self._backend = backend
        self._records = records
        self._crew = crew
        self._buffers = buffers
        self._tally = tally
        self._pace = pace
        self._replaces = replaces
        self._clock = clock
        self._name = backend.object_name(file)
        crew.cuts(backend.cut)

    def run(self) -> None:
        """Send what the store does not have, and see that the object is there.

        Raises:
            Interrupted: A pause has come into force, or a stop was said.
            ObjectDiffers: Another object has the file's name.
            SourceChanged: The local file is not what it was.
            TransferError: What the backend raised.
        """
        if self._local.size != self._file.size:
            raise SourceChanged(
                f"file {self._file.file_id} on this machine's disk has {self._local.size} bytes "
                f"instead of {self._file.size}"
            )
        if self._is_there_or_gives_way():
            log.info("%s: %s is there already", self._key, self._name)
            abandon_current(self._key, records=self._records, backend=self._backend, crew=self._crew)
        elif leaves.leaf_count(self._file.size) == 1 and self._file.size <= self._backend.capabilities.put_max_bytes:
            self._put()
        else:
            self._send_parts()
        log.info("%s: done", self._key)

    # What is there

    def _is_there(self, parts: Sequence[Part] = ()) -> bool:
        """Whether the object is there and is this file, maybe sent in these parts.

        Raises:
            ObjectDiffers: It is there and is not.
        """
        info = self._stat()
        if info is None:
            return False
        if self._proves(info, parts):
            self._tally.undone()  # leaves are counted here, whatever was counted before
            for index in range(leaves.leaf_count(self._file.size)):
                self._tally.done(index, leaves.leaf_span(self._file.size, index).size)
            return True
        if info.size != self._file.size:
            raise ObjectDiffers(f"{self._name} has {info.size} bytes, the file {self._file.size}")
        log.info("%s: %s is there without a checksum that we know: it is read and verified", self._key, self._name)
        self._verify_object()
        return True

    def _is_there_or_gives_way(self) -> bool:
        """Whether the object is there and is this file; one that is not may be in the way.

        Raises:
            ObjectDiffers: It is.
        """
        try:
            return self._is_there()
        except ObjectDiffers as error:
            if not self._replaces:
                raise
            log.warning("%s: %s, and as it was found corrupt, the file takes its place", self._key, error)
            self._tally.undone()
            return False

    def _stat(self) -> ObjectInfo | None:
        info = self._crew.once(lambda: self._backend.stat(self._file))
        faults.point("upload.stat")
        return info

    def _proves(self, info: ObjectInfo, parts: Sequence[Part]) -> bool:
        """Whether what the server says of the object proves that it is this file, sent in these parts."""
        if leaves.object_is_file(
            file_bytes=self._file.size,
            leaf_digests=self._file.leaf_digests,
            object_bytes=info.size,
            object_sha256=info.sha256,
            object_composite_sha256=info.composite_sha256,
        ):
            return True
        composite = composite_sha256(parts)
        return info.size == self._file.size and composite is not None and info.composite_sha256 == composite

    def _verify_object(self) -> None:
        """Read the object, leaf by leaf."""
        todo = deque(range(leaves.leaf_count(self._file.size)))
        self._tally.undone()

        def verify(index: int) -> None:
            span = leaves.leaf_span(self._file.size, index)
            with self._buffers.borrow(span.size) as buffer:
                try:
                    self._backend.fetch(self._file, span.start, buffer, self._meter(index))
                except (SizeDisputed, ObjectMissing) as error:
                    raise Transient(f"{self._name} changed while it was verified: {error}") from error
                if leaves.leaf_digest(buffer) != leaves.digest_of_leaf(self._file.leaf_digests, index):
                    raise ObjectDiffers(f"{self._name} differs from the file in leaf {index}")
            self._tally.done(index, span.size)

        def give_back(index: int) -> None:
            self._tally.dropped(index)
            todo.appendleft(index)

        self._crew.run(lambda: todo.popleft() if todo else None, verify, give_back)

    def _meter(self, piece: int) -> Meter:
        def meter(count: int) -> None:
            self._tally.moved(piece, count)
            if self._crew.interrupting:
                raise Interrupted(f"piece {piece} was cut")
            self._crew.moved(count)
            self._pace(count)

        return meter

    # A small file

    def _put(self) -> None:
        abandon_current(self._key, records=self._records, backend=self._backend, crew=self._crew)
        body = self._leaf_body(leaves.leaf_span(self._file.size, 0), self._file.leaf_digests)
        try:
            told = self._crew.once(lambda: again_if_damaged(lambda: self._put_body(body), body, self._drop_put))
        except ConnectionLost:
            self._drop_put()
            if not self._is_there_or_gives_way():
                raise
            return
        self._tally.done(0, self._file.size)
        if told != self._file.leaf_digests and not self._backend.capabilities.verifies_sha256:
            self._see_it_there(())

    def _put_body(self, body: LeafBody) -> bytes | None:
        with body.loaded() as loaded:
            told = self._backend.put(self._file, loaded, self._meter(0))
        faults.point("upload.put")
        return told

    def _drop_put(self) -> None:
        self._tally.dropped(0)

    # A large one

    def _send_parts(self) -> None:
        try:
            self._send(self._usable_record())
        except UploadGone as error:
            log.info("%s: %s; looking whether it was completed", self._key, error)
            self._forget_lost()
            self._tally.undone()
            if not self._is_there_or_gives_way():
                self._send(None)
        self._forget()

    def _forget_lost(self) -> None:
        """The store does not know the upload. If it never confirmed a part of it, its ID may never have been right."""
        record = self._records.load(self._key)
        if record is not None and not self._records.parts(self._key):
            abandon_strays(record, records=self._records, backend=self._backend, crew=self._crew)
        self._forget()

    def _usable_record(self) -> UploadRecord | None:
        """The upload that is under way, if it goes to where the file goes now; another one is aborted."""
        record = self._records.load(self._key)
        if record is not None and record.upload_id and record.object_name == self._name:
            return record
        if record is not None:
            log.info("%s: goes to %s; what was begun at %s ends", self._key, self._name, record.object_name)
            abandon_current(self._key, records=self._records, backend=self._backend, crew=self._crew)
        return None

    def _send(self, record: UploadRecord | None) -> None:
        intent = record or UploadRecord(
            self._key,
            self._name,
            upload_id="",
            part_leaves=leaves.leaves_per_part(self._file.size, max_parts=self._backend.capabilities.max_parts),
            time=self._clock(),
        )
        one_leaf = intent.part_leaves == 1
        spans = leaves.part_spans(self._file.size, intent.part_leaves)

        def sha256_of(span: Span) -> bytes | None:
            return leaves.digest_of_leaf(self._file.leaf_digests, span.index) if one_leaf else None

        upload = MultipartUpload(
            ObjectTarget(
                self._backend,
                self._file,
                store_id=self._key.store_id,
                leaves_of=lambda number: self._leaf_body(spans[number - 1], None),
                is_finished=self._is_there,
                dropped=self._tally.dropped,
            ),
            FileParts(
                self._local.read,
                spans,
                body=lambda span: self._body(span, sha256_of(span)),
                sha256=sha256_of,
                check=self._crew.check,
            ),
            crew=self._crew,
            upload_id=intent.upload_id,
            known=self._records.parts(self._key) if record else (),
            diary=Journalled(self._records, intent),
            tally=self._tally,
            pace=self._pace,
        )
        upload.run()
        self._see_it_there(upload.parts)

    def _body(self, span: Span, sha256: bytes | None) -> Body:
        body = self._leaf_body(span, sha256)
        if not self._backend.capabilities.verifies_sha256:
            return body
        # The server looks, so that we need not; but the SHA-256 of several leaves has to be that of the right ones.
        return FileBody(self._local.read, span, sha256, compute=body.digest)

    def _leaf_body(self, span: Span, sha256: bytes | None) -> LeafBody:
        return LeafBody(self._file, self._local, self._buffers, span, sha256)

    # The end

    def _see_it_there(self, parts: Sequence[Part]) -> None:
        """Look at the object that was just made.

        Raises:
            ObjectDiffers: It is not what was sent.
        """
        info = self._stat()
        if info is None:
            raise Transient(f"{self._name} was sent, but the store does not show it")
        told = info.sha256 is not None or (info.composite_sha256 is not None and composite_sha256(parts) is not None)
        if info.size != self._file.size or (told and not self._proves(info, parts)):
            raise ObjectDiffers(f"{self._name} was sent, but what the store has is not the file")

    def _forget(self) -> None:
        self._records.forget(self._key)
        faults.point("upload.forgotten")
