"""Reports: what workers say, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from dmedia_transfer import retry
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.endings import Endings
from dmedia_transfer.manager.item import CancelTimer, Item
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.manager.starting import Starting
from dmedia_transfer.manager.traffic import TrafficCounter
from dmedia_transfer.model import Discard, Ended, Failure, Moved, Outcome, Progress, Several
from dmedia_transfer.states import Event, Reason, Status

log = logging.getLogger(__name__)


class Reports:
    """Takes the workers' reports. A report can be late: of a run that was stopped, for a transfer that is gone."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        starting: Starting,
        endings: Endings,
        traffic: TrafficCounter,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        chance: Callable[[], float],
        on_discarded: Callable[[Discard, bool], None],  # told of each discard that has ended, and whether it failed
    ) -> None:
        self._board = board
        self._runs = runs
        self._starting = starting
        self._endings = endings
        self._traffic = traffic
        self._call_later = call_later
        self._chance = chance
        self._on_discarded = on_discarded

    def moved(self, report: Moved) -> None:
        """Bytes moved. Progress never goes back and never exceeds the total."""
        live = self._runs.get(report.run_id)
        item = self._board.get(live.job.key) if live is not None else None
        if item is None or item.meter is None:
            return
        item.sent_bytes = report.sent_bytes
        item.in_flight, item.wrong = report.in_flight, report.wrong
        transfer = item.transfer
        if report.leaves_done > item.leaves_done:
            item.leaves_done = report.leaves_done
            transfer = transfer.evolve(attempts=0)
        total = transfer.progress.bytes_total
        done = max(transfer.progress.bytes_done, min(report.bytes_done, total))
        item.meter.update(done)
        progress = Progress(done, total, item.meter.rate, item.meter.eta_s(total))
        self._board.moved(item, transfer.evolve(progress=progress, sources=report.sources or transfer.sources))

    def ended(self, report: Ended) -> None:
        """A worker has let go of a job."""
        self._ended(report)
        self._starting.pump()

    def several(self, reports: Several) -> None:
        """A worker tells of small files that it does together."""
        for report in reports.reports:
            if isinstance(report, Moved):
                self.moved(report)
            else:
                self._ended(report)
        self._starting.pump()

    def _ended(self, report: Ended) -> None:
        live = self._runs.ended(report.run_id, report.sent_bytes)
        if live is None:
            return
        item = self._board.get(live.job.key)
        self._traffic.ended(live, item, report)
        if isinstance(live.job, Discard):
            if report.failure is not None:
                log.warning("%s: what it left is not removed yet: %s", live.job.key, report.failure)
            if report.outcome is not Outcome.STOPPED:
                self._on_discarded(live.job, report.outcome is not Outcome.FINISHED)
        else:
            if report.outcome is Outcome.FINISHED:  # the bytes are there, whatever was decided meanwhile
                self._endings.record(live.job.file.file_id, live.job.destination.store_id)
            if item is not None and item.meter is not None:  # else it is another request for the same file
                self._apply(item, report)
        if item is not None:
            self._starting.offer(item)

    def _apply(self, item: Item, report: Ended) -> None:
        item.meter = None
        item.in_flight = ()
        item.held = False
        cancelled = item.transfer.status is Status.CANCELLED
        if report.outcome is Outcome.FINISHED and not cancelled:
            self._endings.done(item)
            return
        self._board.change(item, progress=replace(item.transfer.progress, rate=0.0, eta_s=None), sources=())
        match report.outcome:
            case Outcome.FINISHED:
                return
            case Outcome.STOPPED:
                self._board.event(item, Event.STOPPED)
            case Outcome.ALONE:
                log.info("%s: is tried by itself%s", item.transfer.key, f": {report.failure}" if report.failure else "")
                item.alone = True
                self._board.event(item, Event.STOPPED)
            case Outcome.FAILED | Outcome.LOST:
                self._went_wrong(item, report.failure or Failure("TransferError", "it ended without saying why"))
        if cancelled:
            self._endings.discard(item)

    def _went_wrong(self, item: Item, failure: Failure) -> None:
        status = item.transfer.status
        self._board.event(item, Event.LOST)
        if status not in (Status.ONGOING, Status.PAUSING):
            return  # it was asked to let go, and did so in its own way
        self._board.change(item, failure=failure, attempts=item.transfer.attempts + 1)
        attempts = item.transfer.attempts
        decision = retry.decide(failure, attempts, chance=self._chance())
        if decision.reason is None:
            self._endings.failed(item, failure)
        elif status is Status.PAUSING:
            log.warning("%s: %s", item.transfer.key, failure)
        elif decision.reason is Reason.BACKOFF:
            delay_s = decision.after_s or 0.0
            log.warning("%s: %s; attempt %d in %.1f s", item.transfer.key, failure, attempts + 1, delay_s)
            self._board.event(item, Event.SUSPEND, Reason.BACKOFF)
            item.wake = self._call_later(delay_s, lambda: self._backoff_over(item))
        else:
            self._starting.wait(item, failure, decision.reason)

    def _backoff_over(self, item: Item) -> None:
        item.wake = None
        if item.transfer.reason is Reason.BACKOFF:
            self._starting.wake(item)
            self._starting.pump()
