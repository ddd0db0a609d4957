"""Pump: from the mirror to the board and the stream. What changed is told at once, progress four times a second.

For the web's event loop; `wake` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterable
from typing import Any, Final

from dmedia_transfer.model import Direction, LongJob, Transfer, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.web import answers
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.mirror import Mirror
from dmedia_transfer.web.models import JobOut, TransferOut, plain, transfer_id
from dmedia_transfer.web.rates import INTERVAL_S

GATHER_S: Final = 0.02  # what changes together is told together
PROGRESS_S: Final = 0.25
SUMMARY_S: Final = 0.25
MOST_AT_ONCE: Final = 500  # of more changes than that is said only that there were many

_MOVING: Final = frozenset({Status.ONGOING, Status.PAUSING})

log = logging.getLogger(__name__)


class Pump:
    """Tells of what happens."""

    def __init__(self, api: Api, loop: asyncio.AbstractEventLoop) -> None:
        self.mirror = Mirror(self._wake)
        self._api = api
        self._loop = loop
        self._moved: dict[TransferKey, Transfer] = {}
        self._moved_jobs: dict[str, LongJob] = {}
        self._progress: asyncio.TimerHandle | None = None
        self._progress_s = float("-inf")
        self._summary: asyncio.Task[None] | None = None
        self._summary_again = False
        self._sampler: asyncio.Task[None] | None = None
        self._moving: set[TransferKey] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Tell nothing any more."""
        if self._progress is not None:
            self._progress.cancel()
        for task in (self._summary, self._sampler, *self._tasks):
            if task is not None:
                task.cancel()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon ends
            self._loop.call_soon_threadsafe(self._loop.call_later, GATHER_S, self.tell)

    def tell(self) -> None:
        """Take over what the manager's thread has noted, and tell it."""
        news = self.mirror.take()
        self._api.board.apply(news)
        if news.transfers:
            self._tell_transfers(news.transfers)
        if news.jobs:
            self._tell_jobs(news.jobs)
        self._moved |= {key: one for key, one in news.moved.items() if key in self._api.board.transfers}
        self._moved_jobs |= {job_id: job for job_id, job in news.moved_jobs.items() if job_id in self._api.board.jobs}
        if (self._moved or self._moved_jobs) and self._progress is None:
            wait_s = max(0.0, self._progress_s + PROGRESS_S - self._loop.time())
            self._progress = self._loop.call_later(wait_s, self._tell_progress)
        if news.summary:
            self._tell_summary()

    def _tell_transfers(self, changed: dict[TransferKey, Transfer | None]) -> None:
        api = self._api
        for key, transfer in changed.items():
            self._moved.pop(key, None)
            if transfer is not None and transfer.status in _MOVING:
                self._moving.add(key)
            else:
                self._moving.discard(key)
            if transfer is None:
                api.rates.forget(key)
        if self._moving and self._sampler is None:
            self._sampler = self._loop.create_task(self._sample())
        if len(changed) > MOST_AT_ONCE:
            api.stream.publish("reset", {"why": f"{len(changed)} transfers have changed"})
            return
        there = [transfer for transfer in changed.values() if transfer is not None]
        gone = [transfer_id(key) for key, transfer in changed.items() if transfer is None]
        told = [plain(TransferOut.of(one, api.facts.name(one.key.file_id))) for one in there]
        api.stream.publish("transfers", {"changed": told, "removed": gone})
        nameless = {one.key.file_id for one in there if api.facts.name(one.key.file_id) is None}
        if nameless:
            self._start(self._tell_names(nameless))

    async def _tell_names(self, file_ids: Iterable[str]) -> None:
        names = await self._api.facts.names(file_ids)
        known = {file_id: name for file_id, name in names.items() if name is not None}
        if known:
            self._api.stream.publish("names", known)

    def _tell_jobs(self, changed: dict[str, LongJob | None]) -> None:
        for job_id in changed:
            self._moved_jobs.pop(job_id, None)
        told = [plain(JobOut.of(job)) for job in changed.values() if job is not None]
        gone = [job_id for job_id, job in changed.items() if job is None]
        self._api.stream.publish("jobs", {"changed": told, "removed": gone})

    def _tell_progress(self) -> None:
        self._progress = None
        self._progress_s = self._loop.time()
        board = self._api.board
        moved, self._moved = self._moved, {}
        jobs, self._moved_jobs = self._moved_jobs, {}
        moving = [board.transfers[key] for key in self._moving if key in board.transfers]
        self._api.stream.publish(
            "progress",
            {
                "transfers": [_progress(transfer_id(key), one.progress) for key, one in moved.items()],
                "jobs": [[*_progress(job_id, job.progress), job.files_done] for job_id, job in jobs.items()],
                "download_rate": _rate(moving, Direction.DOWNLOAD),
                "upload_rate": _rate(moving, Direction.UPLOAD),
            },
        )

    def _tell_summary(self) -> None:
        if self._summary is None:
            self._summary = self._loop.create_task(self._look_at_summary())
        else:
            self._summary_again = True

    async def _look_at_summary(self) -> None:
        for wait_s in itertools.chain([0.0], itertools.repeat(SUMMARY_S)):
            await asyncio.sleep(wait_s)
            self._summary_again = False
            try:
                summary = await answers.summary(self._api)
            except Exception as error:
                log.warning("the summary could not be told: %s", error)
                break
            self._api.stream.publish("summary", {**plain(summary), "event_id": self._api.stream.last_id})
            if not self._summary_again:
                break
        self._summary = None

    async def _sample(self) -> None:
        """Take samples of the rates for as long as something moves."""
        board, rates = self._api.board, self._api.rates
        while self._moving:
            rates.sample(board.transfers[key] for key in self._moving if key in board.transfers)
            await asyncio.sleep(INTERVAL_S)
        rates.pause()
        self._sampler = None

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _progress(name: str, progress: Any) -> list[Any]:
    eta_s = progress.eta_s
    return [
        name,
        progress.bytes_done,
        progress.bytes_total,
        round(progress.rate),
        None if eta_s is None else round(eta_s, 1),
    ]


def _rate(moving: Iterable[Transfer], direction: Direction) -> int:
    return round(sum(one.progress.rate for one in moving if one.key.direction is direction))
