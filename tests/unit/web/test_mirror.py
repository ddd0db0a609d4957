"""The mirror: what changed several times is told once, as it is now."""

from __future__ import annotations

from dmedia_transfer.model import Direction, JobKind, LongJob, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event, Status
from dmedia_transfer.web.board import Board
from dmedia_transfer.web.mirror import Mirror

KEY = TransferKey(Direction.DOWNLOAD, "F" * 48, "")
OTHER = TransferKey(Direction.DOWNLOAD, "G" * 48, "")


def mirror() -> tuple[Mirror, list[int]]:
    woken: list[int] = []
    return Mirror(lambda: woken.append(1)), woken


def test_somebody_is_woken_once_for_all_that_changed() -> None:
    told, woken = mirror()
    before = Transfer(KEY)
    told.transfer_added(before)
    told.transfer_changed(before, after := before.on(Event.START))
    told.transfer_moved(after.evolve(progress=Progress(5, 10)))
    assert woken == [1]
    news = told.take()
    assert list(news.transfers) == [KEY]
    assert news.transfers[KEY] == after.evolve(progress=Progress(5, 10))
    assert news.moved == {}
    assert news.summary
    told.transfer_moved(after)
    assert woken == [1, 1]
    assert told.take().moved == {KEY: after}
    assert told.take().transfers == {}


def test_what_is_gone_is_gone_also_if_it_had_moved() -> None:
    told, _ = mirror()
    transfer = Transfer(KEY)
    told.transfer_moved(transfer)
    told.transfer_removed(transfer)
    news = told.take()
    assert news.transfers == {KEY: None}
    assert news.moved == {}


def test_jobs_are_told_likewise() -> None:
    told, _ = mirror()
    job = LongJob("J" * 24, JobKind.VERIFY)
    told.job_added(job)
    told.job_moved(further := job.evolve(files_done=3))
    news = told.take()
    assert news.jobs == {job.id: further}
    assert news.moved_jobs == {}
    told.job_moved(job)
    told.job_removed(job)
    assert told.take().jobs == {job.id: None}


def test_the_board_has_the_orders_that_are_asked_for() -> None:
    told, board = mirror()[0], Board()
    waiting = Transfer(KEY, order=1, time=10)
    urgent = Transfer(OTHER, order=2, time=20, priority=10)
    done = Transfer(KEY._replace(direction=Direction.UPLOAD, store_id="S" * 24), status=Status.DONE, time=5)
    running = Transfer(OTHER._replace(direction=Direction.UPLOAD, store_id="S" * 24), status=Status.ONGOING, order=9)
    told.load([done, waiting, running, urgent])
    board.apply(told.take())
    assert list(board.in_order("queue")) == [urgent, waiting, running, done]
    assert list(board.in_order("urgency")) == [running, urgent, waiting, done]
    assert next(iter(board.in_order("newest"))) == urgent
    told.transfer_moved(further := running.evolve(progress=Progress(1, 2)))
    board.apply(told.take())
    assert next(iter(board.in_order("urgency"))) == further
    told.transfer_removed(urgent)
    board.apply(told.take())
    assert urgent not in board.in_order("queue")
