"""A private session bus, and our service on it with a manager that is not real."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dbus
import dbus.bus
import dbus.mainloop.glib
import pytest
from gi.repository import GLib

from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.service import BusService
from tests.control import FakeControl
from tests.jobcontrol import FakeJobs
from tests.waiting import WAIT_S

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir=/tmp</listen>
  <auth>EXTERNAL</auth>
  {servicedir}
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <limit name="max_match_rules_per_connection">50000</limit>
</busconfig>
"""
ROOT_DIR = Path(__file__).parents[1]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PrivateBus:
    """A dbus-daemon of our own."""

    address: str
    stop: Callable[[], None]  # as at the end of a session

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of a program that should find this bus."""
        return {**os.environ, "DBUS_SESSION_BUS_ADDRESS": self.address}

    def has_owner(self, name: str) -> bool:
        """Whether somebody has this name.

        Asked on a connection that no main loop has: another thread may run the default one, and libdbus aborts the
        process when a connection is made here and dispatched there at once.
        """
        connection = dbus.bus.BusConnection(self.address)
        try:
            return bool(connection.name_has_owner(name))
        finally:
            connection.close()

    def connect(self) -> Any:
        """A new connection of dbus-python, joined to the default GLib context."""
        loop = dbus.mainloop.glib.DBusGMainLoop()
        return dbus.bus.BusConnection(self.address, mainloop=loop)


@contextmanager
def running_bus(
    directory: Path, *, servicedir: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[PrivateBus]:
    """Run a dbus-daemon; services in `servicedir` are started on their first call, with `env`."""
    config = directory / "bus.conf"
    config.write_text(_CONFIG.format(servicedir=f"<servicedir>{servicedir}</servicedir>" if servicedir else ""))
    with (directory / "bus.log").open("w") as log:
        daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--print-address=1", "--nofork", "--nopidfile", "--nosyslog"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=dict(env) if env is not None else None,
        )
    try:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().strip()
        assert address, (directory / "bus.log").read_text()
        yield PrivateBus(address, daemon.terminate)
    finally:
        daemon.terminate()
        daemon.wait(WAIT_S)
        if daemon.stdout:
            daemon.stdout.close()


@pytest.fixture
def private_bus(tmp_path: Path) -> Iterator[PrivateBus]:
    """A session bus for one test."""
    with running_bus(tmp_path) as bus:
        yield bus


@pytest.fixture(scope="module")
def module_bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBus]:
    """A session bus for all tests of a module."""
    with running_bus(tmp_path_factory.mktemp("bus")) as bus:
        yield bus


class ServiceThread:
    """The service in this process: the default GLib context runs in a thread that stands for the daemon's main one."""

    def __init__(self, bus: PrivateBus) -> None:
        self.bus = bus
        self.control = FakeControl()
        self.jobs = FakeJobs()
        self._loop = GLib.MainLoop()
        self._thread = threading.Thread(target=self._loop.run, name="service")
        self._connection: Any = None
        self.service: Any = None

    def start(self) -> None:
        """Run the loop, and publish on it."""
        self._thread.start()
        self.do(self._publish)

    def stop(self) -> None:
        """Close the service and end the loop."""
        self.do(self._close)
        self._loop.quit()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def do(self, function: Callable[[], _Result]) -> _Result:
        """Call a function on the service's thread, and wait for its result."""
        results: list[_Result] = []
        failures: list[BaseException] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:
                failures.append(error)
            finally:
                done.set()

        mainloop.call_soon(run)
        assert done.wait(WAIT_S), "the service's thread does not answer"
        if failures:
            raise failures[0]
        return results[0]

    def _publish(self) -> None:
        self._connection = self.bus.connect()
        self._connection.set_exit_on_disconnect(False)
        self.service = BusService(self.control, self._connection, jobs=self.jobs)
        self.service.publish()

    def _close(self) -> None:
        self.service.close()
        self._connection.close()


@contextmanager
def running_server(bus: PrivateBus) -> Iterator[subprocess.Popen[bytes]]:
    """Our service in a process of its own (`tests.bus_server`), ready."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bus_server"], env=bus.env, cwd=ROOT_DIR, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield server
    finally:
        server.kill()
        server.wait(WAIT_S)
        if server.stdout:
            server.stdout.close()


@contextmanager
def running_service(bus: PrivateBus) -> Iterator[ServiceThread]:
    """Our service on this bus."""
    dbus.mainloop.glib.threads_init()
    service = ServiceThread(bus)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def module_bus_service(module_bus: PrivateBus) -> Iterator[ServiceThread]:
    """Our service for all tests of a module; `bus_service` empties its manager for each."""
    with running_service(module_bus) as service:
        yield service


@pytest.fixture
def bus_service(module_bus_service: ServiceThread) -> ServiceThread:
    """Our service with an empty manager."""
    module_bus_service.do(module_bus_service.control.reset)
    module_bus_service.do(module_bus_service.jobs.reset)
    return module_bus_service
