"""Board: all transfers and jobs as the web shows them, in the orders in which they are asked for. One thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dmedia_transfer.model import LongJob, Transfer, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.web.mirror import News

_URGENCY: Final[Mapping[Status, int]] = {
    Status.ONGOING: 0,
    Status.PAUSING: 0,
    Status.FAILED: 1,
    Status.SUSPENDED: 2,
    Status.QUEUED: 3,
    Status.PAUSED: 4,
    Status.DONE: 5,
    Status.CANCELLED: 5,
}

_ORDERS: Final[Mapping[str, Callable[[Transfer], Any]]] = {
    "queue": lambda one: (one.status.ended and one.status is not Status.FAILED, -one.priority, one.order),
    "urgency": lambda one: (_URGENCY[one.status], -one.priority, one.order),
    "newest": lambda one: (-one.time, -one.order),
}


class Board:
    """What a `Mirror` has told so far."""

    def __init__(self) -> None:
        self.transfers: dict[TransferKey, Transfer] = {}
        self.jobs: dict[str, LongJob] = {}
        self._sorted: dict[str, list[TransferKey]] = {}

    def apply(self, news: News) -> None:
        """Take the news in."""
        for key, transfer in news.transfers.items():
            if transfer is None:
                self.transfers.pop(key, None)
            else:
                self.transfers[key] = transfer
        for key, moved in news.moved.items():
            if key in self.transfers:
                self.transfers[key] = moved
        for job_id, job in news.jobs.items():
            if job is None:
                self.jobs.pop(job_id, None)
            else:
                self.jobs[job_id] = job
        for job_id, further in news.moved_jobs.items():
            if job_id in self.jobs:
                self.jobs[job_id] = further
        if news.transfers:
            self._sorted.clear()

    def in_order(self, sort: str) -> Iterable[Transfer]:
        """All transfers: as the `queue` has them, by `urgency`, or the `newest` first."""
        if sort not in self._sorted:
            self._sorted[sort] = [one.key for one in in_order(self.transfers.values(), sort)]
        return (self.transfers[key] for key in self._sorted[sort])


def in_order(transfers: Iterable[Transfer], sort: str) -> list[Transfer]:
    """These transfers in one of the orders."""
    return sorted(transfers, key=_ORDERS[sort])
