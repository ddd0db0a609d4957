"""What the long jobs ask of the journal and of this machine's stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dmedia_transfer.jobs.files import FileRecords
from dmedia_transfer.jobs.item import Totals
from dmedia_transfer.model import JobProblem, LongJob, StoreSpec


class Records(FileRecords, Protocol):
    """The journal's tables of jobs."""

    def load(self) -> Sequence[LongJob]:
        """All jobs, the oldest first."""

    def put(self, job: LongJob) -> None:
        """A job is new, or has changed; durable."""

    def ended(self, job: LongJob) -> Sequence[str]:
        """A job is over; returns the ones that are forgotten instead."""

    def forget(self, job_id: str) -> None:
        """Nobody wants to see it any more."""

    def problems(self, job_id: str, *, offset: int, limit: int) -> Sequence[JobProblem]:
        """What a person should look at."""

    def totals(self, job_id: str) -> Totals:
        """How far a job is."""


class Stores(Protocol):
    """The stores that this machine can use."""

    def spec(self, store_id: str) -> StoreSpec:
        """How to reach a store; see `ports.Stores.spec`."""

    def homes(self) -> Sequence[StoreSpec]:
        """The FileStores of this machine that are there."""
