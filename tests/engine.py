"""What downloads and uploads work with, in memory: a local disk, a journal, and a store that fails as a test says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.backends import memory
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.download import Download, Source
from dmedia_transfer.errors import SourceChanged, TransferError
from dmedia_transfer.model import Direction, FileSpec, StoreSpec, TransferKey
from dmedia_transfer.multipart import bodies
from dmedia_transfer.ports import Body, Meter, Part, UploadRecord
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload import Upload
from tests.factories import STORE_ID
from tests.waiting import WAIT_S

HOME_ID = "H" * 24


@pytest.fixture(scope="module")
def small_leaves_for_all() -> Iterator[int]:
    """Leaves of 4 KiB in pieces of 1 KiB, so that a file of many leaves is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaves, "LEAF_BYTES", 4096)
        patch.setattr(bodies, "PIECE_BYTES", 1024)
        patch.setattr(memory, "PIECE_BYTES", 1024)
        yield 4096


@pytest.fixture
def small_leaves(small_leaves_for_all: int) -> int:
    """As `small_leaves_for_all`, for a test by itself."""
    return small_leaves_for_all


@dataclass
class Journal:
    """Leaf and upload records, as the journal keeps them; refuses what the core must not do."""

    leaves: dict[tuple[TransferKey, str], dict[str, set[int]]] = field(default_factory=dict)
    uploads: dict[TransferKey, UploadRecord] = field(default_factory=dict)
    confirmed_parts: dict[TransferKey, dict[int, Part]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def leaf_records(self) -> LeafJournal:
        return LeafJournal(self)

    @property
    def upload_records(self) -> UploadJournal:
        return UploadJournal(self)


@dataclass
class LeafJournal:
    journal: Journal

    def load(self, key: TransferKey, store_id: str, identity: str) -> set[int]:
        return set(self.journal.leaves.get((key, store_id), {}).get(identity, set()))

    def record(self, key: TransferKey, store_id: str, identity: str, leaf: int) -> None:
        self.record_all(key, store_id, identity, (leaf,))

    def record_all(self, key: TransferKey, store_id: str, identity: str, leaves: Iterable[int]) -> None:
        with self.journal.lock:
            self.journal.leaves.setdefault((key, store_id), {}).setdefault(identity, set()).update(leaves)

    def forget(self, key: TransferKey, store_id: str) -> None:
        with self.journal.lock:
            self.journal.leaves.pop((key, store_id), None)


@dataclass
class UploadJournal:
    journal: Journal

    def load(self, key: TransferKey) -> UploadRecord | None:
        return self.journal.uploads.get(key)

    def parts(self, key: TransferKey) -> list[Part]:
        return [part for _, part in sorted(self.journal.confirmed_parts.get(key, {}).items())]

    def ids_at(self, object_name: str) -> set[str]:
        there = [record for record in self.journal.uploads.values() if record.object_name == object_name]
        return {record.upload_id for record in there if record.upload_id}

    def intend(self, record: UploadRecord) -> None:
        self.journal.uploads[record.key] = record
        self.journal.confirmed_parts[record.key] = {}

    def begun(self, key: TransferKey, upload_id: str) -> None:
        self.journal.uploads[key] = replace(self.journal.uploads[key], upload_id=upload_id)

    def confirmed(self, key: TransferKey, part: Part) -> None:
        with self.journal.lock:
            self.journal.confirmed_parts[key][part.number] = part

    def forget(self, key: TransferKey) -> None:
        self.journal.uploads.pop(key, None)
        self.journal.confirmed_parts.pop(key, None)


class Disk:
    """A FileStore in memory."""

    def __init__(self, store_id: str = HOME_ID) -> None:
        self.store_id = store_id
        self.files: dict[str, bytes] = {}
        self.partials: dict[str, DiskPartial] = {}
        self.identity = "boot-1"
        self.fail_write: Callable[[int], TransferError | None] = lambda index: None
        self.fail_publish: TransferError | None = None
        self.writes: Counter[int] = Counter()

    def has(self, file_id: str) -> bool:
        return file_id in self.files

    def partial(self, file_id: str, size: int) -> DiskPartial:
        found = self.partials.setdefault(file_id, DiskPartial(self, file_id, size))
        found.closed = False
        return found

    def open(self, file: FileSpec) -> DiskFile:
        return DiskFile(self.files[file.file_id])


class DiskPartial:
    def __init__(self, disk: Disk, file_id: str, size: int) -> None:
        self.disk = disk
        self.file_id = file_id
        self.size = size
        self.data = bytearray(size)
        self.closed = False

    @property
    def identity(self) -> str:
        return self.disk.identity

    def write_leaf(self, index: int, data: memoryview) -> None:
        assert not self.closed
        error = self.disk.fail_write(index)
        if error is not None:
            raise error
        span = leaves.leaf_span(self.size, index)
        assert len(data) == span.size
        self.data[span.start : span.end] = data
        self.disk.writes[index] += 1

    def copy_leaf(self, index: int, source: int) -> bool:
        return False

    def read_leaf(self, index: int, into: memoryview) -> bool:
        span = leaves.leaf_span(self.size, index)
        into[: span.size] = self.data[span.start : span.end]
        return True

    def publish(self) -> None:
        assert not self.closed
        if self.disk.fail_publish is not None:
            raise self.disk.fail_publish
        self.disk.files[self.file_id] = bytes(self.data)
        del self.disk.partials[self.file_id]

    def close(self) -> None:
        self.closed = True


class DiskFile:
    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, into: memoryview) -> None:
        piece = self.data[start : start + len(into)]
        if len(piece) < len(into):
            raise SourceChanged("the file is too short")
        into[:] = piece

    def close(self) -> None:
        pass


Hook = Callable[["FlakyStore", str, int], None]


class FlakyStore:
    """A memory backend that counts calls, and on which a test's hook may raise before or after any of them.

    Hooks are called with the store, the verb and the leaf, the part's number or 0.
    """

    def __init__(self, store_id: str = STORE_ID, **settings: Any) -> None:
        self.store_id = store_id
        self.cost = 100  # as a source of a download
        settings.setdefault("put_max_bytes", leaves.LEAF_BYTES)
        memory._shared.pop(store_id, None)
        self.backend = MemoryBackend(StoreSpec(store_id, "memory", settings))
        self.direct = MemoryBackend(StoreSpec(store_id, "memory", settings | {"rate_bps": 0}))  # for tests' own use
        self.before: Hook = lambda store, verb, number: None
        self.after: Hook = lambda store, verb, number: None
        self.garble: Callable[[int], bool] = lambda leaf: False
        self.calls: Counter[tuple[str, int]] = Counter()
        self.cuts = 0
        self.lock = threading.Lock()

    def put_whole(self, data: bytes, file: FileSpec) -> None:
        """Have an object there, as if somebody had sent it with one request."""
        self.direct.put(file, bodies.BufferBody(data), lambda count: None)

    def object(self, file: FileSpec) -> bytes | None:
        """What is under the file's name."""
        info = self.direct.stat(file)
        if info is None:
            return None
        data = bytearray(info.size)
        self.direct.fetch(replace(file, size=info.size), 0, memoryview(data), lambda count: None)
        return bytes(data)

    def count(self, verb: str) -> int:
        """How often a verb was called."""
        return sum(count for (name, _), count in self.calls.items() if name == verb)

    @property
    def capabilities(self) -> Any:
        return self.backend.capabilities

    def object_name(self, file: FileSpec) -> str:
        return self.backend.object_name(file)

    def stat(self, file: FileSpec) -> Any:
        return self._call("stat", 0, lambda: self.backend.stat(file))

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        leaf = start // leaves.LEAF_BYTES
        self._call("fetch", leaf, lambda: self.backend.fetch(file, start, into, meter))
        if self.garble(leaf):
            into[0] ^= 1

    def put(self, file: FileSpec, body: Body, meter: Meter) -> bytes | None:
        told = self._call("put", 0, lambda: self.backend.put(file, body, meter))
        assert told is None or isinstance(told, bytes)
        return told

    def begin(self, file: FileSpec) -> str:
        return str(self._call("begin", 0, lambda: self.backend.begin(file)))

    def put_part(self, file: FileSpec, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        part = self._call("put_part", number, lambda: self.backend.put_part(file, upload_id, number, body, meter))
        assert isinstance(part, Part)
        return part

    def list_parts(self, file: FileSpec, upload_id: str) -> list[Part]:
        return list(self._call("list_parts", 0, lambda: self.backend.list_parts(file, upload_id)))

    def finish(self, file: FileSpec, upload_id: str, parts: Sequence[Part]) -> None:
        self._call("finish", 0, lambda: self.backend.finish(file, upload_id, parts))

    def abort(self, file: FileSpec, upload_id: str) -> None:
        self._call("abort", 0, lambda: self.backend.abort(file, upload_id))

    def abandon(self, object_name: str, upload_id: str) -> bool:
        return bool(self._call("abandon", 0, lambda: self.backend.abandon(object_name, upload_id)))

    def unstarted(self, object_name: str, since: float) -> list[str]:
        return list(self._call("unstarted", 0, lambda: self.backend.unstarted(object_name, since)))

    def delete(self, file: FileSpec) -> None:
        self._call("delete", 0, lambda: self.backend.delete(file))

    def cut(self) -> None:
        self.cuts += 1
        self.backend.cut()

    def close(self) -> None:
        self.backend.close()

    def _call(self, verb: str, number: int, call: Callable[[], Any]) -> Any:
        with self.lock:
            self.calls[verb, number] += 1
        self.before(self, verb, number)
        result = call()
        self.after(self, verb, number)
        return result


class Shown:
    """The progress that listeners saw; it must never go back or beyond the total."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.last = 0
        self.lock = threading.Lock()

    def __call__(self, tally: Tally) -> None:
        with self.lock:
            done = tally.bytes_done
            assert self.last <= done <= self.total, (self.last, done, self.total)
            self.last = done


def no_pace(count: int) -> None:
    """No bandwidth limit."""


@dataclass
class Rig:
    """One file, its key, a disk, a journal and a store."""

    data: bytes
    file: FileSpec
    direction: Direction
    disk: Disk = field(default_factory=Disk)
    journal: Journal = field(default_factory=Journal)
    connections: int = 3

    @property
    def key(self) -> TransferKey:
        return TransferKey(self.direction, self.file.file_id, STORE_ID if self.direction is Direction.UPLOAD else "")

    def download(self, *stores: Any, crew: Crew | None = None, tally: Tally | None = None) -> Download:
        """A new run of the download."""
        return Download(
            self.key,
            self.file,
            sources=[Source(store.store_id, store, store.cost) for store in stores],
            destination=self.disk,
            records=self.journal.leaf_records,
            crew=crew or Crew(self.connections),
            buffers=LeafBuffers(self.connections),
            tally=tally or Tally(self.file.size, Shown(self.file.size)),
            pace=no_pace,
        )

    def upload(
        self, store: Any, *, crew: Crew | None = None, tally: Tally | None = None, replaces: bool = False
    ) -> Upload:
        """A new run of the upload."""
        return Upload(
            self.key,
            self.file,
            local=self.disk.open(self.file),
            backend=store,
            records=self.journal.upload_records,
            crew=crew or Crew(self.connections),
            buffers=LeafBuffers(self.connections),
            tally=tally or Tally(self.file.size, Shown(self.file.size)),
            pace=no_pace,
            replaces=replaces,
        )

    def recorded(self) -> set[int]:
        """The leaves on record."""
        return self.journal.leaf_records.load(self.key, self.disk.store_id, self.disk.identity)

    def parts_on_record(self) -> list[int]:
        """The numbers of the parts on record."""
        return [part.number for part in self.journal.upload_records.parts(self.key)]


def once(error: Exception, verb: str, number: int | None = None) -> Hook:
    """A hook that raises at the first such call."""
    raised = iter([True])

    def hook(store: FlakyStore, called: str, at: int) -> None:
        if called == verb and number in (None, at) and next(raised, False):
            raise error

    return hook


def always(error: Exception, verb: str, number: int | None = None) -> Hook:
    """A hook that raises at every such call."""

    def hook(store: FlakyStore, called: str, at: int) -> None:
        if called == verb and number in (None, at):
            raise error

    return hook


def in_background(run: Callable[[], None]) -> Iterator[BaseException | None]:
    """Run on another thread; the second `next` waits for the end and says what it raised."""
    outcome: list[BaseException | None] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    yield None
    thread.join(WAIT_S)
    assert not thread.is_alive(), "it does not end"
    yield outcome[0]
