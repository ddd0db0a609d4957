"""Does a bundle: small files at once, on threads that stay from one to the next.

What an ordinary run does for each file is done for all of them here: the journal is asked once, downloads are
published in groups, and ends are told in groups. Only what goes as it should is done here, in the same order of steps:
nothing is written before it is verified, nothing gets its name before it is on the disk, and no object is overwritten.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from dmedia_transfer import faults, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import CorruptLeaf, ObjectDiffers, SourceChanged, TransferError, Transient
from dmedia_transfer.filestore import FileStore, Together, Written
from dmedia_transfer.journal import Journal
from dmedia_transfer.limiter import TokenBucket
from dmedia_transfer.lines import MOST_CONNECTIONS
from dmedia_transfer.model import Direction, FileSpec, StoreSpec
from dmedia_transfer.model import Download as DownloadJob
from dmedia_transfer.model import Upload as UploadJob
from dmedia_transfer.multipart import BufferBody
from dmedia_transfer.ports import Backend, Meter, ObjectInfo
from dmedia_transfer.workers.bundle import Bundle
from dmedia_transfer.workers.member import Member
from dmedia_transfer.workers.stores import LocalSource, OpenStores

log = logging.getLogger(__name__)

GATHER_S: Final = 0.1  # so long what has come waits for what comes, to be published and told at once
LOOK_S: Final = 0.1  # so often it is looked how far those are that take long


class SmallFiles:
    """Does bundles one after another; its threads stay."""

    def __init__(
        self,
        *,
        journal: Callable[[], Journal],
        stores: OpenStores,
        buckets: dict[Direction, TokenBucket],
        buffers: LeafBuffers,
    ) -> None:
        self._journal = journal
        self._stores = stores
        self._buckets = buckets
        self._buffers = buffers
        self._threads = ThreadPoolExecutor(MOST_CONNECTIONS, thread_name_prefix="small")
        self._file_s = math.inf  # what a file of the last bundle took

    def run(self, bundle: Bundle) -> None:
        """Do all of it, and tell of each member how it ended; never raises what a member can raise."""
        way: _Way | None = None
        try:
            way = self._way(bundle)
            self._do(bundle, way)
        except Exception:
            log.exception("small files cannot be done together")
        while bundle.moving:  # only after such a fault
            bundle.give_up()
            bundle.wait_for_news(LOOK_S)
        bundle.give_up()
        bundle.tell()
        if way is not None:
            way.close()

    def _do(self, bundle: Bundle, way: _Way) -> None:
        for member in bundle.unbegun:
            try:
                way.prepare(member)
            except TransferError as error:
                bundle.refused(member, error)
        bundle.file_s = self._file_s
        left = True
        while left:
            for _ in range(bundle.threads_missing()):
                self._threads.submit(self._work, bundle, way)
            left = bundle.wait_for_news(LOOK_S if bundle.moving else 0.0, GATHER_S)
            way.settle()
            bundle.tell()
        self._file_s = bundle.file_s

    def _way(self, bundle: Bundle) -> _Way:
        backends = _Backends(self._stores)
        if bundle.uploads:
            return _Up(bundle, self._journal(), backends, self._pace(bundle, Direction.UPLOAD), self._buffers)
        return _Down(bundle, self._journal(), backends, self._pace(bundle, Direction.DOWNLOAD), self._buffers)

    def _pace(self, bundle: Bundle, direction: Direction) -> Callable[[Member], Meter]:
        bucket = self._buckets[direction]

        def meter_of(member: Member) -> Meter:
            def meter(count: int) -> None:
                bundle.moved(member, count, wire=True)
                bucket.take(count, lambda seconds: bundle.wait(member, seconds))

            return meter

        return meter_of

    def _work(self, bundle: Bundle, way: _Way) -> None:
        while (member := bundle.take()) is not None:
            try:
                way.do(member)
            except BaseException as error:
                bundle.failed(member, error)


class _Backends:
    """The backends of one bundle: hundreds of files, and one store."""

    def __init__(self, stores: OpenStores) -> None:
        self._stores = stores
        self._found: list[tuple[StoreSpec, float, Backend]] = []

    def of(self, spec: StoreSpec, stall_s: float) -> Backend:
        for known, its_stall_s, backend in self._found:
            if (known, its_stall_s) == (spec, stall_s):
                return backend
        backend = self._stores.backend(spec, stall_s=stall_s)
        self._found.append((spec, stall_s, backend))
        return backend


@dataclass(eq=False)
class _Way(ABC):
    """Down or up, for one bundle."""

    _bundle: Bundle
    _journal: Journal
    _backends: _Backends
    _meter_of: Callable[[Member], Meter]
    _buffers: LeafBuffers
    _on_record: dict[str, set[str]] = field(default_factory=dict, init=False)  # files, by store

    @abstractmethod
    def prepare(self, member: Member) -> None:
        """See whether it can be done here. On the job's thread. Raises TransferError if it cannot."""

    @abstractmethod
    def do(self, member: Member) -> None:
        """Do it, on a thread of the crew. Raises TransferError."""

    def settle(self) -> None:  # noqa: B027 - what the store has confirmed waits for nothing
        """Finish what has landed, on the job's thread."""

    def close(self) -> None:  # noqa: B027 - not everybody holds something
        """Nothing is done any more."""


@dataclass(eq=False)
class _Down(_Way):
    """Downloads: from one source each, published in groups."""

    _places: dict[str, Together] = field(default_factory=dict, init=False)  # by store
    _room: dict[str, int] = field(default_factory=dict, init=False)  # bytes, by store
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _landed: dict[str, list[tuple[Member, Written]]] = field(default_factory=dict, init=False)  # by store

    def prepare(self, member: Member) -> None:
        job = member.job
        assert isinstance(job, DownloadJob)  # noqa: S101 - of a bundle of downloads
        place = job.destination.store_id
        if place not in self._places:
            store = FileStore.of(job.destination)
            self._places[place] = Together(store)
            self._on_record[place] = self._journal.leaves.files_in(place)
            self._room[place] = store.free_bytes()
        self._room[place] -= job.file.size
        if self._room[place] < 0:
            raise Transient(f"there may be no room for all of these files in store {place}")
        if job.file.file_id in self._on_record[place]:
            raise Transient(f"something of file {job.file.file_id} is on record")
        if not job.sources[0].local:
            member.store = self._backends.of(job.sources[0], job.stall_s)

    def do(self, member: Member) -> None:
        job = member.job
        assert isinstance(job, DownloadJob)  # noqa: S101 - of a bundle of downloads
        source, place = job.sources[0], self._places[job.destination.store_id]
        if not place.takes(job.file.file_id):
            raise Transient(f"something of file {job.file.file_id} is there")
        with self._buffers.borrow(job.file.size) as buffer:
            if member.store is not None:
                member.store.fetch(job.file, 0, buffer, self._meter_of(member))
            else:
                self._fetch_here(member, source, buffer)
            faults.point("download.fetched")
            if leaves.leaf_digest(buffer) != leaves.digest_of_leaf(job.file.leaf_digests, 0):
                raise CorruptLeaf(job.file.file_id, 0, source.store_id)
            written = place.write(job.file.file_id, buffer)
        with self._lock:
            self._landed.setdefault(job.destination.store_id, []).append((member, written))
        self._bundle.landed(member)

    def _fetch_here(self, member: Member, source: StoreSpec, buffer: memoryview) -> None:
        LocalSource(FileStore.of(source)).fetch(
            member.job.file, 0, buffer, lambda count: self._bundle.moved(member, count, wire=False)
        )

    def settle(self) -> None:
        with self._lock:
            landed, self._landed = self._landed, {}
        for place, group in landed.items():
            failed = self._places[place].publish([written for _, written in group])
            self._bundle.finished([member for member, one in group if one.file_id not in failed])
            for member, one in group:
                if one.file_id in failed:
                    self._bundle.failed(member, failed[one.file_id])
            for member, one in group:
                if one.file_id not in failed:
                    log.debug("%s: published", member.job.key)

    def close(self) -> None:
        for name, place in self._places.items():
            place.drop(written for _, written in self._landed.pop(name, []))
            place.close()


@dataclass(eq=False)
class _Up(_Way):
    """Uploads: one PUT each, of what was read and verified just before."""

    def prepare(self, member: Member) -> None:
        job = member.job
        assert isinstance(job, UploadJob)  # noqa: S101 - of a bundle of uploads
        store_id = job.destination.store_id
        backend = member.store = self._backends.of(job.destination, job.stall_s)
        if store_id not in self._on_record:
            self._on_record[store_id] = self._journal.uploads.files_to(store_id)
        if job.file.file_id in self._on_record[store_id]:
            raise Transient(f"an upload of file {job.file.file_id} is under way")
        if job.file.size > backend.capabilities.put_max_bytes:
            raise Transient(f"store {store_id} takes no {job.file.size} bytes at once")

    def do(self, member: Member) -> None:
        job = member.job
        assert isinstance(job, UploadJob)  # noqa: S101 - of a bundle of uploads
        backend = member.store
        assert backend is not None  # noqa: S101 - prepared
        info = backend.stat(job.file)
        faults.point("upload.stat")
        if info is None:
            with self._buffers.borrow(job.file.size) as buffer:
                with FileStore.of(job.source).open(job.file.file_id) as local:
                    if local.size != job.file.size:
                        raise SourceChanged(f"file {job.file.file_id} has {local.size} bytes on this machine's disk")
                    local.read(0, buffer)
                digest = leaves.digest_of_leaf(job.file.leaf_digests, 0)
                if leaves.leaf_digest(buffer) != digest:
                    raise SourceChanged(f"file {job.file.file_id} on this machine's disk does not match its digest")
                told = backend.put(job.file, BufferBody(buffer, digest), self._meter_of(member))
                faults.point("upload.put")
            if told == digest or backend.capabilities.verifies_sha256:
                self._bundle.finished([member])
                return
            info = backend.stat(job.file)
            # Not every store tells a checksum. Of what was just sent it need not, of what it had before it has to.
            right = info is not None and info.size == job.file.size and (info.sha256 is None or _proves(info, job.file))
        else:
            right = _proves(info, job.file)
        if not right:
            raise ObjectDiffers(f"what store {job.destination.store_id} has is to be looked at")
        self._bundle.finished([member])


def _proves(info: ObjectInfo, file: FileSpec) -> bool:
    return leaves.object_is_file(
        file_bytes=file.size,
        leaf_digests=file.leaf_digests,
        object_bytes=info.size,
        object_sha256=info.sha256,
        object_composite_sha256=info.composite_sha256,
    )
