"""What a transfer, a job and the daemon are at one moment, as D-Bus tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dmedia_transfer import busnames
from dmedia_transfer.busnames import JOB, ROOT, TRANSFER
from dmedia_transfer.client.connection import Signal
from dmedia_transfer.model import Direction, JobKind, Progress, SourceState, SourceUse, TransferKey
from dmedia_transfer.states import Reason, Status


@dataclass(frozen=True, slots=True)
class TransferState:
    """What a transfer is at one moment."""

    key: TransferKey
    status: Status
    reason: Reason | None  # why it is suspended
    progress: Progress
    priority: int
    store_id: str  # where an upload goes; a download's preferred source, or empty
    error: str  # the last error, also while it is tried again; else empty
    requested_by: str
    sources: tuple[SourceUse, ...]  # where a download that is under way comes from
    metered: bool = False  # goes on over a connection that costs by the byte, whatever the settings say
    order: float = 0.0  # its place in the queue among those of its priority

    @property
    def path(self) -> str:
        """The transfer's object path."""
        return busnames.path_of(self.key)


class Resolved(NamedTuple):
    """Where a file is."""

    status: str  # "here", or the status of its download
    path: str  # empty while it is not here


@dataclass(frozen=True, slots=True)
class JobState:
    """What a long job is at one moment."""

    id: str
    kind: JobKind
    store_id: str  # the store that is verified, or imported into; empty: the FileStore with the most room
    paths: tuple[str, ...]  # what is imported
    status: Status
    reason: Reason | None  # why it is suspended
    progress: Progress
    files_done: int
    files_total: int
    listed: bool  # whether the totals are final
    outcomes: Mapping[str, int]  # how many files came to what
    problem_count: int  # how many files a person should look at
    error: str  # the last error, also while it is tried again; else empty
    requested_by: str
    time: float  # Unix seconds, when it was asked for
    started: float  # Unix seconds; 0: not yet
    ended: float  # Unix seconds; 0: not yet


class Problem(NamedTuple):
    """A file of a job that a person should look at."""

    outcome: str  # skipped, failed, corrupt, missing or found
    message: str
    path: str  # of an import
    file_id: str  # if it is known
    store_id: str  # if it is about one
    leaves: tuple[int, ...]  # that are corrupt


@dataclass(frozen=True, slots=True)
class ManagerState:
    """The daemon as a whole."""

    version: str
    active: int  # transfers that a worker has
    queued: int  # transfers that wait, for whatever reason
    download_rate: int  # bytes per second
    upload_rate: int
    queue_paused: bool
    online: bool
    metered: bool
    download_limit_bps: int | None
    upload_limit_bps: int | None
    max_transfers: int
    problems: tuple[str, ...]


def apply(raw: dict[str, dict[str, Any]], signals: Sequence[Signal]) -> set[str]:
    """Bring what is known of all transfers up to date; returns the paths of those that changed."""
    changed: set[str] = set()
    for signal in signals:
        if signal.member == "InterfacesAdded" and TRANSFER in signal.arguments[1]:
            raw[signal.arguments[0]] = dict(signal.arguments[1][TRANSFER])
            changed.add(signal.arguments[0])
        elif signal.member == "InterfacesRemoved" and TRANSFER in signal.arguments[1]:
            raw.pop(signal.arguments[0], None)
            changed.add(signal.arguments[0])
        elif signal.path == ROOT and signal.member == "Progress":
            for path, done, total in signal.arguments[0]:
                if path in raw:
                    raw[path].update(BytesDone=done, BytesTotal=total)
                    changed.add(path)
        elif signal.path in raw:
            merge(raw[signal.path], signal)
            changed.add(signal.path)
    return changed


def merge(properties: dict[str, Any], signal: Signal) -> None:
    """What a signal of a transfer or a job itself says, put into its properties."""
    if signal.member == "Progress":
        properties.update(BytesDone=signal.arguments[0], BytesTotal=signal.arguments[1])
    elif signal.member == "PropertiesChanged" and signal.arguments[0] in (TRANSFER, JOB):
        properties.update(signal.arguments[1])


def transfer_state(said: Mapping[str, Any]) -> TransferState:
    """A transfer's properties as a value."""
    direction = Direction(said["Direction"])
    return TransferState(
        key=TransferKey(direction, said["FileId"], said["StoreId"] if direction is Direction.UPLOAD else ""),
        status=Status(said["Status"]),
        reason=Reason(said["Reason"]) if said["Reason"] else None,
        progress=Progress(
            bytes_done=said["BytesDone"],
            bytes_total=said["BytesTotal"],
            rate=float(said["Rate"]),
            eta_s=None if said["Eta"] == busnames.ETA_UNKNOWN else float(said["Eta"]),
        ),
        priority=said["Priority"],
        store_id=said["StoreId"],
        error=said["Error"],
        requested_by=said["RequestedBy"],
        sources=tuple(_source(*each) for each in said["Sources"]),
        metered=said["Metered"],
        order=said["Order"],
    )


def _source(store_id: str, received_bytes: int, rate: int, state: str, reason: str) -> SourceUse:
    return SourceUse(store_id, received_bytes, float(rate), SourceState(state), reason)


def job_state(path: str, said: Mapping[str, Any]) -> JobState:
    """A job's properties as a value."""
    return JobState(
        id=busnames.job_of(path) or "",
        kind=JobKind(said["Kind"]),
        store_id=said["StoreId"],
        paths=tuple(said["Paths"]),
        status=Status(said["Status"]),
        reason=Reason(said["Reason"]) if said["Reason"] else None,
        progress=Progress(
            bytes_done=said["BytesDone"],
            bytes_total=said["BytesTotal"],
            rate=float(said["Rate"]),
            eta_s=None if said["Eta"] == busnames.ETA_UNKNOWN else float(said["Eta"]),
        ),
        files_done=said["FilesDone"],
        files_total=said["FilesTotal"],
        listed=said["Listed"],
        outcomes=dict(said["Outcomes"]),
        problem_count=said["Problems"],
        error=said["Error"],
        requested_by=said["RequestedBy"],
        time=said["Time"],
        started=said["Started"],
        ended=said["Ended"],
    )


def manager_state(said: Mapping[str, Any]) -> ManagerState:
    """The manager's properties as a value."""
    return ManagerState(
        version=said["Version"],
        active=said["Active"],
        queued=said["Queued"],
        download_rate=said["DownloadRate"],
        upload_rate=said["UploadRate"],
        queue_paused=said["QueuePaused"],
        online=said["Online"],
        metered=said["Metered"],
        download_limit_bps=said["DownloadLimit"] or None,
        upload_limit_bps=said["UploadLimit"] or None,
        max_transfers=said["MaxTransfers"],
        problems=tuple(said["Problems"]),
    )
