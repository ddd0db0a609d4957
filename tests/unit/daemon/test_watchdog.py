from __future__ import annotations

import os

import pytest

from dmedia_transfer import notify
from dmedia_transfer.daemon.watchdog import Watchdog
from tests.clock import FakeLoop


def signs_of_life(monkeypatch: pytest.MonkeyPatch, loop: FakeLoop) -> list[float]:
    """The times at which systemd is told."""
    times: list[float] = []
    monkeypatch.setattr(notify, "alive", lambda: times.append(loop.clock.now))
    return times


def test_life_is_told_at_once_and_twice_in_the_time_that_systemd_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    told = signs_of_life(monkeypatch, loop)
    watchdog = Watchdog(loop.call_later, within_s=120)
    watchdog.start()
    loop.run(200)
    assert told == [0, 60, 120, 180]
    watchdog.stop()
    loop.run(200)
    assert told == [0, 60, 120, 180]


def test_nothing_wakes_up_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    told = signs_of_life(monkeypatch, loop)
    Watchdog(loop.call_later, within_s=None).start()
    assert (told, loop.waiting) == ([], 0)


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("120000000", None, 120.0),
        ("1500000", "ours", 1.5),
        ("1500000", "1", None),
        ("0", None, None),
        ("x", None, None),
    ],
)
def test_systemd_says_how_long_it_waits_and_whom_it_means(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is None:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert notify.watchdog_s() == seconds


def test_without_the_variable_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert notify.watchdog_s() is None
