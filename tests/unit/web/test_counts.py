"""How transfers have ended and what went wrong, added up over the life of the daemon."""

from __future__ import annotations

import itertools
from collections import Counter

from dmedia_transfer.errors import ConnectionLost, ObjectMissing, TransferError
from dmedia_transfer.model import Direction, Failure, Transfer, TransferKey
from dmedia_transfer.states import Event, Reason, Status
from dmedia_transfer.web.counts import Counts
from tests.factories import content, file_spec

DOWNLOAD = Transfer(TransferKey(Direction.DOWNLOAD, file_spec(content(10)).file_id, ""))


def tell(counts: Counts, *steps: Transfer) -> None:
    for before, after in itertools.pairwise(steps):
        counts.transfer_changed(before, after)


def went_wrong(before: Transfer, error: Exception) -> list[Transfer]:
    lost = before.on(Event.LOST)
    return [lost, lost.evolve(failure=Failure.of(error), attempts=before.attempts + 1)]


def test_a_transfer_that_is_tried_again_and_done_is_one_end_and_one_retry() -> None:
    counts = Counts()
    ongoing = DOWNLOAD.on(Event.START)
    wrong = went_wrong(ongoing, ConnectionLost("gone"))
    waits = wrong[-1].on(Event.SUSPEND, Reason.BACKOFF)
    again = waits.on(Event.CLEAR)
    started = again.on(Event.START)
    done = started.evolve(attempts=0).on(Event.FINISH)
    tell(counts, DOWNLOAD, ongoing, *wrong, waits, again, started, done, done.evolve(failure=None))
    totals = counts.totals()
    assert totals.ended == Counter({(Direction.DOWNLOAD, Status.DONE): 1})
    assert totals.attempts == Counter({(Direction.DOWNLOAD, "ConnectionLost"): 1})
    assert totals.retries == Counter({(Direction.DOWNLOAD, "daemon"): 1})
    assert totals.failed == Counter()


def test_one_that_fails_counts_by_its_error_and_a_persons_retry_is_a_persons() -> None:
    counts = Counts()
    ongoing = DOWNLOAD.on(Event.START)
    wrong = went_wrong(ongoing, ObjectMissing("there is no such object"))
    failed = wrong[-1].on(Event.FAIL)
    again = failed.on(Event.RETRY)
    tell(counts, DOWNLOAD, ongoing, *wrong, failed, again, again.evolve(failure=None, attempts=0))
    totals = counts.totals()
    assert totals.ended == Counter({(Direction.DOWNLOAD, Status.FAILED): 1})
    assert totals.failed == totals.attempts == Counter({(Direction.DOWNLOAD, "ObjectMissing"): 1})
    assert totals.retries == Counter({(Direction.DOWNLOAD, "person"): 1})


def test_a_change_that_ends_nothing_counts_nothing() -> None:
    counts = Counts()
    waits = DOWNLOAD.on(Event.SUSPEND, Reason.BACKOFF)
    tell(counts, waits, waits.evolve(priority=10))
    failed = DOWNLOAD.evolve(status=Status.FAILED)
    tell(counts, failed, failed.evolve(priority=10))
    assert counts.totals() == Counts().totals()


def test_the_kinds_of_errors_are_ours_however_many_others_there_are() -> None:
    counts = Counts()
    for number in range(5):
        ongoing = DOWNLOAD.on(Event.START)
        strange = type(f"Strange{number}", (TransferError,), {})
        tell(counts, ongoing, *went_wrong(ongoing, strange("?")))
    assert counts.totals().attempts == Counter({(Direction.DOWNLOAD, "other"): 5})


def test_totals_are_of_their_moment() -> None:
    counts = Counts()
    before = counts.totals()
    tell(counts, DOWNLOAD, DOWNLOAD.on(Event.CANCEL))
    assert before.ended == Counter()
