"""A desktop, played by python-dbusmock: its notifications, its launcher and KDE's list of jobs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dbus
import dbus.bus
import dbus.lowlevel
import pytest

from dmedia_transfer.bus.desktop import (
    JOB,
    JOBS,
    JOBS_PATH,
    KUISERVER,
    LAUNCHER,
    NOTIFICATIONS,
    NOTIFICATIONS_PATH,
    UNITY,
)
from dmedia_transfer.daemon.people import People
from dmedia_transfer.model import Direction, Failure, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event
from tests.bus import PrivateBus
from tests.control import FakeControl
from tests.system import MOCK, settle

JOB_PATH = "/JobViewServer/JobView_1"


class Desktop:
    """The mocks, and the daemon's side with a manager that is not real."""

    def __init__(self, bus: PrivateBus, *names: str) -> None:
        self._own = dbus.bus.BusConnection(bus.address)
        self._processes: list[subprocess.Popen[bytes]] = []
        if NOTIFICATIONS in names:
            self._start(bus, NOTIFICATIONS, "--template", "notification_daemon")
        if KUISERVER in names:
            self._start(bus, KUISERVER, KUISERVER, JOBS_PATH, JOBS)
            self.call(
                KUISERVER, JOBS_PATH, "AddMethod", "sssss", JOBS, "requestView", "ssi", "o", f'ret = "{JOB_PATH}"'
            )
            methods = [("setTotalAmount", "ts"), ("setProcessedAmount", "ts"), ("setPercent", "u"), ("setSpeed", "t")]
            methods += [("setInfoMessage", "s"), ("terminate", "s")]
            table = dbus.Array([(name, takes, "", "") for name, takes in methods], signature="(ssss)")
            nothing = dbus.Dictionary({}, signature="sv")
            self.call(KUISERVER, JOBS_PATH, "AddObject", "ssa{sv}a(ssss)", JOB_PATH, JOB, nothing, table)
        if UNITY in names:
            self._own.request_name(UNITY)
        self.control = FakeControl()
        self.opened: list[Path] = []
        self.connection = bus.connect()
        self.connection.set_exit_on_disconnect(False)
        self.updates: list[dict[str, Any]] = []
        self.connection.add_signal_receiver(lambda _, values: self.updates.append(values), "Update", LAUNCHER)
        self.now_s = 0.0
        self.people = People(
            self.control,
            self.connection,
            path_of=lambda file_id: f"/store/files/{file_id[:2]}/{file_id[2:]}",
            clock=lambda: self.now_s,
            open_folder=self.opened.append,
        )

    def _start(self, bus: PrivateBus, name: str, *arguments: str) -> None:
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "dbusmock", "--session", *arguments],
                env=dict(bus.env),
                stdout=subprocess.DEVNULL,
            )
        )
        until = time.monotonic() + 30
        while not self._own.name_has_owner(name):
            assert time.monotonic() < until, f"{name} does not start"
            time.sleep(0.01)

    def call(self, name: str, path: str, method: str, signature: str, *arguments: Any) -> Any:
        return self._own.call_blocking(name, path, MOCK, method, signature, arguments)

    def calls(self, name: str, path: str, method: str) -> list[Sequence[Any]]:
        """The arguments of all calls of a method."""
        return [values for _, called, values in self.call(name, path, "GetCalls", "") if called == method]

    def shown(self) -> list[Sequence[Any]]:
        return self.calls(NOTIFICATIONS, NOTIFICATIONS_PATH, "Notify")

    def choose(self, number: int, action: str) -> None:
        values = dbus.Array([dbus.UInt32(number), action], signature="v")
        self.call(
            NOTIFICATIONS, NOTIFICATIONS_PATH, "EmitSignal", "sssav", NOTIFICATIONS, "ActionInvoked", "us", values
        )

    def ask(self, number: int) -> TransferKey:
        key = TransferKey(Direction.DOWNLOAD, f"{number:048}", "")
        self.control.add(Transfer(key, progress=Progress(0, 1_000_000)))
        self.control.on(key, Event.START)
        return key

    def close(self) -> None:
        self.people.close()
        self.connection.close()
        self._own.close()
        for process in self._processes:
            process.kill()
            process.wait(30)


@pytest.fixture
def desktop(private_bus: PrivateBus) -> Iterator[Desktop]:
    """One with all of it."""
    desktop = Desktop(private_bus, NOTIFICATIONS, KUISERVER, UNITY)
    yield desktop
    desktop.close()


def test_there_is_one_notification_for_a_batch_and_the_next_one_replaces_it(desktop: Desktop) -> None:
    keys = [desktop.ask(number) for number in range(12)]
    for key in keys:
        desktop.control.on(key, Event.FINISH)
    settle(lambda: len(desktop.shown()) == 1)
    app, replaces, _, title, body, actions, *_ = desktop.shown()[0]
    assert (app, replaces, title) == ("dmedia-transfer", 0, "Files have arrived")
    assert body.startswith("12 files, ")
    assert list(actions) == ["show", "Show"]
    desktop.choose(1, "show")
    settle(lambda: desktop.opened == [Path(f"/store/files/{keys[-1].file_id[:2]}")])

    key = desktop.ask(100)
    desktop.control.on(key, Event.FAIL, failure=Failure("AccessDenied", "bucket <films> & co: refused"))
    settle(lambda: len(desktop.shown()) == 2)
    _, replaces, _, title, body, actions, hints, _ = desktop.shown()[1]
    assert (replaces, title, list(actions)) == (1, "A transfer failed", ["retry", "Try again"])
    assert body == "bucket &lt;films&gt; &amp; co: refused"
    assert hints["urgency"] == 1
    desktop.choose(7, "retry")  # of somebody else's notification
    desktop.choose(1, "retry")
    settle(lambda: desktop.control.transfers()[key].status == "queued")


def test_progress_is_in_the_launcher_and_in_the_list_of_jobs_and_goes_away(desktop: Desktop) -> None:
    settle(lambda: desktop.people._displays._launcher.owner and desktop.people._displays._kde.owner)
    key = desktop.ask(1)
    for step in range(1, 5):
        desktop.control.move(key, step * 200_000, rate=5000.0)
        settle(lambda step=step: desktop.updates and desktop.updates[-1]["progress"] >= 0.2 * step - 0.01)  # type: ignore[misc]
    assert desktop.updates[-1]["progress-visible"]
    assert desktop.updates[-1]["count"] == 1
    assert tuple(desktop.calls(KUISERVER, JOB_PATH, "setTotalAmount")[-1]) == (1_000_000, "bytes")
    assert desktop.calls(KUISERVER, JOB_PATH, "setPercent")[-1][0] == 80
    desktop.call(KUISERVER, JOB_PATH, "EmitSignal", "sssav", JOB, "suspendRequested", "", dbus.Array([], signature="v"))
    settle(lambda: desktop.control.summary().queue_paused)
    desktop.control.on(key, Event.FINISH)
    settle(lambda: not desktop.updates[-1]["progress-visible"])
    settle(lambda: desktop.calls(KUISERVER, JOB_PATH, "terminate"))
    assert len(desktop.calls(KUISERVER, JOBS_PATH, "requestView")) == 1


def test_where_there_is_no_desktop_nothing_is_wrong(private_bus: PrivateBus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    desktop = Desktop(private_bus)
    try:
        keys = [desktop.ask(number) for number in range(12)]
        for key in keys:
            desktop.control.move(key, 500_000)
            desktop.control.on(key, Event.FINISH)
        settle(lambda: "Notify failed" in caplog.text)
        assert desktop.updates == []
        assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    finally:
        desktop.close()
