"""One run of a download.

Runs in a worker, on the job's thread and a crew; it may be killed at any instant. Each thread of the crew fetches a
leaf into a buffer of its own, lets go of the connection, verifies the leaf, writes it, and has it recorded, in this
order: what is recorded was verified and written, and what is published was verified in every leaf. Which leaf and from
where, the `board` says.

A leaf that is in the partial file but not on record (the worker was killed, the journal is gone) is hashed again before
it is fetched: that costs a thousandth, and nothing where the file has a hole. After an error from a write all records
are dropped, as the disk may have lost more than it said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from dmedia_transfer import faults, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew, Later
from dmedia_transfer.download.board import Board
from dmedia_transfer.download.recording import Recording
from dmedia_transfer.download.source import Flight, Source
from dmedia_transfer.errors import Interrupted, SizeDisputed, TransferError
from dmedia_transfer.model import FileSpec, SourceUse, TransferKey
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
        news: Callable[[], Sequence[Source] | None] = lambda: None,
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
            news: All sources there are from now on, once for each time that they change; else None.
        """
        self._key = key
        self._file = file
        self._destination = destination
        self._recording = Recording(records, key, destination.store_id)
        self._crew = crew
        self._buffers = buffers
        self._tally = tally
        self._pace = pace
        self._news = news
        sizes = [leaves.leaf_span(file.size, index).size for index in range(leaves.leaf_count(file.size))]
        self._board = Board(key, sizes, sources, each=lambda: crew.lines.each, together=lambda: crew.lines.together)
        self._cutting: set[int] = set()  # the sources that the crew can cut, by what reads them
        self._equip(sources)

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
            self._recording.forget()
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
        return self._board.blamed_for(error)

    def sources(self) -> tuple[SourceUse, ...]:
        """How it goes with each source."""
        return self._board.states()

    def _fetch_all(self, partial: PartialFile) -> None:
        recorded = self._recording.begin(partial.identity)
        count = leaves.leaf_count(self._file.size)
        for index in sorted(recorded):
            self._tally.done(index, leaves.leaf_span(self._file.size, index).size)
        self._board.begin(recorded)
        log.info("%s: %s of %s leaves are there", self._key, len(recorded), count)
        self._crew.lines.most = max(1, 2 * (count - len(recorded)))  # the last ones may be fetched twice
        try:
            self._crew.run(self._take, lambda flight: self._complete(partial, flight), self._give_back)
        finally:
            self._recording.flush()

    def _equip(self, sources: Sequence[Source]) -> None:
        """Have threads for so many sources, and cut them where the crew cuts."""
        self._crew.spread(len(sources))
        self._buffers.resize(self._crew.lines.room)
        for source in sources:
            if id(source.store) not in self._cutting:
                self._cutting.add(id(source.store))
                self._crew.cuts(source.store.cut)

    def _take(self) -> Flight | Later | None:
        sources = self._news()
        if sources is not None:
            self._equip(sources)
            self._board.use(sources)
        flight = self._board.take()
        if isinstance(flight, Later):
            self._tally.tell()  # while nothing moves, what moved last and how the sources stand is still told
        if sources is not None or isinstance(flight, Later):
            for source in self._board.losers():
                source.store.cut()
        return flight

    def _give_back(self, flight: Flight) -> None:
        self._drop(flight)
        self._board.gave_back(flight)

    def _drop(self, flight: Flight) -> None:
        if flight.standing is not None:
            self._tally.dropped(flight.leaf, flight.source.store_id)

    def _complete(self, partial: PartialFile, flight: Flight) -> None:
        """Have a leaf verified, written and recorded; or find out that it cannot be had from there, or not now."""
        with self._buffers.borrow(flight.size) as buffer:
            if flight.standing is not None:
                self._bring(partial, flight, buffer)
            elif partial.read_leaf(flight.leaf, buffer) and self._matches(flight.leaf, buffer):
                self._board.claim(flight)
                self._wrote(flight)
            elif (fetching := self._board.missing(flight)) is not None:
                try:
                    self._bring(partial, fetching, buffer)
                except BaseException:
                    self._give_back(fetching)  # the crew knows the other flight only
                    raise

    def _bring(self, partial: PartialFile, flight: Flight, buffer: memoryview) -> None:
        if self._copy(partial, flight, buffer):
            self._wrote(flight)
        elif self._fetch(flight, buffer):
            self._write(partial, flight.leaf, buffer)
            self._wrote(flight)

    def _copy(self, partial: PartialFile, flight: Flight, buffer: memoryview) -> bool:
        """Have the file system copy the leaf and verify what it made; False if it is to be fetched."""
        if flight.source.copy is None or not self._board.hold(flight):
            return False
        self._recording.check()
        try:
            there = flight.source.copy(self._file, flight.leaf, partial)
            good = there and partial.read_leaf(flight.leaf, buffer) and self._matches(flight.leaf, buffer)
        except TransferError:
            self._recording.distrust()
            raise
        if good:
            flight.received = flight.size
            self._tally.moved(flight.leaf, flight.size, flight.source.store_id, wire=False)
        self._board.release(flight, good=good)
        return good

    def _wrote(self, flight: Flight) -> None:
        self._recording.wrote(flight.leaf)
        self._tally.done(flight.leaf, flight.size)
        self._board.written(flight)

    def _matches(self, index: int, data: memoryview) -> bool:
        return leaves.leaf_digest(data) == leaves.digest_of_leaf(self._file.leaf_digests, index)

    def _fetch(self, flight: Flight, buffer: memoryview) -> bool:
        """Fill the buffer with the verified leaf; whether it is this flight's to write."""
        try:
            self._receive(flight, buffer)
        except TransferError as error:
            if flight.superseded:
                self._give_back(flight)
                return False
            if self._crew.forgives(error) or self._crew.eases(error):
                raise
            self._drop(flight)
            self._board.failed(flight, error)
            return False
        self._board.landed(flight)
        self._crew.landed()
        if self._matches(flight.leaf, buffer):
            if self._board.claim(flight):
                return True
            self._drop(flight)
            return False
        self._drop(flight)
        dispute = self._size_dispute(flight)  # a wrong size shows in the last leaf
        if dispute is not None:
            self._board.failed(flight, dispute)
        else:
            self._tally.differs(flight.leaf)
            self._board.corrupt(flight)
        return False

    def _receive(self, flight: Flight, buffer: memoryview) -> None:
        source = flight.source

        def meter(count: int) -> None:
            now_s = flight.moved_s = time.monotonic()
            flight.received += count
            self._tally.moved(flight.leaf, count, source.store_id, wire=not source.local)
            if self._crew.interrupting:
                raise Interrupted(f"leaf {flight.leaf} was cut")
            if flight.superseded:
                raise Interrupted(f"leaf {flight.leaf} is not wanted from store {source.store_id} any more")
            if source.local:
                return  # the limits are for the line
            self._crew.moved(count)
            self._pace(count)
            flight.waited_s += time.monotonic() - now_s

        source.store.fetch(self._file, leaves.leaf_span(self._file.size, flight.leaf).start, buffer, meter)
        faults.point("download.fetched")

    def _size_dispute(self, flight: Flight) -> SizeDisputed | None:
        """What the source says of the file's size, if it gave the last leaf and disagrees."""
        if flight.leaf != leaves.leaf_count(self._file.size) - 1:
            return None
        try:
            info = flight.source.store.stat(self._file)
        except TransferError:
            return None  # it is about the leaf, then
        if info is None or info.size == self._file.size:
            return None
        return SizeDisputed(
            f"file {self._file.file_id} has {self._file.size} bytes by its document, "
            f"but {info.size} in store {flight.source.store_id}"
        )

    def _write(self, partial: PartialFile, index: int, data: memoryview) -> None:
        self._recording.check()
        try:
            partial.write_leaf(index, data)
        except TransferError:
            self._recording.distrust()
            raise
        faults.point("download.written")

    def _publish(self, partial: PartialFile) -> None:
        self._crew.check()
        try:
            partial.publish()
        except TransferError:
            self._recording.distrust()
            raise
        faults.point("download.published")
        self._recording.forget()
        log.info("%s: published", self._key)
