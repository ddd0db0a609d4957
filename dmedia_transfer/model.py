"""Frozen values: Transfer, LongJob, Entry, Progress, stores and files as a worker needs them, worker messages.

All of them are small and picklable, and cross threads and processes freely.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from dmedia_transfer import errors
from dmedia_transfer.errors import TransferError
from dmedia_transfer.states import Event, Reason, Status, advance

PRIORITY_LOW: Final = -10
PRIORITY_NORMAL: Final = 0
PRIORITY_HIGH: Final = 10
PRIORITY_NOW: Final = 100  # this and above preempts what is lower


class Direction(StrEnum):
    """Which way the bytes go, as seen from this machine."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


class Verb(StrEnum):
    """What a person can say to a transfer."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    PRIORITIZE = "prioritize"
    SPEND = "spend"  # go on over a connection that costs by the byte, too
    SPARE = "spare"  # not any more


class TransferKey(NamedTuple):
    """What makes two requests the same transfer: one download per file, one upload per file and store."""

    direction: Direction
    file_id: str
    store_id: str  # empty for a download: its store is a preference, not an identity

    def __str__(self) -> str:
        return f"{self.direction} {self.file_id}" + (f" to {self.store_id}" if self.store_id else "")


def random_id() -> str:
    """A new machine, store or entry ID: 120 random bits, base32, 24 characters."""
    return base64.b32encode(secrets.token_bytes(15)).decode("ascii")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request in a machine's queue; docs/documents.md says how it is written in a document."""

    file_id: str
    direction: Direction = Direction.DOWNLOAD
    store_id: str = ""  # a download's preferred source; where an upload goes
    id: str = ""  # empty where another device wrote none
    priority: int = PRIORITY_NORMAL
    paused: bool = False
    only: bool = False  # a download from `store_id` and nowhere else
    metered: bool = False  # also over a connection that costs by the byte
    time: float = 0.0  # Unix seconds, when it was asked for
    requested_by: str = ""
    moved: float = 0.0  # Unix seconds, when a person gave it its place in the queue; 0: it has the one it came to

    @property
    def key(self) -> TransferKey:
        """The transfer that this entry asks for."""
        return TransferKey(self.direction, self.file_id, self.store_id if self.direction is Direction.UPLOAD else "")

    @property
    def identity(self) -> str:
        """What the entry is known by: its `id`, or (action, file_id, store_id) where it has none."""
        return self.id or f"{self.direction}:{self.file_id}:{self.store_id}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it crosses a process or is kept in the journal."""

    kind: str  # the name of a class in `errors`, or of a foreign exception
    message: str  # one sentence for people
    transient: bool = False  # whether trying again can help
    reason: Reason | None = None  # what has to go away first
    retry_after_s: float | None = None  # when the server said to come back
    store_id: str = ""  # the store that it is about, if one is
    leaf: int | None = None  # the leaf that it is about, if one is

    @classmethod
    def of(cls, error: BaseException, *, store_id: str = "") -> Self:
        """Describe an exception; one that is not ours is a fault that trying again does not mend."""
        if isinstance(error, TransferError):
            return cls(
                kind=error.kind,
                message=str(error),
                transient=error.transient,
                reason=Reason(error.reason) if error.reason else None,
                retry_after_s=error.retry_after_s,
                store_id=error.store_id if isinstance(error, errors.CorruptLeaf | errors.LeafMissing) else store_id,
                leaf=error.leaf if isinstance(error, errors.CorruptLeaf | errors.LeafMissing) else None,
            )
        return cls(kind=type(error).__name__, message=f"{type(error).__name__}: {error}", store_id=store_id)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is."""

    bytes_done: int = 0
    bytes_total: int = 0  # 0 while the size is not known
    rate: float = 0.0  # bytes per second, smoothed
    eta_s: float | None = None  # seconds left, if that can be said


def _after(
    status: Status, reason: Reason | None, event: Event, new_reason: Reason | None
) -> tuple[Status, Reason | None]:
    """The status that follows, and its reason: only a suspension has one."""
    after = advance(status, event)
    if after is not Status.SUSPENDED:
        return after, None
    return after, new_reason if event is Event.SUSPEND else reason


class SourceState(StrEnum):
    """What a source of a download is doing."""

    ACTIVE = "active"  # leaves are being fetched from it
    WAITING = "waiting"  # it is not needed now, or does not have the leaves yet that are missing
    DEMOTED = "demoted"  # it failed, or what it gave was wrong: it is not asked for a while, or any more


@dataclass(frozen=True, slots=True)
class SourceUse:
    """How it goes with one source of a download, in the run that a worker is at."""

    store_id: str
    received_bytes: int = 0
    rate: float = 0.0  # bytes per second, smoothed
    state: SourceState = SourceState.WAITING
    reason: str = ""  # why it is demoted, or what it waits for


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file, one direction, and where to or from; what the manager knows of it."""

    key: TransferKey
    status: Status = Status.QUEUED
    reason: Reason | None = None  # why it is suspended
    priority: int = PRIORITY_NORMAL
    preferred_store: str = ""
    only: bool = False
    metered: bool = False  # also over a connection that costs by the byte
    progress: Progress = Progress()
    failure: Failure | None = None  # the last error, also while it is tried again
    attempts: int = 0  # failed ones in a row, since leaves last advanced
    sources: tuple[SourceUse, ...] = ()  # of the running attempt, in the order of preference
    requested_by: str = ""
    time: float = 0.0  # Unix seconds, when it was first asked for
    order: float = 0.0  # its place among equals

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)

    def on(self, event: Event, reason: Reason | None = None, **changes: Any) -> Self:
        """A copy after `event`; `reason` belongs to `suspend` and is dropped when the suspension ends.

        `changes` are of other fields, if some change with it.
        """
        status, why = _after(self.status, self.reason, event, reason)
        return replace(self, status=status, reason=why, **changes)


class Crossing:
    """What crosses to workers and back by the thousand: as its fields, and not by way of a state of its own.

    That is what a frozen dataclass with slots would do, and takes three times as long.
    """

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), tuple([getattr(self, name) for name in self.__match_args__])


@dataclass(frozen=True, slots=True)
class FileSpec(Crossing):
    """A file as workers and backends need it; the digests were checked against the ID."""

    file_id: str
    size: int
    leaf_digests: bytes = field(repr=False)  # packed, 32 bytes each
    ext: str = ""  # without the dot; checked, safe in names
    mime: str = ""  # a checked media type; empty where it is not known


@dataclass(frozen=True, slots=True)
class StoreSpec(Crossing):
    """A store as workers and backends need it: enabled on this machine, settings validated by its plugin."""

    store_id: str
    plugin: str  # a name in the table of backends, or `filestore`
    settings: Mapping[str, Any] = field(default_factory=dict)  # never a secret
    cost: int = 100  # cheaper sources are asked first: local disk 0, LAN 10, S3 100
    local: bool = False  # a FileStore of this machine
    login: str = ""  # where its credentials are: `keyring`, `profile:NAME`, or empty for boto3's own places


class JobKind(StrEnum):
    """What a long job does; a transfer is a job, too, but has a place of its own."""

    IMPORT = "import"  # copy files and folders into FileStores of this machine
    VERIFY = "verify"  # prove every file of a store anew


class JobKey(NamedTuple):
    """What a long job is known by."""

    kind: JobKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class FileOutcome(StrEnum):
    """What became of one file of a long job."""

    IMPORTED = "imported"
    KNOWN = "known"  # a file with this content was on this machine already
    SKIPPED = "skipped"  # it is nothing that can be imported: empty, a link, no file
    VERIFIED = "verified"
    CORRUPT = "corrupt"  # what the store has is not the file; the documents say so from now on
    MISSING = "missing"  # the documents said that it is in the store, and it is not; they say so no more
    FOUND = "found"  # it is in the store and is right, and no document said so; now one does
    GONE = "gone"  # it was removed, here and from the documents, while the job ran
    FAILED = "failed"

    @property
    def is_problem(self) -> bool:
        """Whether a person should look at it."""
        return self not in (FileOutcome.IMPORTED, FileOutcome.KNOWN, FileOutcome.VERIFIED, FileOutcome.GONE)


@dataclass(frozen=True, slots=True)
class JobProblem:
    """A file of a long job that a person should look at."""

    outcome: FileOutcome  # skipped, corrupt, missing, found or failed
    message: str  # one sentence for people
    path: str = ""  # of an import; what in it is no text is shown as such
    file_id: str = ""  # if it is known
    store_id: str = ""  # if it is about one
    leaves: tuple[int, ...] = ()  # that are corrupt, as far as it can be told which
    time: float = 0.0  # Unix seconds


@dataclass(frozen=True, slots=True)
class LongJob:
    """An import or a verification; what the daemon knows of it."""

    id: str  # 24 characters, as `random_id`
    kind: JobKind
    store_id: str = ""  # the store that is verified; the FileStore that is imported into, or empty: the emptiest
    paths: tuple[str, ...] = ()  # of an import: files and folders, absolute
    status: Status = Status.QUEUED
    reason: Reason | None = None  # why it is suspended
    progress: Progress = Progress()  # in bytes; the total grows until `listed`
    files_done: int = 0
    files_total: int = 0
    listed: bool = False  # the totals are known
    outcomes: Mapping[FileOutcome, int] = field(default_factory=dict)  # how many files each word is true of
    failure: Failure | None = None  # the last error, also while it is tried again
    attempts: int = 0  # failed ones in a row, with no file in between
    requested_by: str = ""
    time: float = 0.0  # Unix seconds, when it was asked for
    started: float = 0.0  # Unix seconds, when a worker had it first; 0: not yet
    ended: float = 0.0  # Unix seconds; 0: not yet

    @property
    def key(self) -> JobKey:
        """What it is known by."""
        return JobKey(self.kind, self.id)

    @property
    def problem_count(self) -> int:
        """How many files a person should look at."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_problem)

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)

    def on(self, event: Event, reason: Reason | None = None) -> Self:
        """A copy after `event`; `reason` belongs to `suspend` and is dropped when the suspension ends."""
        status, why = _after(self.status, self.reason, event, reason)
        return replace(self, status=status, reason=why)


# What the manager asks of a worker.


@dataclass(frozen=True, slots=True)
class Download(Crossing):
    """Fetch a file and publish it in a FileStore."""

    key: TransferKey
    file: FileSpec
    destination: StoreSpec  # a local FileStore
    sources: tuple[StoreSpec, ...]  # in the order of preference
    connections: int  # the most leaves fetched at once
    stall_s: float  # no byte for so long cuts a connection


@dataclass(frozen=True, slots=True)
class Upload(Crossing):
    """Send a file from a FileStore to a store."""

    key: TransferKey
    file: FileSpec
    source: StoreSpec  # a local FileStore that has the file
    destination: StoreSpec
    connections: int  # the most parts sent at once
    stall_s: float
    replaces: bool = False  # what is there was found corrupt: if it is not the file, it gives way


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove what an unfinished transfer left: a partial file, or an upload at a store."""

    key: TransferKey
    file: FileSpec | None  # not known for a file whose document is gone
    store: StoreSpec  # where the left-over is
    keep_current: bool = False  # of an upload: only what earlier uploads of the same transfer have left


Job = Download | Upload | Discard


@dataclass(frozen=True, slots=True)
class ScanFolders:
    """List in the journal what an import means."""

    key: JobKey
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScanStore:
    """List in the journal what a FileStore has."""

    key: JobKey
    store: StoreSpec


@dataclass(frozen=True, slots=True)
class ImportFiles:
    """Import what the journal lists."""

    key: JobKey
    paths: tuple[str, ...]  # as they were asked for: one that is gone is a drive that was pulled out
    destinations: tuple[StoreSpec, ...]  # local FileStores; for each file the one with the most room
    others: tuple[StoreSpec, ...]  # local FileStores in which a file is as good as imported


@dataclass(frozen=True, slots=True)
class VerifyFiles:
    """Prove these files of a store anew; each is in the journal's list."""

    key: JobKey
    store: StoreSpec
    files: tuple[FileSpec, ...]
    undocumented: tuple[str, ...]  # files (their IDs) that have no document, or none that can be believed
    said: frozenset[str]  # of all of them those that the documents say the store has
    stall_s: float


LongRun = ScanFolders | ScanStore | ImportFiles | VerifyFiles


@dataclass(frozen=True, slots=True)
class Run(Crossing):
    """Start this job; the worker is idle."""

    run_id: int  # unique in the daemon's life; later messages name it, so that a late one cannot hit another job
    job: Job | LongRun


@dataclass(frozen=True, slots=True)
class RunTogether(Crossing):
    """Start these transfers of small files; the worker is idle. Each run ends by itself, in any order."""

    runs: tuple[Run, ...]  # downloads, or uploads, of one leaf each


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let go of those of these runs that are not begun."""

    run_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """Pause: take nothing new; leaves of a download are cut, parts of an upload may finish within `grace_s`."""

    run_id: int
    grace_s: float


@dataclass(frozen=True, slots=True)
class CarryOn:
    """The pause was taken back before it came into force: go on as if nothing had been said."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Let go at once: cut what is in flight."""

    run_id: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut all connections and open new ones: the network changed, or the machine slept."""


@dataclass(frozen=True, slots=True)
class SetShare:
    """The worker's share of the bandwidth from now on; None is no limit."""

    download_bps: float | None  # bytes per second
    upload_bps: float | None


@dataclass(frozen=True, slots=True)
class UseSources:
    """A download has these sources from now on: new ones join, those that are not named leave."""

    run_id: int
    sources: tuple[StoreSpec, ...]  # in the order of preference


@dataclass(frozen=True, slots=True)
class Connect:
    """Work on so many leaves or parts at once from now on."""

    run_id: int
    connections: int


Command = Run | RunTogether | GiveBack | Drain | CarryOn | Stop | Cut | SetShare | Connect | UseSources


# What a worker reports.


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes moved. Sent at most ten times a second."""

    run_id: int
    bytes_done: int  # verified or confirmed, and in flight; the manager keeps it from going back
    leaves_done: int  # written, or confirmed; an advance starts the count of attempts anew
    sources: tuple[SourceUse, ...] = ()  # of a download: how it goes with each
    sent_bytes: int = 0  # payload that crossed the wire in this run, also what was cut or thrown away
    in_flight: tuple[int, ...] = ()  # leaves of a download, or parts of an upload from 1, that are on their way
    wrong: tuple[int, ...] = ()  # leaves that came and were not what they should be, and have not come right since


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"  # said by the pool of a worker that died
    ALONE = "alone"  # it could not be done together with others, and is to be tried by itself: then it tells why


@dataclass(frozen=True, slots=True)
class Ended(Crossing):
    """The run is over and the worker is idle again (or gone, when lost)."""

    run_id: int
    outcome: Outcome
    failure: Failure | None = None
    sent_bytes: int = 0  # payload that crossed the wire in this run, also what was cut


@dataclass(frozen=True, slots=True)
class Advanced:
    """A long job is further than before. Sent at most ten times a second, and at the end."""

    run_id: int
    bytes_done: int  # in this run: of files that were settled, and of the one in work
    outcomes: tuple[tuple[FileOutcome, int], ...]  # how many files were settled in this run, and how
    bytes_total: int = 0  # listed in this run
    files_total: int = 0


@dataclass(frozen=True, slots=True)
class Logged:
    """A line for the daemon's log."""

    level: int
    logger: str
    message: str
    key: TransferKey | JobKey | None
    code: tuple[str, int, str] = ("", 0, "")  # the file, line and function that logged it


@dataclass(frozen=True, slots=True)
class Several(Crossing):
    """What there is to say of several runs at once."""

    reports: tuple[Moved | Ended, ...]


Report = Moved | Ended | Several | Advanced | Logged


# Edits: what this machine wants changed in its documents. They wait in the journal's outbox until CouchDB has taken
# them, and doing one twice changes nothing.


@dataclass(frozen=True, slots=True)
class AddEntry:
    """Put a request at the end of the queue, unless one of this identity is there."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class RemoveEntries:
    """Take entries out of the queue: done, cancelled, removed."""

    identities: tuple[str, ...]  # `Entry.identity` of each


@dataclass(frozen=True, slots=True)
class ChangeEntries:
    """Change fields of entries that are in the queue."""

    identities: tuple[str, ...]
    paused: bool | None = None  # None: left as it is
    priority: int | None = None
    metered: bool | None = None


@dataclass(frozen=True, slots=True)
class MoveEntries:
    """Give entries another place in the queue, next to each other. Of two moves of an entry the later one counts."""

    identities: tuple[str, ...]
    before: str  # the identity of the entry that they come before; empty: to the end; not there: they stay
    time: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class RenewEntry:
    """Ask for an entry again: it gets a new `id`."""

    identity: str
    new_id: str


@dataclass(frozen=True, slots=True)
class PauseQueue:
    """Hold the whole queue, or let it go."""

    paused: bool


@dataclass(frozen=True, slots=True)
class RecordStored:
    """A store has so many copies of a file; 0 for a removal."""

    file_id: str
    store_id: str
    copies: int
    time: float  # Unix seconds; per store the later one wins
    corrupt: tuple[int, ...] | None = None  # the leaves that are corrupt there (empty: not known which), if it is


@dataclass(frozen=True, slots=True)
class AddFile:
    """There is a new file, and a store has it. If it has a document already, only the store is added to it."""

    file_id: str
    store_id: str
    size: int  # bytes
    leaf_digests: str  # packed, base64: it is kept as JSON
    time: float  # Unix seconds
    name: str = ""
    ext: str = ""
    mime: str = ""
    origin: str = ""

    @property
    def record(self) -> RecordStored:
        """The store's copy."""
        return RecordStored(self.file_id, self.store_id, copies=1, time=self.time)


QueueEdit = AddEntry | RemoveEntries | ChangeEntries | MoveEntries | RenewEntry | PauseQueue
FileEdit = RecordStored | AddFile
Edit = QueueEdit | FileEdit


@dataclass(frozen=True, slots=True)
class PendingEdit:
    """An edit in the outbox."""

    seq: int  # the order in which they were made
    edit: Edit
