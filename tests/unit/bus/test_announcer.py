from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.bus.announcer import (
    ADDED_AT_ONCE,
    ADDED_INTERVAL_S,
    CHANGED_AT_ONCE,
    CHANGED_INTERVAL_S,
    Announcer,
)
from dmedia_transfer.busnames import MANAGER, ROOT, TRANSFER, path_of
from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.model import Direction, Failure, SourceUse, Transfer, TransferKey
from dmedia_transfer.states import Event, Reason, Status
from tests.clock import FakeLoop
from tests.control import FakeControl


def key(number: int = 1) -> TransferKey:
    return TransferKey(Direction.DOWNLOAD, f"{number:048d}".translate(str.maketrans("0189", "ABCD")), "")


class Sent(NamedTuple):
    """One signal."""

    time: float
    path: str
    interface: str
    member: str
    arguments: tuple[Any, ...]


class Stage:
    """An announcer between a manager and a bus that are not real."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.control = FakeControl()
        self.sent: list[Sent] = []
        self.announcer = Announcer(
            emit=lambda path, interface, member, *arguments: self.sent.append(
                Sent(self.loop.clock.now, path, interface, member, arguments)
            ),
            summary=self.control.summary,
            call_later=self.loop.call_later,
            clock=self.loop.clock,
        )
        self.control.subscribe(self.announcer)

    def running(self, number: int = 1, *, total: int = 1000) -> TransferKey:
        """A transfer that a worker has; what was sent of it is forgotten."""
        self.control.add(Transfer(key(number)))
        self.control.on(key(number), Event.START)
        self.control.move(key(number), 0, total)
        self.loop.run(2)
        self.sent.clear()
        self.loop.wakes = 0
        return key(number)

    def of(self, number: int = 1) -> list[tuple[str, tuple[Any, ...]]]:
        """The signals of one transfer."""
        return [(each.member, each.arguments) for each in self.sent if each.path == path_of(key(number))]

    def of_manager(self, member: str) -> list[tuple[Any, ...]]:
        """The manager's signals of this name."""
        return [each.arguments for each in self.sent if each.path == ROOT and each.member == member]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_new_transfer_is_told_of_at_once(stage: Stage) -> None:
    stage.control.add(Transfer(key(), requested_by="somebody"))
    assert [each.member for each in stage.sent] == ["InterfacesAdded", "TransferAdded"]
    path, interfaces = stage.sent[0].arguments
    assert path == path_of(key())
    assert interfaces[TRANSFER]["RequestedBy"] == "somebody"


def test_a_change_of_status_is_told_at_once_with_all_that_changed(stage: Stage) -> None:
    stage.running()
    stage.control.on(key(), Event.SUSPEND, Reason.OFFLINE)
    ((member, (interface, changed, invalidated)),) = stage.of()
    assert (member, interface, invalidated) == ("PropertiesChanged", TRANSFER, [])
    assert changed["Status"] == "suspended"
    assert changed["Reason"] == "offline"
    assert "Priority" not in changed


def test_an_error_and_a_priority_are_told_at_once_and_sources_with_the_progress(stage: Stage) -> None:
    stage.running()
    stage.control.change(key(), priority=10)
    stage.control.change(key(), sources=(SourceUse("S" * 24, 7),))
    stage.control.on(key(), Event.FAIL, failure=Failure.of(AccessDenied("no entry")))
    changes = [arguments[1] for member, arguments in stage.of() if member == "PropertiesChanged"]
    assert changes[0] == {"Priority": 10}
    assert changes[1]["Error"] == "no entry"
    assert changes[1]["Sources"] == [("S" * 24, 7, 0, "waiting", "")]


def test_the_last_value_goes_out_before_the_end(stage: Stage) -> None:
    stage.running()
    stage.control.move(key(), 500)
    stage.loop.run(0.01)
    stage.control.move(key(), 1000)
    stage.control.on(key(), Event.FINISH)
    assert [member for member, _ in stage.of()][-3:] == ["Progress", "PropertiesChanged", "Finished"]
    assert stage.of()[-3][1] == (1000, 1000)
    assert stage.of()[-2][1][1]["BytesDone"] == 1000
    assert stage.of()[-1][1] == (Status.DONE,)
    stage.loop.run(5)
    assert stage.of_manager("Progress")[-1] == ([(path_of(key()), 1000, 1000)],)


def test_a_last_value_that_was_told_is_not_told_again(stage: Stage) -> None:
    stage.running()
    stage.control.move(key(), 1000)
    stage.loop.run(2)
    stage.sent.clear()
    stage.control.on(key(), Event.FINISH)
    assert [member for member, _ in stage.of()] == ["PropertiesChanged", "Finished"]


def test_a_transfer_that_goes_while_it_moves_is_told_of_to_the_end(stage: Stage) -> None:
    stage.running()
    stage.control.move(key(), 700)
    stage.control.remove(key())
    order = [each.member for each in stage.sent]
    assert order == ["Progress", "Progress", "InterfacesRemoved", "TransferRemoved"]
    assert stage.of_manager("TransferRemoved") == [(path_of(key()), Status.ONGOING)]
    stage.sent.clear()
    stage.loop.run(10)
    assert stage.of() == []
    assert stage.of_manager("Progress") == []


def test_while_nothing_moves_nobody_is_woken(stage: Stage) -> None:
    stage.running()
    stage.control.move(key(), 500)
    stage.loop.run(3)
    stage.loop.wakes = 0
    stage.loop.run(3600)
    assert stage.loop.wakes == 0
    assert stage.loop.waiting == 0


def test_properties_that_move_are_told_about_once_a_second(stage: Stage) -> None:
    stage.running()
    for step in range(100):
        stage.control.move(key(), step, rate=7.5, eta_s=3.2)
        stage.loop.run(0.1)
    told = [arguments[1] for member, arguments in stage.of() if member == "PropertiesChanged"]
    assert 8 <= len(told) <= 11
    assert set(told[-1]) == {"BytesDone", "BytesTotal", "Rate", "Eta", "Sources"}
    assert told[-1]["Eta"] == 4


def test_a_burst_of_changes_is_one_signal_of_the_manager(stage: Stage) -> None:
    for number in range(500):
        stage.control.add(Transfer(key(number)))
    stage.loop.run(1)
    assert stage.of_manager("PropertiesChanged") == [(MANAGER, {"Queued": 500}, [])]


def test_problems_and_limits_are_told_when_they_change(stage: Stage) -> None:
    stage.control.change_summary(problems=("document 'x' is bad",), download_limit_bps=1000.0)
    stage.control.change_summary(download_rate=5.0)
    stage.loop.run(1)
    changed = {"Problems": ["document 'x' is bad"], "DownloadLimit": 1000}
    assert stage.of_manager("PropertiesChanged") == [(MANAGER, changed, [])]
    stage.control.change_summary(download_rate=6.0)
    stage.loop.run(1)
    assert len(stage.of_manager("PropertiesChanged")) == 1


def test_after_close_nothing_is_told(stage: Stage) -> None:
    stage.running()
    stage.control.move(key(), 500)
    stage.announcer.close()
    stage.loop.run(10)
    assert stage.sent == []


@given(st.lists(st.tuples(st.integers(0, 59), st.floats(0, 0.3)), max_size=200), st.integers(1, 60))
def test_progress_stays_within_ten_signals_a_second_and_the_last_value_arrives(
    moves: list[tuple[int, float]], transfers: int
) -> None:
    stage = Stage()
    for number in range(transfers):
        stage.running(number)
    start = stage.loop.clock.now
    done: dict[int, int] = {}
    for number, seconds in moves:
        number %= transfers
        done[number] = done.get(number, 0) + 1
        stage.control.move(key(number), done[number])
        stage.loop.run(seconds)
    stage.loop.run(60)
    times = [each.time for each in stage.sent]
    assert all(sum(time <= each < time + 1 - 1e-6 for each in times) <= 10 for time in times if time >= start)
    for number, last in done.items():
        assert [arguments for member, arguments in stage.of(number) if member == "Progress"][-1] == (last, 1000)
        rows = [row for (rows,) in stage.of_manager("Progress") for row in rows if row[0] == path_of(key(number))]
        assert rows[-1] == (path_of(key(number)), last, 1000)


def test_thousands_that_come_at_once_are_told_of_a_few_at_a_time(stage: Stage) -> None:
    for number in range(3 * ADDED_AT_ONCE):
        stage.control.add(Transfer(key(number)))
    assert len(stage.of_manager("TransferAdded")) == ADDED_AT_ONCE
    stage.loop.run(10 * ADDED_INTERVAL_S)
    assert stage.of_manager("TransferAdded") == [(path_of(key(number)),) for number in range(3 * ADDED_AT_ONCE)]


def test_nothing_is_told_of_a_transfer_before_it_was_told_that_it_is_there(stage: Stage) -> None:
    last = 2 * ADDED_AT_ONCE - 1
    for number in range(last + 1):
        stage.control.add(Transfer(key(number)))
    stage.control.on(key(last), Event.START)
    assert stage.of_manager("TransferAdded")[-1] == (path_of(key(last)),)
    assert stage.of_manager("InterfacesAdded")[-1][1][TRANSFER]["Status"] == "ongoing"
    stage.loop.run(10 * ADDED_INTERVAL_S)
    assert len(stage.of_manager("TransferAdded")) == last + 1
    assert stage.of(last) == []


def test_of_a_crowd_of_changes_the_first_are_told_at_once_and_all_soon_each_as_it_is_by_then(stage: Stage) -> None:
    count = 3 * CHANGED_AT_ONCE
    for number in range(count):
        stage.control.add(Transfer(key(number)))
    stage.sent.clear()
    for number in range(count):
        stage.control.on(key(number), Event.SUSPEND, Reason.OFFLINE)
    assert sum(each.member == "PropertiesChanged" for each in stage.sent) == CHANGED_AT_ONCE
    for number in range(count):
        stage.control.on(key(number), Event.CLEAR)
        stage.control.on(key(number), Event.START)
    stage.loop.run(1)
    for number in range(count):
        changes = [arguments[1] for member, arguments in stage.of(number) if member == "PropertiesChanged"]
        assert changes[-1]["Status"] == "ongoing"
        assert len(changes) == (1 if number >= CHANGED_AT_ONCE else 2)


def test_small_files_that_begin_and_end_in_a_crowd_are_told_of_with_few_signals_and_in_order(stage: Stage) -> None:
    count = 5 * ADDED_AT_ONCE
    for number in range(count):
        stage.control.add(Transfer(key(number)))
        stage.control.on(key(number), Event.START)
        stage.control.move(key(number), 0, 1000)
        stage.control.move(key(number), 1000)
        stage.control.on(key(number), Event.FINISH)
    stage.loop.run(2)
    last = count - 1
    assert [member for member, _ in stage.of(last)] == ["Finished"]
    added = [arguments for arguments in stage.of_manager("InterfacesAdded") if arguments[0] == path_of(key(last))]
    assert [arguments[1][TRANSFER]["Status"] for arguments in added] == ["done"]
    assert added[0][1][TRANSFER]["BytesDone"] == 1000
    rows = [row for (rows,) in stage.of_manager("Progress") for row in rows]
    assert {row for row in rows if row[1]} == {(path_of(key(number)), 1000, 1000) for number in range(count)}
    paths = [each.arguments[0] for each in stage.sent if each.member == "TransferAdded"]
    assert sorted(paths) == sorted(path_of(key(number)) for number in range(count))
    told: set[str] = set()
    for each in stage.sent:
        if each.member == "InterfacesAdded":
            told.add(each.arguments[0])
        elif each.path != ROOT:
            assert each.path in told, "told of before it was there"


def test_of_a_crowd_that_waits_to_be_told_of_those_that_only_begin_do_not_come_before_their_turn(stage: Stage) -> None:
    count = 3 * ADDED_AT_ONCE
    for number in range(count):
        stage.control.add(Transfer(key(number)))
    for number in range(count):
        stage.control.on(key(number), Event.START)
    stage.loop.run(CHANGED_INTERVAL_S / 2)
    first_of_crowd = ADDED_AT_ONCE + CHANGED_AT_ONCE
    assert stage.of_manager("TransferAdded") == [(path_of(key(number)),) for number in range(ADDED_AT_ONCE)]
    stage.control.on(key(first_of_crowd), Event.FINISH)
    stage.loop.run(10 * ADDED_INTERVAL_S)
    added = {path: rows[TRANSFER]["Status"] for path, rows in stage.of_manager("InterfacesAdded")}
    assert len(added) == count
    assert added[path_of(key(first_of_crowd))] == "done"
    assert added[path_of(key(count - 1))] == "ongoing"
    assert [member for member, _ in stage.of(count - 1)] == []
    assert [member for member, _ in stage.of(first_of_crowd)] == ["Finished"]


def test_one_that_moves_is_told_of_with_its_progress_wherever_it_stands(stage: Stage) -> None:
    last = 9 * ADDED_AT_ONCE
    for number in range(last + 1):
        stage.control.add(Transfer(key(number)))
    stage.control.move(key(last), 5, 1000)
    stage.loop.run(2 * ADDED_INTERVAL_S)
    added = [
        rows[TRANSFER]["BytesDone"] for path, rows in stage.of_manager("InterfacesAdded") if path == path_of(key(last))
    ]
    assert added == [5]


def test_what_goes_in_the_middle_of_a_crowd_is_told_of_to_the_end_and_no_more(stage: Stage) -> None:
    for number in range(3 * CHANGED_AT_ONCE):
        stage.control.add(Transfer(key(number)))
        stage.control.on(key(number), Event.CANCEL)
        stage.control.remove(key(number))
    last = 3 * CHANGED_AT_ONCE - 1
    members = [member for member, _ in stage.of(last)]
    assert members == ["PropertiesChanged", "Finished"]
    assert stage.of_manager("TransferRemoved")[-1] == (path_of(key(last)), Status.CANCELLED)
    stage.sent.clear()
    stage.loop.run(2)
    assert [each.member for each in stage.sent if each.path != ROOT] == []
