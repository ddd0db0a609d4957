"""What a worker tells of its job: not too often, and the last value always."""

from __future__ import annotations

import queue
import threading
import time

from dmedia_transfer.model import Moved
from dmedia_transfer.tally import Tally
from dmedia_transfer.workers.running import Progress
from tests.waiting import WAIT_S

TOTAL = 100


def told(interval_s: float) -> tuple[Tally, Progress, queue.Queue[Moved]]:
    reports: queue.Queue[Moved] = queue.Queue()
    progress = Progress(1, reports.put, interval_s)
    return Tally(TOTAL, progress), progress, reports


def test_what_moved_just_before_all_stalled_is_told() -> None:
    tally, _, reports = told(0.05)
    for _ in range(10):
        tally.moved(0, 7)
    assert reports.get(timeout=WAIT_S).bytes_done == 7
    while reports.get(timeout=WAIT_S).bytes_done < 70:
        pass


def test_a_crowd_of_changes_is_one_report() -> None:
    tally, progress, reports = told(WAIT_S)
    for _ in range(50):
        tally.moved(0, 1)
    assert reports.qsize() == 1
    progress.last(tally)
    assert [reports.get().bytes_done for _ in range(2)] == [1, 50]


def test_nothing_is_told_after_the_last_and_no_thread_stays() -> None:
    before = threading.active_count()
    tally, progress, reports = told(0.02)
    tally.moved(0, 1)
    tally.moved(0, 1)
    progress.last(tally)
    while threading.active_count() > before:
        time.sleep(0.01)
    values = [reports.get().bytes_done for _ in range(reports.qsize())]
    assert values[-1] == 2
    assert len(values) == 2
