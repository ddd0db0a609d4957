"""One run of a download.

Runs in a worker, on the job's thread and a crew of as many threads as there are connections; it may be killed at any
instant. Each thread fetches a leaf into a buffer of its own, verifies it there, writes it, and records it, in this
order: what is recorded was verified and written, and what is published was verified in every leaf.

A leaf that is in the partial file but not on record (the machine crashed, the journal is gone) is hashed again before
it is fetched: that costs a thousandth, and nothing where the file has a hole. After an error from a write all records
are dropped, as the disk may have lost more than it said.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from dmedia_transfer import faults, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.download.sources import Source, Sources
from dmedia_transfer.errors import Interrupted, SizeDisputed, TransferError
from dmedia_transfer.model import FileSpec, TransferKey
from dmedia_transfer.ports import LeafRecords, Meter, PartialFile
from dmedia_transfer.tally import Tally

log = logging.getLogger(__name__)


class Destination(Protocol):
    """The FileStore that is saved to."""

    @property
    def store_id(self) -> str:
        """Its ID."""

    def has(self, file_id: str) -> bool:
        """Whether the file is there, complete."""

    def partial(self, file_id: str, size: int) -> PartialFile:
        """The partial file, as it was left or newly preallocated.

        Raises:
            DiskFull, StoreMissing: There is no room for it, or no drive.
        """


class Download:
    """One run of a download. `run` is called once."""

    def __init__(
        self,
        key: TransferKey,
        file: FileSpec,
        *,
        sources: Sequence[Source],
        destination: Destination,
        records: LeafRecords,
        crew: Crew,
        buffers: LeafBuffers,
        tally: Tally,
        pace: Meter,
    ) -> None:
        """A download that is not begun yet.

        Args:
            key: The transfer.
            file: What is fetched; its digests were checked against its ID.
            sources: Where from, in the order of preference.
            destination: Where to.
            records: Which leaves are there.
            crew: The threads, commanded by the caller.
            buffers: Memory for a leaf per thread.
            tally: Counts bytes.
            pace: Is called after each piece that was received, and may wait.
        """
        self._key = key
        self._file = file
        self._sources = Sources(key, sources)
        self._destination = destination
        self._records = records
        self._crew = crew
        self._buffers = buffers
        self._tally = tally
        self._pace = pace
        self._todo: deque[int] = deque()
        self._unproven: set[int] = set()  # may be in the partial file, but not on record
        self._recording = threading.Lock()
        self._failed = False  # a write failed: nothing is recorded any more
        for source in sources:
            crew.cuts(source.store.cut)

    def run(self) -> None:
        """Fetch what is missing and publish the file.

        Raises:
            Interrupted: A pause has come into force, or a stop was said.
            CorruptLeaf: No source has this leaf as it should be; the others are kept.
            SizeDisputed: The document's `bytes` is not what the stores have.
            DiskFull, StoreMissing: The destination cannot take it.
            TransferError: The last source failed.
        """
        if self._destination.has(self._file.file_id):
            self._records.forget(self._key, self._destination.store_id)
            for index in range(leaves.leaf_count(self._file.size)):
                self._tally.done(index, leaves.leaf_span(self._file.size, index).size)
            log.info("%s: is there already", self._key)
            return
        self._crew.check()
        partial = self._destination.partial(self._file.file_id, self._file.size)
        try:
            self._fetch_all(partial)
            self._publish(partial)
        finally:
            partial.close()

    def blames(self, error: BaseException) -> str:
        """The source that an error which ended the run is about; empty if it is about none."""
        return self._sources.blamed_for(error)

    def _fetch_all(self, partial: PartialFile) -> None:
        identity = partial.identity
        recorded = self._records.load(self._key, self._destination.store_id, identity)
        count = leaves.leaf_count(self._file.size)
        for index in sorted(recorded):
            self._tally.done(index, leaves.leaf_span(self._file.size, index).size)
        self._todo.extend(index for index in range(count) if index not in recorded)
        self._unproven.update(self._todo)
        log.info("%s: %s of %s leaves are there", self._key, len(recorded), count)
        self._crew.most = max(1, len(self._todo))
        self._crew.run(self._take, lambda index: self._complete(partial, identity, index), self._give_back)

    def _take(self) -> int | None:
        return self._todo.popleft() if self._todo else None

    def _give_back(self, index: int) -> None:
        self._tally.dropped(index)
        self._todo.appendleft(index)

    def _complete(self, partial: PartialFile, identity: str, index: int) -> None:
        """Have a leaf verified, written and recorded."""
        span = leaves.leaf_span(self._file.size, index)
        with self._buffers.borrow(span.size) as buffer:
            if not self._is_written(partial, index, buffer):
                self._fetch(index, buffer)
                self._write(partial, index, buffer)
        with self._recording:
            if self._failed:
                raise Interrupted("a write failed")
            self._records.record(self._key, self._destination.store_id, identity, index)
        faults.point("download.recorded")
        self._tally.done(index, span.size)

    def _is_written(self, partial: PartialFile, index: int, buffer: memoryview) -> bool:
        """Whether a leaf that is not on record is in the partial file all the same."""
        if index not in self._unproven:
            return False
        self._unproven.discard(index)
        return partial.read_leaf(index, buffer) and self._matches(index, buffer)

    def _matches(self, index: int, data: memoryview) -> bool:
        return leaves.leaf_digest(data) == leaves.digest_of_leaf(self._file.leaf_digests, index)

    def _fetch(self, index: int, buffer: memoryview) -> None:
        """Fill the buffer with the verified leaf, from whichever source has it."""
        while True:
            source = self._sources.pick(index)
            try:
                self._fetch_from(source, index, buffer)
            except TransferError as error:
                if self._crew.forgives(error):
                    raise
                self._tally.dropped(index)
                self._sources.failed(source, error)
                continue
            if self._matches(index, buffer):
                return
            self._tally.dropped(index)
            if index == leaves.leaf_count(self._file.size) - 1:
                self._check_size(source)  # a wrong size shows in the last leaf
            self._sources.corrupt(source, index)

    def _fetch_from(self, source: Source, index: int, buffer: memoryview) -> None:
        def meter(count: int) -> None:
            self._tally.moved(index, count, source.store_id)
            if self._crew.interrupting:
                raise Interrupted(f"leaf {index} was cut")
            self._pace(count)

        source.store.fetch(self._file, leaves.leaf_span(self._file.size, index).start, buffer, meter)
        faults.point("download.fetched")

    def _check_size(self, source: Source) -> None:
        try:
            info = source.store.stat(self._file)
        except TransferError:
            return  # it is about the leaf, then
        if info is not None and info.size != self._file.size:
            raise SizeDisputed(
                f"file {self._file.file_id} has {self._file.size} bytes by its document, "
                f"but {info.size} in store {source.store_id}"
            )

    def _write(self, partial: PartialFile, index: int, data: memoryview) -> None:
        if self._failed:
            raise Interrupted("a write failed")
        try:
            partial.write_leaf(index, data)
        except TransferError:
            self._distrust()
            raise
        faults.point("download.written")

    def _publish(self, partial: PartialFile) -> None:
        self._crew.check()
        try:
            partial.publish()
        except TransferError:
            self._distrust()
            raise
        faults.point("download.published")
        self._records.forget(self._key, self._destination.store_id)
        log.info("%s: published", self._key)

    def _distrust(self) -> None:
        with self._recording:
            self._failed = True
            self._records.forget(self._key, self._destination.store_id)
