"""The `dmedia/transfers` document: what is, for the other devices to see.

Only its own machine writes it, so it never conflicts. It is one document however long the queue is: what moves or
needs somebody comes first, the rest is only counted, and it stays under `MAX_BYTES`.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmedia_transfer import documents
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.fields import FileId, RandomId, RandomIdOrNone
from dmedia_transfer.model import Direction, SourceState, SourceUse, Transfer
from dmedia_transfer.states import Reason, Status

MAX_BYTES: Final = 64_000
MAX_LINES: Final = 100  # transfers that are told one by one
MAX_FINISHED: Final = 20
MAX_PROBLEMS: Final = 10
MAX_SOURCES: Final = 8  # of one transfer
MAX_TEXT: Final = 200  # characters of an error

_RANK: Final = {
    Status.ONGOING: 0,
    Status.PAUSING: 0,
    Status.FAILED: 1,
    Status.SUSPENDED: 2,
    Status.QUEUED: 3,
    Status.PAUSED: 4,
    Status.DONE: 5,
    Status.CANCELLED: 5,
}


def transfers_id(machine_id: str) -> str:
    """The document's ID."""
    return f"{machine_id}-transfers"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a transfer ended."""

    transfer: Transfer
    time: float  # Unix seconds


def write_status(
    machine_id: str,
    transfers: Iterable[Transfer],
    *,
    finished: Sequence[Finished] = (),
    queue_paused: bool = False,
    problems: Sequence[str] = (),
    time: float,
) -> dict[str, Any]:
    """The document, without its revision.

    Args:
        machine_id: Whose it is.
        transfers: All that the machine has.
        finished: Those that ended last, the newest first.
        queue_paused: Whether the whole queue is held.
        problems: What a person should look at.
        time: Unix seconds, now.
    """
    live = [transfer for transfer in transfers if transfer.status not in (Status.DONE, Status.CANCELLED)]
    first = heapq.nsmallest(MAX_LINES, live, key=lambda one: (_RANK[one.status], -one.priority, one.order))
    body: dict[str, Any] = {
        "_id": transfers_id(machine_id),
        "type": documents.TRANSFERS,
        "time": round(time, 3),
        "ver": 0,
        "machine_id": machine_id,
        "queue_paused": queue_paused,
        "counts": dict(sorted(Counter(str(transfer.status) for transfer in live).items())),
        "transfers": [_line(transfer) for transfer in first],
        "finished": [
            {**_line(one.transfer.evolve(sources=())), "time": round(one.time, 3)}
            for one in list(finished)[:MAX_FINISHED]
        ],
        "problems": [_short(problem) for problem in list(problems)[:MAX_PROBLEMS]],
    }
    while len(json.dumps(body).encode()) > MAX_BYTES and body["transfers"]:
        del body["transfers"][-max(1, len(body["transfers"]) // 8) :]
    return body


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", validate_by_alias=True)


class SourceLine(_View):
    """One source of a download of another machine."""

    store_id: RandomId
    bytes: int = Field(default=0, ge=0)
    rate: float = Field(default=0.0, ge=0)
    state: SourceState = Field(default=SourceState.WAITING, strict=False)
    reason: str = ""


class TransferLine(_View):
    """One transfer of another machine, as its document tells."""

    file_id: FileId
    action: Direction = Field(strict=False)
    store_id: RandomIdOrNone = ""
    status: Status = Field(strict=False)
    reason: Reason | None = Field(default=None, strict=False)
    bytes_done: int = Field(default=0, ge=0)
    bytes_total: int = Field(default=0, ge=0)
    rate: float = Field(default=0.0, ge=0)
    eta: float | None = None
    priority: int = 0
    error: str = ""
    sources: list[SourceLine] = Field(default_factory=list)
    time: float = 0.0  # of one that has ended: when


class StatusDocument(_View):
    """`dmedia/transfers`: what a machine does."""

    machine_id: RandomId
    time: float
    queue_paused: bool = False
    counts: dict[str, int] = Field(default_factory=dict)
    transfers: list[TransferLine] = Field(default_factory=list)
    finished: list[TransferLine] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)


def read_status(raw: Mapping[str, Any]) -> StatusDocument:
    """Read another machine's document.

    Raises:
        InvalidDocument: Naming the first key that cannot be believed.
    """
    document_id = str(raw.get("_id", "?"))
    if raw.get("type") != documents.TRANSFERS:
        raise InvalidDocument(document_id, "type", f"should be {documents.TRANSFERS!r}")
    try:
        return StatusDocument.model_validate(raw)
    except ValidationError as error:
        raise documents.problem_of(document_id, error) from None


def _line(transfer: Transfer) -> dict[str, Any]:
    progress = transfer.progress
    line: dict[str, Any] = {
        "file_id": transfer.key.file_id,
        "action": str(transfer.key.direction),
        "store_id": transfer.key.store_id or transfer.preferred_store,
        "status": str(transfer.status),
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "priority": transfer.priority,
    }
    if transfer.reason is not None:
        line["reason"] = str(transfer.reason)
    if progress.rate:
        line["rate"] = round(progress.rate)
    if progress.eta_s is not None:
        line["eta"] = round(progress.eta_s)
    if transfer.failure is not None:
        line["error"] = _short(transfer.failure.message)
    if transfer.sources:
        line["sources"] = [_source(each) for each in transfer.sources[:MAX_SOURCES]]
    return line


def _source(use: SourceUse) -> dict[str, Any]:
    line: dict[str, Any] = {
        "store_id": use.store_id,
        "bytes": use.received_bytes,
        "rate": round(use.rate),
        "state": str(use.state),
    }
    if use.reason:
        line["reason"] = _short(use.reason)
    return line


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
