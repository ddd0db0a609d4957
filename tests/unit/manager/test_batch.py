"""What people are told of, and what not."""

from __future__ import annotations

from dmedia_transfer.manager.batch import Batch, News
from dmedia_transfer.model import Direction, Failure, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event, Reason, Status
from tests.control import FakeControl
from tests.fakes import FakeClock


class Desk:
    """A manager that is not real, and what a person is told of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.control = FakeControl()
        self.told: list[News] = []
        self.batch = Batch(self.told.append, call_later=self.clock.call_later, clock=self.clock)
        self.control.subscribe(self.batch)

    def ask(self, number: int, direction: Direction = Direction.DOWNLOAD) -> TransferKey:
        key = TransferKey(direction, f"{number:048}", "" if direction is Direction.DOWNLOAD else "S" * 24)
        self.control.add(Transfer(key, progress=Progress(0, 1000)))
        self.control.on(key, Event.START)
        return key

    def fail(self, key: TransferKey, message: str) -> None:
        self.control.on(key, Event.FAIL, failure=Failure("AccessDenied", message))

    def wait(self, seconds: float = 5.0) -> list[News]:
        """What was told by then, and not before."""
        self.clock.advance(seconds)
        told, self.told[:] = list(self.told), []
        return told


def test_a_batch_is_told_of_once_when_nothing_is_left_to_do() -> None:
    desk = Desk()
    keys = [desk.ask(number) for number in range(12)]
    for key in keys[:-1]:
        desk.control.on(key, Event.FINISH)
        assert desk.wait() == []
    desk.control.on(keys[-1], Event.FINISH)
    assert desk.wait() == [News(downloads=12, done_bytes=12_000, last=keys[-1])]
    for key in keys:
        desk.control.remove(key)
    assert desk.wait(60) == []


def test_a_short_and_small_batch_is_no_news_and_a_long_one_is() -> None:
    desk = Desk()
    desk.control.on(desk.ask(1), Event.FINISH)
    assert desk.wait() == []
    key = desk.ask(2, Direction.UPLOAD)
    assert desk.wait(30) == []
    desk.control.on(key, Event.FINISH)
    assert desk.wait() == [News(uploads=1, done_bytes=1000)]
    desk.control.on(desk.ask(3), Event.FINISH)
    assert desk.wait() == []


def test_what_fails_together_is_told_of_together_and_at_once() -> None:
    desk = Desk()
    busy, *keys = [desk.ask(number) for number in range(4)]
    for key in keys:
        desk.fail(key, "the access key is wrong")
    (news,) = desk.wait()
    assert (news.failed, news.error) == (tuple(keys), "the access key is wrong")
    assert desk.wait(60) == []
    desk.control.on(busy, Event.FINISH)
    (end,) = desk.wait()
    assert (end.downloads, end.failed) == (1, tuple(keys))


def test_what_is_tried_again_has_not_failed_any_more() -> None:
    desk = Desk()
    key = desk.ask(1)
    desk.fail(key, "no")
    assert len(desk.wait()) == 1
    desk.control.on(key, Event.RETRY)
    assert desk.wait() == []
    desk.control.on(key, Event.START)
    desk.control.on(key, Event.FINISH)
    assert desk.wait() == []
    desk.fail(desk.ask(2), "again no")
    assert [news.error for news in desk.wait()] == ["again no"]


def test_a_full_disk_is_told_of_once_however_many_wait_for_it() -> None:
    desk = Desk()
    keys = [desk.ask(number) for number in range(3)]
    for key in keys:
        desk.control.on(key, Event.SUSPEND, Reason.DISK_FULL)
        desk.wait(0.5)
    desk.clock.advance(5)
    assert [news.disk_full for news in desk.told] == [True]
    desk.told.clear()
    desk.control.on(keys[0], Event.CLEAR)
    desk.control.on(keys[0], Event.SUSPEND, Reason.DISK_FULL)
    assert desk.wait(60) == []


def test_what_waits_or_is_paused_is_no_news() -> None:
    desk = Desk()
    key, other = desk.ask(1), desk.ask(2)
    desk.control.on(key, Event.SUSPEND, Reason.OFFLINE)
    desk.control.on(other, Event.PAUSE)
    desk.control.on(other, Event.STOPPED)
    assert desk.wait(600) == []
    desk.control.on(key, Event.CLEAR)
    desk.control.on(key, Event.CANCEL)
    assert desk.wait() == []


def test_what_failed_before_a_restart_is_no_news() -> None:
    desk = Desk()
    key = TransferKey(Direction.DOWNLOAD, "A" * 48, "")
    desk.control.add(Transfer(key, status=Status.FAILED, failure=Failure("CorruptLeaf", "it is damaged")))
    assert desk.wait() == []
