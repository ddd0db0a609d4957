"""The daemon as a service of systemd, which a socket plays here: ready, alive, a new configuration, the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.bus import PrivateBus
from tests.device import WAIT_S, Device, eventually


class Systemd:
    """What listens at `$NOTIFY_SOCKET`."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.said: list[str] = []

    def hears(self, line: str, *, times: int = 1) -> bool:
        """Whether the service has said this so often by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self._listener.recv(4096).decode().split("\n")
        return self.said.count(line) >= times


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, module_bus: PrivateBus) -> Iterator[tuple[Device, Systemd]]:
    """A daemon as systemd runs it, with the built-in document server."""
    folder = tmp_path_factory.mktemp("service")
    device = Device(folder / "tv", bus=module_bus, settings={"max_transfers": 3, "log_level": "INFO"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(folder / "notify"))
        device.start(NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC="1000000")
        yield device, Systemd(listener)
        device.close()


def configure(device: Device, **settings: object) -> None:
    """Change lines of the configuration, and say so."""
    lines = dict(line.split(" = ", 1) for line in device.config_file.read_text().splitlines())
    lines |= {name: json.dumps(value) for name, value in settings.items()}
    device.config_file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    os.kill(device.pid, signal.SIGHUP)


def test_it_says_that_it_is_ready_and_that_it_lives(service: tuple[Device, Systemd]) -> None:
    _, systemd = service
    eventually(lambda: systemd.hears("READY=1"))
    eventually(lambda: systemd.hears("WATCHDOG=1", times=3))


def test_a_new_configuration_is_in_force_at_once_and_what_needs_a_restart_is_named(
    service: tuple[Device, Systemd],
) -> None:
    device, systemd = service
    eventually(lambda: systemd.hears("READY=1"))
    ready = systemd.said.count("READY=1")
    with device.client() as client:
        client.set_limits(upload_bps=777_000)
        configure(device, max_transfers=5, download_limit="5MB/s", database="another")
        eventually(lambda: client.state().max_transfers == 5)
        state = client.state()
        assert state.download_limit_bps == 5_000_000
        assert state.upload_limit_bps == 777_000  # its line is the same, so what was set since stays
        assert state.problems == ()
    eventually(lambda: systemd.hears("RELOADING=1") and systemd.hears("READY=1", times=ready + 1))
    assert "needs a restart: database" in device.log()


def test_a_bad_configuration_leaves_the_old_one_in_force_and_says_what_is_wrong(
    service: tuple[Device, Systemd],
) -> None:
    device, _ = service
    with device.client() as client:
        limit = client.state().download_limit_bps
        configure(device, max_transfers=5, timetable="08:00 fast", download_limit="1MB/s")
        problem = eventually(lambda: [one for one in client.state().problems if "timetable" in one])[0]
        assert "08:00 fast" in problem
        assert client.state().download_limit_bps == limit
        configure(device, timetable="")
        eventually(lambda: client.state().download_limit_bps == 1_000_000)
        assert not [one for one in client.state().problems if "timetable" in one]


def test_at_the_end_it_says_so_and_leaves_with_success(service: tuple[Device, Systemd]) -> None:
    device, systemd = service  # the last test of the module: it ends the daemon
    assert device.stop() == 0
    eventually(lambda: systemd.hears("STOPPING=1"), within_s=WAIT_S)
