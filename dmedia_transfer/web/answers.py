"""Answers that several handlers give: the machine as a whole."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from dmedia_transfer import __version__, statusdoc
from dmedia_transfer.model import Direction, Failure, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.edges import Raw
from dmedia_transfer.web.models import SummaryOut


async def summary(api: Api) -> SummaryOut:
    """This machine."""
    told = await api.main(api.edges.control.summary)
    return SummaryOut(
        version=__version__,
        machine_id=api.edges.machine_id,
        hostname=api.edges.hostname,
        time=round(time.time(), 3),
        active=told.active,
        queued=told.queued,
        counts=dict(Counter(one.status for one in api.board.transfers.values())),
        download_rate=told.download_rate,
        upload_rate=told.upload_rate,
        queue_paused=told.queue_paused,
        online=told.online,
        metered=told.metered,
        problems=len(told.problems),
        event_id=api.stream.last_id,
    )


async def summary_of(api: Api, machine: Raw) -> SummaryOut:
    """Another machine, as it told last."""
    queue = api.edges.machine_queue(machine["_id"])
    status = await api.bridge.thread(told_by, api, machine["_id"])
    transfers = await api.bridge.thread(queue.transfers)
    counts = Counter(one.status for one in transfers)
    moving = [one for one in transfers if one.status is Status.ONGOING]
    return SummaryOut(
        version="",
        machine_id=machine["_id"],
        hostname=hostname(machine),
        time=status.time if status else 0.0,
        active=len(moving),
        queued=sum(not status.ended for status in counts.elements()) - len(moving),
        counts=dict(counts),
        download_rate=sum(one.progress.rate for one in moving if one.key.direction is Direction.DOWNLOAD),
        upload_rate=sum(one.progress.rate for one in moving if one.key.direction is Direction.UPLOAD),
        queue_paused=machine.get("queue_paused") is True,
        online=True,
        metered=False,
        problems=len(status.problems) if status else 0,
        event_id="",
    )


def told_by(api: Api, machine_id: str) -> StatusDocument | None:
    """What a machine said of itself last; blocks."""
    return api.edges.machine_status(api.edges.documents.get(statusdoc.transfers_id(machine_id)))


def hostname(machine: Raw) -> str:
    """How a machine calls itself, as far as that is a text."""
    name = machine.get("hostname")
    return name[:256] if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Ended:
    """`edges.EndedTransfer` of another machine."""

    key: TransferKey
    status: Status
    failure: Failure | None
    time: float
    bytes: int


def history_of(api: Api, machine_id: str) -> list[Ended]:
    """What another machine has told of the transfers that ended there last, the latest first. Blocks."""
    status = told_by(api, machine_id)
    return [
        Ended(
            TransferKey(line.action, line.file_id, line.store_id if line.action is Direction.UPLOAD else ""),
            line.status,
            Failure("TransferError", line.error) if line.error else None,
            line.time,
            line.bytes_total,
        )
        for line in (status.finished if status is not None else ())
    ]
