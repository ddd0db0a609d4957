"""VerifyRun: a worker proves files of a store anew, leaf by leaf; one thread reads, and others hash what it has read.

A file is proven by its name: the digests of what is there make its ID, or they do not. The digests in its document
only say which leaves are wrong. What was found out is settled in the journal together with what it means for the
documents; a corrupt copy in a FileStore is put aside before that, so that it is not served for another moment.
"""

from __future__ import annotations

import base64
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from typing import Final, Protocol

from dmedia_transfer import faults, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import Interrupted, SourceChanged
from dmedia_transfer.jobs.files import Account, FileRecords, OpenFile
from dmedia_transfer.model import AddFile, FileEdit, FileOutcome, FileSpec, JobProblem, RecordStored, VerifyFiles

log = logging.getLogger(__name__)

ORIGIN_FOUND: Final = "found"  # it was in a FileStore, and no document knew of it
HASHERS: Final = 2  # threads; a third one reads
MAX_LEAVES_TOLD: Final = 1000  # of one file, in a document
_UNREADABLE: Final = bytes(leaves.DIGEST_BYTES)  # in the place of a digest: no content has this one


class Copy(Protocol):
    """What a store has under a file's name, open for reading."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def proven(self) -> bool:
        """Whether the store itself has proven that it is the file: nothing has to be read."""

    @property
    def identity(self) -> str:
        """What is known of its leaves holds under this name only; one line."""

    def read(self, start: int, into: memoryview) -> bool:
        """Fill `into` from offset `start`; False if the store cannot read that.

        Raises:
            Interrupted: It has to let go.
            TransferError: The store is not there, or does not answer.
        """

    def close(self) -> None:
        """Let go of it."""


class Copies(Protocol):
    """A store whose files are proven."""

    @property
    def store_id(self) -> str: ...

    def open(self, file: FileSpec) -> Copy | None:
        """What is there under the file's name; None if nothing is. Of `file`, only the ID may be known."""

    def set_aside(self, file_id: str) -> None:
        """Serve this copy no more; doing so twice changes nothing."""


class VerifyRun:
    """One run of a verification. `run` is called once."""

    def __init__(
        self,
        job: VerifyFiles,
        *,
        records: FileRecords,
        copies: Copies,
        account: Account,
        buffers: LeafBuffers,
        check: Callable[[], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is done yet.

        Args:
            job: What is proven.
            records: The files that are listed for it.
            copies: The store.
            account: Counts.
            buffers: Memory for a leaf.
            check: Raises `Interrupted` when it has to let go; asked between leaves.
            wall: Unix seconds.
        """
        self._job = job
        self._records = records
        self._copies = copies
        self._account = account
        self._buffers = buffers
        self._check = check
        self._wall = wall
        self._hashers = ThreadPoolExecutor(HASHERS, thread_name_prefix="hash")

    def run(self, listed: Iterable[OpenFile]) -> None:
        """Prove these; those of which the job does not tell are left for another run.

        Raises:
            Interrupted: A pause or a stop.
            TransferError: The store is not there, or does not answer.
        """
        known = {file.file_id: file for file in self._job.files}
        wanted = known | {file_id: FileSpec(file_id, 0, b"") for file_id in self._job.undocumented}
        self._buffers.resize(HASHERS + 2)  # one that is read into, and one that waits
        with self._hashers:
            for row in listed:
                file = wanted.get(row.item.decode())
                if file is not None:
                    self._check()
                    self._one(row, file)

    def _one(self, row: OpenFile, file: FileSpec) -> None:
        copy = self._copies.open(file)
        if copy is None:
            self._missing(row, file)
            return
        with closing(copy):
            size = copy.size
            if copy.proven:
                self._right(row, file, size, file.leaf_digests)
                return
            try:
                digests = self._digests(row, copy)
            except SourceChanged as error:
                self._settle(row, file, FileOutcome.FAILED, str(error))
                return
        faults.point("verify.hashed")
        if digests and leaves.file_id(digests) == file.file_id:
            self._right(row, file, size, digests)
        else:
            self._corrupt(row, file, digests)

    def _digests(self, row: OpenFile, copy: Copy) -> bytes:
        """The digests of all leaves that are there, going on where an earlier run of this job has let go."""
        identity, _, before = row.so_far.partition(b"\n")
        digests = bytearray(before if identity == copy.identity.encode() else b"")
        count = leaves.leaf_count(copy.size) if copy.size else 0
        first = len(digests) // leaves.DIGEST_BYTES
        hashing: deque[Future[bytes]] = deque()

        def take() -> None:
            digests.extend(hashing.popleft().result())
            index = len(digests) // leaves.DIGEST_BYTES
            self._account.at(min(leaves.leaf_span(copy.size, index - 1).end, row.size))
            faults.point("verify.leaf")

        try:
            for index in range(first, count):
                self._check()
                hashing.append(self._read(copy, index, alone=count - first == 1))
                if len(hashing) > HASHERS:
                    take()
        except Interrupted:
            while hashing:
                take()
            self._records.keep(self._job.key.id, row.item, copy.identity.encode() + b"\n" + digests)
            raise
        finally:
            wait(hashing)
        while hashing:
            take()
        log.debug("%s: %s leaves of file %s hashed", self._job.key, count, row.item.decode())
        return bytes(digests)

    def _read(self, copy: Copy, index: int, *, alone: bool) -> Future[bytes]:
        """Read a leaf here, and have it hashed while the next one is read; here as well, if there is no next one."""
        span = leaves.leaf_span(copy.size, index)
        digest: Future[bytes] = Future()
        with ExitStack() as stack:
            buffer = stack.enter_context(self._buffers.borrow(span.size))
            if not copy.read(span.start, buffer):
                digest.set_result(_UNREADABLE)
            elif alone:
                digest.set_result(leaves.leaf_digest(buffer))
            else:
                digest = self._hashers.submit(_digest, buffer, stack.pop_all())
        return digest

    def _right(self, row: OpenFile, file: FileSpec, size: int, digests: bytes) -> None:
        store_id, now = self._copies.store_id, round(self._wall(), 3)
        if file.size and file.size != size:
            message = f"file {file.file_id} has {file.size} bytes by its document, but {size}, all right, in store "
            self._settle(row, file, FileOutcome.FAILED, f"{message}{store_id}: the document is wrong")
        elif file.file_id in self._job.said:
            self._settle(row, file, FileOutcome.VERIFIED)
        elif file.size:
            edit: FileEdit = RecordStored(file.file_id, store_id, copies=1, time=now)
            message = f"file {file.file_id} is in store {store_id}, and its document did not say so"
            self._settle(row, file, FileOutcome.FOUND, message, edit)
        else:
            packed = base64.b64encode(digests).decode("ascii")
            edit = AddFile(file.file_id, store_id, size, packed, now, origin=ORIGIN_FOUND)
            message = f"file {file.file_id} is in store {store_id}, and had no document"
            self._settle(row, file, FileOutcome.FOUND, message, edit)

    def _corrupt(self, row: OpenFile, file: FileSpec, digests: bytes) -> None:
        store_id = self._copies.store_id
        bad = _bad_leaves(file, digests)
        self._copies.set_aside(file.file_id)
        faults.point("verify.set-aside")
        edit = RecordStored(
            file.file_id, store_id, copies=0, time=round(self._wall(), 3), corrupt=bad[:MAX_LEAVES_TOLD]
        )
        which = f"leaf {bad[0]}" if len(bad) == 1 else f"{len(bad)} leaves" if bad else "the copy"
        verb = "are" if len(bad) > 1 else "is"
        message = f"{which} of file {file.file_id} in store {store_id} {verb} corrupt"
        self._settle(row, file, FileOutcome.CORRUPT, message, edit, bad=bad[:MAX_LEAVES_TOLD])

    def _missing(self, row: OpenFile, file: FileSpec) -> None:
        if file.file_id not in self._job.said:
            self._settle(row, file, FileOutcome.GONE)
            return
        store_id = self._copies.store_id
        edit = RecordStored(file.file_id, store_id, copies=0, time=round(self._wall(), 3))
        message = f"file {file.file_id} is not in store {store_id}, and its document said that it is"
        self._settle(row, file, FileOutcome.MISSING, message, edit)

    def _settle(
        self,
        row: OpenFile,
        file: FileSpec,
        outcome: FileOutcome,
        message: str = "",
        edit: FileEdit | None = None,
        *,
        bad: tuple[int, ...] = (),
    ) -> None:
        problem = None
        if message:
            log.warning("%s: %s", self._job.key, message)
            problem = JobProblem(
                outcome,
                message,
                file_id=file.file_id,
                store_id=self._copies.store_id,
                leaves=bad,
                time=round(self._wall(), 3),
            )
        # Of a file without a document, a document can be made, but none can be changed.
        can_be_written = edit is not None and (isinstance(edit, AddFile) or bool(file.size))
        edits = [edit] if edit is not None and can_be_written else []
        self._records.settle(self._job.key.id, row.item, outcome, problem=problem, edits=edits)
        faults.point("verify.settled")
        log.debug("%s: file %s is settled: %s", self._job.key, file.file_id, outcome)
        self._account.settled(outcome, row.size)


def _digest(buffer: memoryview, until: ExitStack) -> bytes:
    with until:
        return leaves.leaf_digest(buffer)


def _bad_leaves(file: FileSpec, digests: bytes) -> tuple[int, ...]:
    """Which leaves are not what they should be, as far as that can be told."""
    there = list(leaves.unpack(digests))
    if not file.leaf_digests:
        return tuple(index for index, digest in enumerate(there) if digest == _UNREADABLE)
    wanted = list(leaves.unpack(file.leaf_digests))
    bad = tuple(index for index, digest in enumerate(wanted) if index >= len(there) or there[index] != digest)
    return bad or (len(wanted) - 1,)  # more is there than should be
