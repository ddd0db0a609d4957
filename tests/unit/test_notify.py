from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer import notify


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        if request.param == "path":
            listener.bind(str(tmp_path / "notify"))
            name = str(tmp_path / "notify")
        else:
            listener.bind("")  # the kernel picks an abstract name
            name = "@" + listener.getsockname()[1:].decode()
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def test_systemd_is_told_of_ready_stopping_and_status(systemd: socket.socket) -> None:
    assert notify.ready()
    assert notify.status("2 active\n 3 waiting")
    assert notify.alive()
    assert notify.stopping("bye")
    said = [systemd.recv(1000) for _ in range(4)]
    assert said == [b"READY=1", b"STATUS=2 active 3 waiting", b"WATCHDOG=1", b"STOPPING=1\nSTATUS=bye"]


def test_a_reload_is_told_with_the_time_of_the_monotonic_clock(systemd: socket.socket) -> None:
    before_us = time.monotonic_ns() // 1000
    assert notify.reloading()
    match = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", systemd.recv(1000))
    assert match
    assert before_us <= int(match[1]) <= time.monotonic_ns() // 1000


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.ready()


def test_a_socket_that_is_gone_is_a_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        assert not notify.ready()
    assert "READY=1" in caplog.text
