"""What goes over the wire, as pydantic models: they check what comes in, and describe all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from dmedia_transfer import leaves
from dmedia_transfer.advice import WAITS_FOR, what_to_do
from dmedia_transfer.errors import InvalidRequest, shown
from dmedia_transfer.model import (
    Direction,
    FileOutcome,
    JobKind,
    JobProblem,
    LongJob,
    SourceState,
    SourceUse,
    Transfer,
    TransferKey,
)
from dmedia_transfer.states import Reason, Status

MOST_FILES: Final = 10_000  # in one request
_PRIORITY_MAX: Final = 1_000_000
_LONG: Final = 2**53 - 1  # what every JSON reader takes as it is


class Model(BaseModel):
    """Of the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _digits(value: object) -> object:
    """In a query: pydantic would take ` 5` and `5.0` for numbers as well."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal() and len(value) <= 9):
        raise ValueError("should be a number")
    return value


def _whole(value: object) -> object:
    """In a body: to JSON, 8.0 is as whole as 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


FileId = Annotated[str, Field(pattern="^[A-Z2-7]{48}$", description="48 characters of base32")]
StoreId = Annotated[str, Field(pattern="^[A-Z2-7]{24}$", description="24 characters of base32")]
StoreIdOrNone = Annotated[str, Field(pattern="^([A-Z2-7]{24})?$", description="24 characters of base32, or empty")]
MachineId = Annotated[str, Field(pattern="^[A-Z2-7]{24}$", description="24 characters of base32")]
JobId = Annotated[str, Field(pattern="^[A-Z2-7]{24}$", description="24 characters of base32")]
TransferId = Annotated[
    str,
    Field(
        pattern="^(download-[A-Z2-7]{48}|upload-[A-Z2-7]{48}-[A-Z2-7]{24})$",
        description="`download-FILE_ID` or `upload-FILE_ID-STORE_ID`",
    ),
]
Priority = Annotated[
    int,
    Field(
        ge=-_PRIORITY_MAX,
        le=_PRIORITY_MAX,
        description="low is -10, normal 0, high 10; 100 is now, and takes the place of what is lower",
    ),
    BeforeValidator(_whole),
]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(description="Unix seconds")]
Offset = Annotated[int, Field(ge=0, le=10_000_000, description="how many to pass over"), BeforeValidator(_digits)]
PageSize = Annotated[int, Field(ge=1, le=1000, description="at most so many"), BeforeValidator(_digits)]
Text = Annotated[str, Field(max_length=256)]


def transfer_id(key: TransferKey) -> str:
    """A transfer's ID in paths and answers."""
    return f"{key.direction}-{key.file_id}" + (f"-{key.store_id}" if key.store_id else "")


def key_of(text: str) -> TransferKey:
    """The way back, for what `TransferId` has let through."""
    direction, _, rest = text.partition("-")
    file_id, _, store_id = rest.partition("-")
    if not leaves.is_file_id(file_id):
        raise InvalidRequest(f"{shown(text)} is not the ID of a transfer")
    return TransferKey(Direction(direction), file_id, store_id)


class OfMachine(Model):
    """Which machine is meant."""

    machine: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="another machine of the library: its ID, or its hostname; this one if it is left out"
    )


class ErrorOut(Model):
    """An error that a transfer or job has met."""

    kind: str = Field(description="the name of the error, as on D-Bus, without `org.dmedia.Transfer1.Error.`")
    message: str = Field(description="one sentence for people")
    advice: str = Field(description="what a person can do; empty if nothing can be said that helps")
    store_id: str = Field(description="the store that it is about; empty if it is about none")


class SourceUseOut(Model):
    """How a download goes with one of its sources."""

    store_id: StoreId
    received_bytes: Count = Field(description="in this attempt, also what was thrown away")
    rate: float = Field(description="bytes per second", ge=0)
    state: SourceState
    reason: str = Field(description="why it does not give, in words; else empty")

    @classmethod
    def of(cls, use: SourceUse) -> SourceUseOut:
        """What is told of it."""
        return cls(
            store_id=use.store_id,
            received_bytes=use.received_bytes,
            rate=max(0.0, use.rate),
            state=use.state,
            reason=use.reason,
        )


class TransferOut(Model):
    """A transfer: one file, one direction, and where to or from."""

    id: TransferId
    action: Direction
    file_id: FileId
    store_id: StoreIdOrNone = Field(description="where an upload goes; a download's preferred source, or empty")
    name: str | None = Field(description="the file's name; null while its document was not read yet")
    status: Status
    reason: Reason | None = Field(description="why it is suspended")
    why: str = Field(description="why it does not move, in words; empty if it does, or could")
    priority: int
    bytes_done: Count
    bytes_total: Count = Field(description="0 while the size is not known")
    rate: float = Field(description="bytes per second", ge=0)
    eta_s: float | None = Field(description="seconds left, if that can be said")
    error: ErrorOut | None = Field(description="the last error, also while it is tried again")
    attempts: Count = Field(description="failed ones in a row")
    sources: list[SourceUseOut] = Field(description="where a download that is under way comes from")
    only: bool = Field(description="from `store_id` and from nowhere else")
    metered: bool = Field(description="also over a connection that costs by the byte")
    requested_by: str
    time: Seconds = Field(description="Unix seconds, when it was first asked for")
    order: float = Field(description="its place among those of its priority; the lower is sooner")

    @classmethod
    def of(cls, transfer: Transfer, name: str | None) -> TransferOut:
        """What is told of a transfer."""
        key, progress = transfer.key, transfer.progress
        return cls(
            id=transfer_id(key),
            action=key.direction,
            file_id=key.file_id,
            store_id=key.store_id or transfer.preferred_store,
            name=name,
            status=transfer.status,
            reason=transfer.reason,
            why=_why(transfer),
            priority=transfer.priority,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            rate=max(0.0, progress.rate),
            eta_s=progress.eta_s,
            error=_error(transfer),
            attempts=transfer.attempts,
            sources=[SourceUseOut.of(use) for use in transfer.sources],
            only=transfer.only,
            metered=transfer.metered,
            requested_by=transfer.requested_by,
            time=transfer.time,
            order=transfer.order,
        )


def _why(transfer: Transfer) -> str:
    error = str(transfer.failure or "")
    if transfer.status is Status.SUSPENDED and transfer.reason is not None:
        return f"waits for {WAITS_FOR[transfer.reason]}" + (f": {error}" if error else "")
    if transfer.status is Status.FAILED:
        return f"failed: {error}" if error else "failed"
    if transfer.status in (Status.PAUSED, Status.PAUSING):
        return "paused by a person"
    return ""


def _error(transfer: Transfer) -> ErrorOut | None:
    failure = transfer.failure
    if failure is None:
        return None
    advice = what_to_do(failure.message, kind=failure.kind, reason=transfer.reason)
    return ErrorOut(kind=failure.kind, message=failure.message, advice=advice, store_id=failure.store_id)


class TransferQuery(OfMachine):
    """Which transfers are wanted."""

    status: list[Status] = Field(default=[], description="only those that are so")
    action: Direction | None = Field(None, description="only downloads, or only uploads")
    file_id: FileId | None = Field(None, description="only those of this file")
    store_id: StoreId | None = Field(None, description="only those to this store, or that prefer it")
    sort: Literal["queue", "urgency", "newest"] = Field(
        "queue",
        description="`queue`: as they come up, what has ended last; `urgency`: what moves first, then what has failed, "
        "what waits and what is paused; `newest`: what was asked for last first",
    )
    offset: Offset = 0
    limit: PageSize = 100


class TransferPage(Model):
    """Some transfers."""

    items: list[TransferOut]
    total: Count = Field(description="how many there are in all that are wanted")
    event_id: str = Field(description="up to which event this takes all into account; empty of another machine")


class _NewTransfers(Model):
    file_ids: list[FileId] = Field(min_length=1, max_length=MOST_FILES)
    metered: bool = Field(False, description="also over a connection that costs by the byte")
    priority: Priority = 0
    paused: bool = Field(False, description="wait until somebody resumes them")
    requested_by: Text = Field("", description="who asks, for people to read")


class NewDownloads(_NewTransfers):
    """Bring files here: one, or thousands."""

    action: Literal["download"]
    store_id: StoreIdOrNone = Field("", description="the preferred source; empty: the cheapest that has the file")
    only_from: StoreIdOrNone = Field("", description="from this store and from nowhere else")


class NewUploads(_NewTransfers):
    """Send files to a store: one, or thousands."""

    action: Literal["upload"]
    store_id: StoreId = Field(description="where they go")


class NewTransfers(RootModel[Annotated[NewDownloads | NewUploads, Field(discriminator="action")]]):
    """Ask for transfers."""


class Queued(Model):
    """What was asked for."""

    ids: list[TransferId] = Field(description="the transfers, in the order of `file_ids`")


class Changed(Model):
    """What a command did."""

    changed: bool = Field(description="whether it made a difference")


class NewPriority(Model):
    """How soon."""

    priority: Priority


class NewMetered(Model):
    """Whether it may cost."""

    metered: bool = Field(description="also over a connection that costs by the byte")


class NewPlace(Model):
    """Another place in the queue."""

    ids: list[TransferId] = Field(min_length=1, max_length=1000, description="these, next to each other")
    before: TransferId | None = Field(description="come just before this one, and get its priority; null: after all")


class Many(Model):
    """A command to many transfers."""

    verb: Literal["pause", "resume", "cancel", "retry", "prioritize", "spend", "spare"]
    ids: list[TransferId] = Field(min_length=1, max_length=MOST_FILES)
    priority: Priority = Field(0, description="for `prioritize`")


class ManyChanged(Model):
    """What a command to many transfers did."""

    changed: list[TransferId] = Field(description="those for which it made a difference")
    unknown: list[TransferId] = Field(description="those that are not there")


class SummaryOut(Model):
    """A machine as a whole."""

    version: str = Field(description="of the daemon; empty of another machine")
    machine_id: MachineId
    hostname: str
    time: Seconds = Field(description="Unix seconds, when this was so: of another machine, when it told of it last")
    active: Count = Field(description="transfers that a worker has")
    queued: Count = Field(description="transfers that wait, for whatever reason")
    counts: dict[Status, int] = Field(description="how many transfers are in each status")
    download_rate: float = Field(description="bytes per second")
    upload_rate: float = Field(description="bytes per second")
    queue_paused: bool
    online: bool
    metered: bool
    problems: Count = Field(description="how many things a person should look at")
    event_id: str = Field(description="up to which event this takes all into account; empty of another machine")


class QueueOut(Model):
    """The whole queue."""

    paused: bool
    entries: Count = Field(description="transfers that have not ended")


class MachineOut(Model):
    """A machine of the library."""

    id: MachineId
    hostname: str
    this: bool = Field(description="whether it is the one that answers")
    forgotten: bool = Field(description="whether it is trusted no more")
    queued: Count | None = Field(description="entries of its queue; null if that cannot be read")
    queue_paused: bool
    heard: float | None = Field(description="Unix seconds, when it said something of itself last; null: never")
    counts: dict[str, int] = Field(description="how many transfers are in each status, as it told")
    download_rate: float = Field(description="bytes per second, as it told")
    upload_rate: float = Field(description="bytes per second, as it told")
    problems: list[str]


class Machines(Model):
    """All machines of the library."""

    items: list[MachineOut]


class StoreOut(Model):
    """A store: a place that keeps files."""

    id: StoreId
    name: str
    plugin: str = Field(description="`filestore`, `s3`, or that of a package")
    where: str = Field(description="the folder, or the bucket and its server")
    local: bool = Field(description="whether it is a FileStore of this machine")
    machine_id: str = Field(description="the machine that has it, for a FileStore; else empty")
    usable: bool = Field(description="whether this machine can use it now")
    problem: str = Field(description="why it cannot; else empty")
    advice: str = Field(description="what a person can do about that")
    copies: Count = Field(description="how many copies it counts for")
    total_bytes: int | None = Field(description="the size of its disk; null where that is not known")
    free_bytes: int | None = Field(description="what can still be written, above the floor; null where not known")


class Stores(Model):
    """All stores."""

    items: list[StoreOut]


class TroubleOut(Model):
    """Something that a person should look at."""

    message: str = Field(description="what is wrong")
    advice: str = Field(description="what to do; empty if nothing can be said that helps")
    transfer_id: TransferId | None = Field(description="the transfer that it is about")
    file_id: FileId | None = Field(description="the file that it is about")
    store_id: StoreIdOrNone = Field("", description="the store that it is about, if it is about one")
    job_id: JobId | None = Field(description="the job that found it")
    can: list[Literal["retry", "cancel", "heal", "upload"]] = Field(
        description="what helps with one request: `retry` and `cancel` of the transfer, `heal` of the file, "
        "`upload` of the file to the store"
    )


class Troubles(Model):
    """All that a person should look at."""

    items: list[TroubleOut]


class PageQuery(Model):
    """Which part of a list."""

    offset: Offset = 0
    limit: PageSize = 100


class HistoryQuery(PageQuery, OfMachine):
    """Which lines of the history."""

    status: list[Literal["done", "failed", "cancelled"]] = Field(default=[], description="only those that ended so")


class HistoryLine(Model):
    """A transfer that has ended."""

    id: TransferId
    action: Direction
    file_id: FileId
    store_id: StoreIdOrNone
    name: str | None
    status: Status
    error: str
    time: Seconds = Field(description="Unix seconds, when it ended")
    bytes: Count


class History(Model):
    """What has ended, the latest first."""

    items: list[HistoryLine]
    total: Count


class SourceOut(Model):
    """A store that has a file."""

    store_id: StoreId
    name: str
    plugin: str
    local: bool
    copies: Count
    use: SourceUseOut | None = Field(description="how the attempt that is under way goes with it; null: it does not")
    usable: bool
    problem: str = Field(description="why it cannot be used; else empty")


class Sources(Model):
    """Where a file is."""

    items: list[SourceOut]


class LeafMap(Model):
    """What is where of a transfer's file, leaf by leaf."""

    leaf_bytes: Count = Field(description="of each but the last")
    count: Count = Field(description="how many there are; 0 while the size is not known")
    states: str = Field(
        description="one character for each: `#` there (of an upload: confirmed), `>` on its way, `.` missing, `!` "
        "came and was not what it should be"
    )
    there: Count
    in_flight: Count
    wrong: Count


class Sample(Model):
    """Rates at one moment."""

    time: Seconds
    download: float = Field(description="bytes per second")
    upload: float = Field(description="bytes per second")


class Rates(Model):
    """The last minutes; where nothing moved, there may be no samples."""

    interval_s: float = Field(description="between two samples, while something moves")
    samples: list[Sample]


class FileOut(Model):
    """A file of the library."""

    id: FileId
    name: str
    mime: str
    bytes: Count
    stored: dict[str, int] = Field(description="how many copies each store has")
    here: bool = Field(description="whether a FileStore of this machine has it, complete")


class FileQuery(Model):
    """Which files are wanted."""

    q: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="the beginning of an ID, or a name")


class Files(Model):
    """Some files."""

    items: list[FileOut]


class Link(Model):
    """A link to the page."""

    url: str = Field(description="opens the page, once")
    expires_s: float = Field(description="seconds for which it can be used")


class FromThen(Model):
    """What holds from a time of the day on, until the next one's comes."""

    time: str = Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", description="local: `08:00`")
    bps: Annotated[int, Field(ge=1000, le=10**12), BeforeValidator(_whole)] | None = Field(
        None, description="bytes per second; null: no limit"
    )
    stop: bool = Field(False, description="no transfers at all")


class LimitsOut(Model):
    """What transfers may use."""

    download_bps: float | None = Field(description="bytes per second; null: no limit")
    upload_bps: float | None = Field(description="bytes per second; null: no limit")
    max_transfers: int = Field(description="at once")
    connections: int = Field(description="the most leaves or parts at once in one transfer")
    timetable: list[FromThen] = Field(description="limits by the time of day")
    timetable_bps: float | None = Field(description="what the timetable allows now; null: no limit")
    stopped: bool = Field(description="whether the timetable allows no transfers now")
    next_change: float | None = Field(description="Unix seconds, when the timetable says something else; null: never")


class NewLimits(Model):
    """Limits to change; what is left out stays."""

    download_bps: Annotated[float, Field(ge=0, le=1e15)] | None = Field(None, description="0: no limit")
    upload_bps: Annotated[float, Field(ge=0, le=1e15)] | None = Field(None, description="0: no limit")
    max_transfers: Annotated[int, Field(ge=1, le=64), BeforeValidator(_whole)] | None = None
    connections: Annotated[int, Field(ge=1, le=32), BeforeValidator(_whole)] | None = None
    timetable: Annotated[list[FromThen], Field(max_length=48)] | None = Field(
        None, description="limits by the time of day; of two for one time the later one counts; empty: none"
    )


class NewImport(Model):
    """Copy files, and folders with all that is in them, into FileStores of this machine."""

    kind: Literal["import"]
    paths: list[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        min_length=1, max_length=100, description="files and folders of this machine, absolute"
    )
    store_id: StoreIdOrNone = Field("", description="the FileStore to copy into; empty: the one with the most room")
    requested_by: Text = Field("", description="who asks, for people to read")


class NewVerify(Model):
    """Prove every file of a store anew."""

    kind: Literal["verify"]
    store_id: StoreId
    requested_by: Text = Field("", description="who asks, for people to read")


class NewJob(RootModel[Annotated[NewImport | NewVerify, Field(discriminator="kind")]]):
    """Start a long job."""


class JobQuery(Model):
    """Which jobs are wanted."""

    status: list[Status] = Field(default=[], description="only those that are so")
    kind: JobKind | None = Field(None, description="only imports, or only verifications")


class JobOut(Model):
    """A long job: an import or a verification."""

    id: JobId
    kind: JobKind
    store_id: StoreIdOrNone
    paths: list[str]
    status: Status
    reason: Reason | None
    why: str = Field(description="why it does not move, in words; empty if it does, or could")
    bytes_done: Count
    bytes_total: Count = Field(description="grows until `listed`")
    rate: float = Field(description="bytes per second", ge=0)
    eta_s: float | None
    files_done: Count
    files_total: Count = Field(description="grows until `listed`")
    listed: bool
    outcomes: dict[FileOutcome, int] = Field(description="how many files each word is true of")
    problems: Count = Field(description="how many files a person should look at")
    error: str
    requested_by: str
    time: Seconds = Field(description="Unix seconds, when it was asked for")
    started: float | None = Field(description="Unix seconds")
    ended: float | None = Field(description="Unix seconds")

    @classmethod
    def of(cls, job: LongJob) -> JobOut:
        """What is told of a job."""
        why = ""
        if job.status is Status.SUSPENDED and job.reason is not None:
            why = f"waits for {WAITS_FOR[job.reason]}"
        elif job.status in (Status.PAUSED, Status.PAUSING):
            why = "paused by a person"
        return cls(
            id=job.id,
            kind=job.kind,
            store_id=job.store_id,
            paths=[_text(path) for path in job.paths],
            status=job.status,
            reason=job.reason,
            why=why,
            bytes_done=job.progress.bytes_done,
            bytes_total=job.progress.bytes_total,
            rate=max(0.0, job.progress.rate),
            eta_s=job.progress.eta_s,
            files_done=job.files_done,
            files_total=job.files_total,
            listed=job.listed,
            outcomes=dict(job.outcomes),
            problems=job.problem_count,
            error=str(job.failure or ""),
            requested_by=job.requested_by,
            time=job.time,
            started=job.started or None,
            ended=job.ended or None,
        )


class Jobs(Model):
    """All jobs, the oldest first, also those that ended a while ago."""

    items: list[JobOut]
    event_id: str


class JobProblemOut(Model):
    """A file of a job that a person should look at."""

    outcome: FileOutcome
    message: str
    path: str
    file_id: str
    store_id: str
    leaves: list[int]
    time: Seconds

    @classmethod
    def of(cls, problem: JobProblem) -> JobProblemOut:
        """What is told of it."""
        return cls(
            outcome=problem.outcome,
            message=problem.message,
            path=_text(problem.path),
            file_id=problem.file_id,
            store_id=problem.store_id,
            leaves=list(problem.leaves),
            time=problem.time,
        )


class JobProblems(Model):
    """What a job found, in the order in which it did."""

    items: list[JobProblemOut]
    total: Count


def _text(value: str) -> str:
    """A path as JSON has it: what is no text in it is shown as such."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain(model: BaseModel) -> Mapping[str, Any]:
    """A model as an event tells it."""
    return model.model_dump(mode="json")
