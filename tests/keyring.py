"""A desktop's keyring (GNOME's, as it is on most of them) on a session bus of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dbus
import dbus.bus

from tests.bus import PrivateBus

NAME: Final = "org.freedesktop.secrets"
_WAIT_S = 30.0


@contextmanager
def running_keyring(bus: PrivateBus, folder: Path, *, unlocked: bool = True) -> Iterator[None]:
    """The keyring whose files are in `folder`; locked it asks for a password that nobody gives."""
    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--components=secrets", *(["--unlock"] if unlocked else [])],
        env={
            **os.environ,
            "DBUS_SESSION_BUS_ADDRESS": bus.address,
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_RUNTIME_DIR": str(run),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    connection = dbus.bus.BusConnection(bus.address)
    try:
        assert daemon.stdin is not None
        if unlocked:
            daemon.stdin.write(b"a password for tests\n")
        daemon.stdin.close()
        until = time.monotonic() + _WAIT_S
        while not connection.name_has_owner(NAME):
            assert time.monotonic() < until, "the keyring does not start"
            assert daemon.poll() is None, "the keyring has ended"
            time.sleep(0.01)
        yield
    finally:
        connection.close()
        daemon.terminate()
        daemon.wait(_WAIT_S)
