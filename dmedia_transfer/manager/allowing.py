"""Allowing: what may move now, with the connection, the power and the timetable that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dmedia_transfer.errors import Waiting
from dmedia_transfer.model import Discard, Download, Job, StoreSpec, Transfer, Upload
from dmedia_transfer.reach import MeteredRule, Surroundings, refusal, within
from dmedia_transfer.states import Reason

Refuses = Callable[[StoreSpec], Waiting | None]
"""Why bytes may not go to or come from a store now; None if they may."""


class Allowing:
    """What is around this machine, and the reasons for which nothing at all may move."""

    def __init__(self, rule: MeteredRule) -> None:
        self.rule = rule
        self.around = Surroundings()
        self._closed: dict[Reason, None] = {}  # in the order in which they came

    @property
    def closed(self) -> Reason | None:
        """Why nothing may move, if so."""
        return next(iter(self._closed), None)

    def close(self, reason: Reason) -> bool:
        """Nothing may move, for this reason; False if that was so already."""
        if reason in self._closed:
            return False
        self._closed[reason] = None
        return True

    def open(self, reason: Reason) -> bool:
        """The reason has gone away; False if it was not there."""
        if reason not in self._closed:
            return False
        del self._closed[reason]
        return True

    def refuses(self, transfer: Transfer, file_bytes: int) -> Refuses:
        """What the stores are judged by, for one transfer."""
        return lambda store: refusal(store, transfer, file_bytes, self.around, self.rule)

    def within(self, transfer: Transfer, file_bytes: int, store: StoreSpec) -> StoreSpec:
        """A store that may be used, going no farther than bytes may now."""
        return within(store, transfer, file_bytes, self.around, self.rule)

    def narrowed(self, transfer: Transfer, job: Download | Upload) -> Download | Upload:
        """A job that may run, going no farther than bytes may now."""
        if isinstance(job, Download):
            sources = tuple(self.within(transfer, job.file.size, store) for store in job.sources)
            return job if sources == job.sources else replace(job, sources=sources)
        destination = self.within(transfer, job.file.size, job.destination)
        return job if destination == job.destination else replace(job, destination=destination)

    def goes_too_far(self, transfer: Transfer, job: Job) -> bool:
        """Whether a job was begun with addresses to which bytes may not go now."""
        return isinstance(job, Download | Upload) and self.narrowed(transfer, job) != job

    def refused(self, transfer: Transfer, job: Job) -> Waiting | None:
        """Why a job cannot go on as it was begun: one of its stores may not be used any more."""
        match job:
            case Download():
                stores = job.sources
            case Discard():
                return None  # it moves nothing
            case _:
                stores = (job.destination,)
        refuses = self.refuses(transfer, job.file.size)
        return next((problem for store in stores if (problem := refuses(store)) is not None), None)
