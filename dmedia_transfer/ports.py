"""The interfaces through which the core reaches the edges; the edges implement them, the daemon joins them.

A new kind of store needs `Backend` and nothing else. Errors cross these borders as `errors.TransferError`
only: whatever a library raises is translated where the library is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import (
    Direction,
    Edit,
    Entry,
    Failure,
    FileSpec,
    Job,
    JobProblem,
    LongJob,
    LongRun,
    PendingEdit,
    StoreSpec,
    Transfer,
    TransferKey,
    Verb,
)
from dmedia_transfer.states import Status

Meter = Callable[[int], None]
"""Called with the number of bytes after each piece that moved; may wait (limits) or raise `Interrupted`."""


class Body(Protocol):
    """The bytes of a part or a whole small file, readable more than once."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    @property
    def sha256(self) -> bytes | None:
        """Its SHA-256, where that is known without reading it."""

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, in pieces of at most 1 MiB; a piece is good until the next is asked for."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do."""

    min_part_bytes: int = 1  # of every part but the last; S3: 5 MiB
    max_part_bytes: int = 5 * 1024**3
    max_parts: int = 10_000
    parallel_parts: bool = True  # parts may be sent in any order and at the same time
    verifies_sha256: bool = False  # the server refuses a part that does not match its SHA-256
    put_max_bytes: int = 8 * 1024 * 1024  # up to this size, one `put` instead of an upload in parts


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object."""

    size: int
    sha256: bytes | None = None  # of the whole object, 32 bytes
    composite_sha256: bytes | None = None  # SHA-256 over the SHA-256 of its parts, 32 bytes
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the server has confirmed."""

    number: int  # counted from 1
    size: int
    etag: str = ""  # as the server said it, quotes removed; for S3 usually the MD5 in hex
    sha256: bytes | None = None  # if the server told it


class Backend(Protocol):
    """One store, as one worker sees it. All calls may come from several threads at once and block.

    No call retries: one attempt, and the error says whether another can help. The core decides.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    def object_name(self, file: FileSpec) -> str:
        """Where the file goes, in full (`bucket/key`): kept in the journal, so that a change of settings is noticed."""

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What the store has under the file's name, or None."""

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` with the object's bytes from offset `start`.

        Raises:
            ObjectMissing: There is no such object.
            LeafMissing: A peer has a part of it, but not these bytes yet; ask for other leaves.
            SizeDisputed: The object ends before `into` is full.
            ConnectionLost: The connection ended or stalled; `into` is undefined.
        """

    def put(self, file: FileSpec, body: Body, meter: Meter) -> bytes | None:
        """Store a whole small file with one request.

        Returns:
            The SHA-256 of what it has now, if it said that in its answer: else it is asked.

        Raises:
            CorruptLeaf: The server saw other bytes than `body.sha256`.
        """

    def begin(self, file: FileSpec) -> str:
        """Begin an upload in parts and return its ID."""

    def put_part(self, file: FileSpec, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Send part `number` (from 1); sending it again replaces it.

        Raises:
            UploadGone: The upload was aborted, completed or has expired.
            CorruptLeaf: The server saw other bytes than `body.sha256`.
        """

    def list_parts(self, file: FileSpec, upload_id: str) -> list[Part]:
        """All parts that the server has of this upload, in order.

        Raises:
            UploadGone: The upload was aborted, completed or has expired.
        """

    def finish(self, file: FileSpec, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the parts one object under the file's name.

        Raises:
            UploadGone: The upload was aborted, completed (an answer that got lost) or has expired.
        """

    def abort(self, file: FileSpec, upload_id: str) -> None:
        """Forget an upload; one that is gone already is no error."""

    def abandon(self, object_name: str, upload_id: str) -> bool:
        """Forget an upload by the name that `object_name` once gave, maybe under older settings or for an unknown file.

        Returns:
            True when nothing of it is left: the upload is gone, or its list of parts is empty. Until then, call again:
            a part that was on its way can arrive after an abort.
        """

    def delete(self, file: FileSpec) -> None:
        """Remove the object; one that is not there is no error."""

    def cut(self) -> None:
        """Cut all connections, from another thread: calls in flight raise ConnectionLost, later ones connect anew."""

    def close(self) -> None:
        """Let go of connections. The backend is not used again."""


@runtime_checkable
class ListsUploads(Protocol):
    """What a backend may be able to do besides: uploads whose ID got lost can then be found."""

    def unstarted(self, object_name: str, since: float) -> list[str]:
        """The IDs of uploads to exactly this name that were begun after `since` and of which no part is there.

        Args:
            object_name: As `Backend.object_name` once gave it.
            since: Unix seconds, by the store's clock.
        """


class LocalFile(Protocol):
    """A complete file in a FileStore of this machine, open for reading. Several threads may read at once."""

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""

    def read(self, start: int, into: memoryview) -> None:
        """Fill `into` with the bytes from offset `start`.

        Raises:
            SourceChanged: The file ends before `into` is full.
            StoreMissing: The drive has gone away.
        """

    def close(self) -> None:
        """Let go of the file."""


class PartialFile(Protocol):
    """A file that is not complete yet: preallocated, written leaf by leaf, published when all are verified."""

    @property
    def identity(self) -> str:
        """Boot ID, mount and inode: leaf records made under another identity are not trusted."""

    def write_leaf(self, index: int, data: memoryview) -> None:
        """Write a verified leaf at its offset.

        Raises:
            DiskFull, StoreMissing: The leaf was not written, and earlier ones may not be on the disk either.
        """

    def copy_leaf(self, index: int, source: int) -> bool:
        """Have the file system copy a leaf out of an open file (its descriptor); False if it cannot.

        It is to be read back and verified before it is recorded.

        Raises:
            DiskFull, StoreMissing: As `write_leaf`.
        """

    def read_leaf(self, index: int, into: memoryview) -> bool:
        """Read a leaf back; False, and quickly so, if it was never written."""

    def publish(self) -> None:
        """Sync the data, make the file read-only, and give it its name. All leaves were verified."""

    def close(self) -> None:
        """Let go of the file and leave it as it is."""


class LeafRecords(Protocol):
    """Which leaves of a download were written: the journal's table `downloads`."""

    def load(self, key: TransferKey, store_id: str, identity: str) -> set[int]:
        """The leaves recorded under this identity; empty if it changed."""

    def record(self, key: TransferKey, store_id: str, identity: str, leaf: int) -> None:
        """A leaf was verified and written."""

    def record_all(self, key: TransferKey, store_id: str, identity: str, leaves: Iterable[int]) -> None:
        """Several leaves were."""

    def forget(self, key: TransferKey, store_id: str) -> None:
        """Drop all records: the file was published, discarded, or a write failed."""


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload that was begun: the journal's table `uploads`."""

    key: TransferKey
    object_name: str  # where it goes, as the backend names it (bucket/key): another one means another upload
    upload_id: str  # empty while only the intent is recorded
    part_leaves: int  # leaves per part
    time: float  # Unix seconds of the intent


class UploadRecords(Protocol):
    """Uploads begun and parts confirmed: the journal's tables `uploads` and `parts`."""

    def load(self, key: TransferKey) -> UploadRecord | None:
        """The upload that is under way for this transfer."""

    def parts(self, key: TransferKey) -> list[Part]:
        """The parts that the server has confirmed for it."""

    def ids_at(self, object_name: str) -> set[str]:
        """The IDs of all uploads to this name that are on record, whichever transfer and whether wanted or not."""

    def intend(self, record: UploadRecord) -> None:
        """An upload is about to be begun; durable when this returns."""

    def begun(self, key: TransferKey, upload_id: str) -> None:
        """The server gave it this ID; durable when this returns."""

    def confirmed(self, key: TransferKey, part: Part) -> None:
        """The server has confirmed a part."""

    def forget(self, key: TransferKey) -> None:
        """The upload was finished, or its abort is confirmed."""


class WorkerPool(Protocol):
    """Processes that run one job at a time, or small files together. Reports come back on the manager's thread."""

    def run(self, run_id: int, job: Job | LongRun) -> None:
        """Give the job to an idle worker, or to a new one."""

    def run_together(self, jobs: Mapping[int, Job]) -> None:
        """Give the transfers of small files, by the numbers of their runs, to one idle worker, or to a new one."""

    def give_back(self, run_ids: Collection[int]) -> None:
        """Have the worker of these runs, which were begun together, let go of those that it has not begun."""

    def drain(self, run_id: int, grace_s: float) -> None:
        """Ask the worker to pause; it reports `stopped` when it has let go."""

    def carry_on(self, run_id: int) -> None:
        """Take a drain back, if it has not come into force."""

    def stop(self, run_id: int) -> None:
        """Ask the worker to let go at once."""

    def set_share(self, run_id: int, download_bps: float | None, upload_bps: float | None) -> None:
        """The worker of this run has this share of the bandwidth from now on; None is no limit."""

    def connect(self, run_id: int, connections: int) -> None:
        """The worker of this run has so many connections from now on."""

    def use_sources(self, run_id: int, sources: Sequence[StoreSpec]) -> None:
        """The download of this run has these sources from now on, in the order of preference."""

    def cut(self) -> None:
        """All workers cut their connections and connect anew."""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file document, as the manager needs it."""

    file: FileSpec
    stored: Mapping[str, int]  # store ID → copies, removals (0) included
    corrupt: frozenset[str] = frozenset()  # stores in which what is there was found not to be the file


class Library(Protocol):
    """Documents, read and written for the manager on another thread; answers come as manager events."""

    def request_files(self, file_ids: Iterable[str]) -> None:
        """Read these file documents, in bulk; the manager is told of each."""

    def watch(self, file_ids: Iterable[str]) -> None:
        """Tell the manager when one of these file documents changes; replaces the ones watched so far."""

    def record(self) -> None:
        """What was found out of files waits in the journal's outbox: write it soon. Edits of the queue may wait."""

    def flush(self, *, left: int | None = None) -> None:
        """There are new edits in the journal's outbox: write them soon. `left` entries will be in the queue."""


class Inquiries(Protocol):
    """What the long jobs ask of the documents. Each is answered once, on the manager's thread, however late."""

    def read_files(
        self, file_ids: Sequence[str], answer: Callable[[Mapping[str, KnownFile | TransferError]], object]
    ) -> None:
        """Read these file documents."""

    def list_stored(
        self, store_id: str, after: str, limit: int, answer: Callable[[Sequence[tuple[str, int]]], object]
    ) -> None:
        """Find the files (ID and bytes) that a store has by their documents, in order, after this ID; fewer than
        `limit` mean that there are no more.
        """

    def flush(self) -> None:
        """There are new edits in the journal's outbox: write them soon."""


class Survey(Protocol):
    """The stores as planning sees them; quick."""

    def spec(self, store_id: str) -> StoreSpec:
        """How to reach a store.

        Raises:
            Unknown: There is no document for it, or its plugin is not known.
            AccessDenied: It was not enabled on this machine, or changed since.
            StoreMissing: A FileStore that is not mounted, or is on a machine that cannot be spoken to.
        """

    def holding(self, file_id: str) -> list[StoreSpec]:
        """The local FileStores that have the file, complete."""

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        """The FileStore to save to: one with a partial file already, else the one with the most free space.

        Raises:
            StoreMissing: This machine has no FileStore, or none is mounted.
            DiskFull: None has room above its floor.
        """


class Stores(Survey, Protocol):
    """The stores that this machine can use, and the FileStores that it has. Quick: called on the manager's thread."""

    def survey(self) -> AbstractContextManager[Survey]:
        """The same for many files in a moment: which stores there are is looked at once for all of them."""

    def partial(self, file_id: str) -> StoreSpec | None:
        """The local FileStore that has a part of the file, if one has."""

    def unfinished(self, before: float) -> list[tuple[str, StoreSpec]]:
        """The partial files (their IDs) that were last written to before this time (Unix seconds), and where."""

    def path(self, file_id: str) -> str | None:
        """Where a local FileStore has the file, complete."""

    def room(self) -> tuple[frozenset[str], int]:
        """The FileStores that are there now (their IDs), and the most bytes that one of them can take."""


class Outbox(Protocol):
    """Edits that CouchDB has not taken yet: the journal's table `outbox`."""

    def add(self, edits: Sequence[Edit], *, durable: bool = True) -> list[PendingEdit]:
        """Keep edits, in order, all or none. Those that are not `durable` outlive a kill, but not a power failure."""

    def pending(self, kinds: Collection[type[Edit]] = ()) -> list[PendingEdit]:
        """All that wait, in order; only those of these kinds, if any are named."""

    def taken(self, seqs: Iterable[int]) -> None:
        """CouchDB has these."""


class Ledger(Protocol):
    """What is remembered of transfers beyond the queue: the journal's history, failures and tombstones."""

    def failures(self) -> Mapping[str, Failure]:
        """Why transfers failed that nobody has retried or removed, by the identity of the entry."""

    def failed(self, key: TransferKey, identities: Sequence[str], failure: Failure, size: int) -> None:
        """A transfer has failed; its entries stay in the queue. The size of its file may not be known: 0."""

    def keep_failures(self, identities: Collection[str]) -> None:
        """Forget the failures of all entries but these: the others have left the queue."""

    def ended(self, key: TransferKey, identities: Sequence[str], status: Status, size: int) -> None:
        """A transfer is done or cancelled, and its entries do not come back."""

    def all_ended(self, endings: Sequence[tuple[TransferKey, Sequence[str], Status, int]]) -> None:
        """Many at once, as `ended` takes them, with one write."""

    def done(self) -> Iterable[tuple[TransferKey, float]]:
        """The transfers that were done last, and when (Unix seconds); not all that ever were."""

    def uploads(self) -> Mapping[TransferKey, float]:
        """The transfers of which something may be left at a store, and when that was begun last (Unix seconds)."""

    def gone_among(self, identities: Sequence[str]) -> set[str]:
        """Those of these entries that were done, cancelled or removed here before. Only of such that have an `id`."""


class Listener(Protocol):
    """Who wants to know what the manager does. Called on the manager's thread; must be quick and must not call back."""

    def transfer_added(self, transfer: Transfer) -> None:
        """There is a new transfer."""

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Status, reason, priority, error, sources or size changed; progress alone does not count."""

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes moved."""

    def transfer_removed(self, transfer: Transfer) -> None:
        """The transfer has ended and is gone, or nothing asks for it any more."""

    def summary_changed(self) -> None:
        """Something that is not of one transfer changed: limits, problems, the whole queue's pause."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The manager as a whole."""

    active: int  # transfers that a worker has
    queued: int  # transfers that wait, for whatever reason
    download_rate: float  # bytes per second
    upload_rate: float
    queue_paused: bool
    online: bool
    metered: bool
    download_limit_bps: float | None
    upload_limit_bps: float | None
    max_transfers: int
    problems: tuple[str, ...]  # what a person should look at: bad documents, an unreachable database
    connections: int = 4  # leaves or parts at once in one transfer
    timetable: str = ""  # limits by the time of day, as `limiter.Timetable` reads them


class Pieces(NamedTuple):
    """What a worker is at: leaves of a download, or parts of an upload, which count from 1."""

    in_flight: tuple[int, ...]
    wrong: tuple[int, ...]  # that came, were not what they should be, and have not come right since


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has crossed the network to or from one store since the daemon began."""

    direction: Direction
    store_id: str  # empty: it cannot be told any more which
    backend: str  # the plugin of the store: `s3`, `peer`, or that of a package; empty where it is not known
    bytes: int  # payload, also what was cut or thrown away; never less than it was


@dataclass(frozen=True)
class Vitals:
    """How the daemon's own parts are; what only metrics tell."""

    parts: Mapping[str, bool] = field(default_factory=dict)  # whether each of them is well, by its name
    workers: int = 0  # processes
    peers: int = 0  # other machines that are trusted
    traffic: Sequence[Traffic] = ()
    served: Mapping[Direction, int] = field(default_factory=dict)  # bytes that peers have fetched (upload) and sent


class Control(Protocol):
    """What D-Bus, REST and the command line ask of the manager. On the manager's thread only; never blocks.

    Commands about one transfer say whether they changed anything, and raise `Unknown` for a transfer that is not there.
    """

    def queue(self, entries: Sequence[Entry]) -> list[TransferKey]:
        """Ask for transfers: durable when this returns, and started at once. Entries need no `id` or `time`."""

    def resolve(self, file_id: str) -> tuple[str, str]:
        """("here", path) if the file is on this machine, else (status, ""), the file being queued as "now"."""

    def pause(self, key: TransferKey) -> bool:
        """A person wants it paused."""

    def resume(self, key: TransferKey) -> bool:
        """A person wants it to go on."""

    def cancel(self, key: TransferKey) -> bool:
        """A person does not want it any more; what has arrived is removed."""

    def retry(self, key: TransferKey) -> bool:
        """A person wants a failed one tried again."""

    def set_priority(self, key: TransferKey, priority: int) -> bool:
        """A person wants it sooner or later."""

    def set_metered(self, key: TransferKey, metered: bool) -> bool:
        """A person wants it to go on over a connection that costs by the byte, too; or not any more."""

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        """A person wants these to come just before another one, with its priority; or after all others: None."""

    def pause_all(self) -> bool:
        """Hold the whole queue, new entries too; each transfer keeps its own status."""

    def resume_all(self) -> bool:
        """Let the queue go on."""

    def set_limits(
        self,
        *,
        download_bps: float | None = ...,
        upload_bps: float | None = ...,
        max_transfers: int | None = ...,
        connections: int | None = ...,
        timetable: str | None = ...,
    ) -> None:
        """Change limits from now on; what is not given stays. A rate of 0 is no limit, an empty timetable is none.

        Raises:
            InvalidRequest: Naming the limit and the value.
        """

    def transfers(self) -> Mapping[TransferKey, Transfer]:
        """All transfers that have not been removed, also those that ended a moment ago."""

    def pieces(self, key: TransferKey) -> Pieces:
        """What is on its way of a transfer; raises `Unknown` if there is none."""

    def summary(self) -> Summary:
        """The manager as a whole."""

    def subscribe(self, listener: Listener) -> None:
        """Tell this listener from now on."""

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it no more."""


class MachineQueue(Protocol):
    """The queue of another machine, or of this one without its daemon, in the machine's document. Every call blocks."""

    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask for transfers, unless they are asked for already."""

    def transfers(self) -> Sequence[Transfer]:
        """All that are wanted, in order, and what the machine said last of each."""

    def held(self) -> bool:
        """Whether the whole queue is paused."""

    def problems(self) -> Sequence[str]:
        """What a person should look at."""

    def steer(self, verb: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        """Say something to transfers; returns those for which it changed something."""

    def hold(self, held: bool) -> bool:
        """Pause the whole queue, or let it go on; says whether that changed anything."""

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        """See `Control.put_before`."""


class JobListener(Protocol):
    """Who wants to know of the long jobs. Called on the manager's thread; must be quick and must not call back."""

    def job_added(self, job: LongJob) -> None:
        """There is a new job."""

    def job_changed(self, before: LongJob, after: LongJob) -> None:
        """Status, reason, error, totals or problems changed; progress alone does not count."""

    def job_moved(self, job: LongJob) -> None:
        """It is further than before."""

    def job_removed(self, job: LongJob) -> None:
        """The job has ended long ago, or somebody forgot it."""


class JobControl(Protocol):
    """What D-Bus, REST and the command line ask of the long jobs. On the manager's thread only; never blocks.

    Statuses, reasons and what follows on what are those of transfers (`states`). Commands about one job say whether
    they changed anything, and raise `Unknown` for a job that is not there. A job that ended is kept for a while: the
    last ones can be looked at, also after a restart.
    """

    def import_files(self, paths: Sequence[str], *, store_id: str = "", requested_by: str = "") -> str:
        """Import files, and folders with all that is in them. Durable when this returns, and started at once if it can.

        Args:
            paths: Absolute; they are read, never written to.
            store_id: The FileStore to copy into; empty: for each file the one with the most room.
            requested_by: Who asks, for people to read.

        Returns:
            The ID of the job.

        Raises:
            InvalidRequest: A path is not absolute, not there or not readable; the message names it.
            Unknown: This machine has no such FileStore.
            StoreMissing: It is not mounted, or this machine has none.
        """

    def verify(self, store_id: str, *, requested_by: str = "") -> str:
        """Prove every file of a store anew: a FileStore of this machine, or one that it can reach.

        Returns:
            The ID of the job; that of the one that is under way, if one is for this store.

        Raises:
            Unknown, AccessDenied, StoreMissing: As `Stores.spec`.
        """

    def jobs(self) -> Mapping[str, LongJob]:
        """All jobs by ID, the oldest first, also those that ended."""

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> Sequence[JobProblem]:
        """What a person should look at, in the order in which it was found."""

    def pause(self, job_id: str) -> bool:
        """A person wants it paused; within a second it is."""

    def resume(self, job_id: str) -> bool:
        """A person wants it to go on."""

    def cancel(self, job_id: str) -> bool:
        """A person does not want it any more. What was imported stays, what was found stays in the documents."""

    def retry(self, job_id: str) -> bool:
        """A person wants a failed one to go on."""

    def forget(self, job_id: str) -> bool:
        """A person does not want to see one that has ended any more; False for one that has not."""

    def heal(self, file_id: str) -> TransferKey:
        """Bring a corrupt or missing file to this machine again, out of what is good of the corrupt copy and the rest
        from other stores; the download has the priority "high".

        Returns:
            The download.
        """

    def subscribe(self, listener: JobListener) -> None:
        """Tell this listener from now on."""

    def unsubscribe(self, listener: JobListener) -> None:
        """Tell it no more."""
