"""A private system bus with python-dbusmock's NetworkManager, UPower and logind on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dbus
import dbus.bus
import pytest
from gi.repository import GLib

from tests.bus import PrivateBus, running_bus

NM, NM_PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
UPOWER, UPOWER_PATH = "org.freedesktop.UPower", "/org/freedesktop/UPower"
BATTERY_PATH = f"{UPOWER_PATH}/devices/DisplayDevice"
LOGIND, LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MOCK = "org.freedesktop.DBus.Mock"
CONNECTED, SITE, DISCONNECTED = 70, 60, 20
FULL, PORTAL = 4, 2
TEMPLATES: Final = {NM: "networkmanager", UPOWER: "upower", LOGIND: "logind"}
_WAIT_S = 30.0


def settle(condition: Callable[[], object], *, within_s: float = _WAIT_S) -> None:
    """Run the default main context until something is so."""
    context = GLib.MainContext.default()
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it does not come"
        if not context.iteration(False):
            time.sleep(0.002)


class Mocks:
    """The services, as somebody who turns knobs sees them."""

    def __init__(self, bus: PrivateBus) -> None:
        self.bus = bus
        self._connection = dbus.bus.BusConnection(bus.address)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Put services on the bus."""
        for name in names:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dbusmock", "--system", "--template", TEMPLATES[name]],
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address},
                stdout=subprocess.DEVNULL,
            )
        until = time.monotonic() + _WAIT_S
        for name in names:
            while not self._connection.name_has_owner(name):
                assert time.monotonic() < until, f"{name} does not start"
                time.sleep(0.01)
        # A name is there before its objects are.
        for name, path in ((NM, NM_PATH), (UPOWER, BATTERY_PATH), (LOGIND, LOGIND_PATH)):
            while name in names and not self._answers(name, path):
                assert time.monotonic() < until, f"{path} is not there"
                time.sleep(0.01)

        if NM in names:
            more = {"Metered": dbus.UInt32(0), "PrimaryConnection": dbus.ObjectPath("/")}
            self.call(NM, NM_PATH, MOCK, "AddProperties", "sa{sv}", NM, dbus.Dictionary(more, signature="sv"))

    def stop(self, *names: str) -> None:
        """Take services off the bus, as a crash does."""
        for name in names or tuple(self._processes):
            process = self._processes.pop(name)
            process.kill()
            process.wait(_WAIT_S)

    def close(self) -> None:
        """Leave nothing running."""
        self.stop()
        self._connection.close()

    def call(self, name: str, path: str, interface: str, method: str, signature: str, *arguments: Any) -> Any:
        """Call a method, and wait."""
        return self._connection.call_blocking(name, path, interface, method, signature, arguments)

    def set(self, name: str, path: str, interface: str, **values: Any) -> None:
        """Change properties, and have it told."""
        for key, value in values.items():
            self.call(name, path, "org.freedesktop.DBus.Properties", "Set", "ssv", interface, key, value)

    def _answers(self, name: str, path: str) -> bool:
        try:
            self.call(name, path, "org.freedesktop.DBus.Introspectable", "Introspect", "")
        except dbus.DBusException:
            return False
        return True

    # The connection.

    def network(self, state: int, connectivity: int = FULL, *, metered: int = 2) -> None:
        """What the connection is like."""
        self.set(
            NM,
            NM_PATH,
            NM,
            State=dbus.UInt32(state),
            Connectivity=dbus.UInt32(connectivity),
            Metered=dbus.UInt32(metered),
        )

    def join(self, number: int, address: str) -> None:
        """Another connection becomes the one that everything goes over."""
        active, config = f"{NM_PATH}/ActiveConnection/{number}", f"{NM_PATH}/IP4Config/{number}"
        self._add(config, f"{NM}.IP4Config", AddressData=_addresses(address), Gateway="192.168.1.1")
        self._add(active, f"{NM}.Connection.Active", Ip4Config=dbus.ObjectPath(config), Ip6Config=dbus.ObjectPath("/"))
        self.set(NM, NM_PATH, NM, PrimaryConnection=dbus.ObjectPath(active))

    def readdress(self, number: int, address: str) -> None:
        """The connection gets another address."""
        self.set(NM, f"{NM_PATH}/IP4Config/{number}", f"{NM}.IP4Config", AddressData=_addresses(address))

    def _add(self, path: str, interface: str, **values: Any) -> None:
        properties = dbus.Dictionary(values, signature="sv")
        nothing = dbus.Array([], signature="(ssss)")
        self.call(NM, "/org/freedesktop", MOCK, "AddObject", "ssa{sv}a(ssss)", path, interface, properties, nothing)

    # The power.

    def battery(self, percent: float) -> None:
        """On a battery of this level."""
        self.set(
            UPOWER,
            BATTERY_PATH,
            f"{UPOWER}.Device",
            IsPresent=True,
            Percentage=dbus.Double(percent),
        )
        self.set(UPOWER, UPOWER_PATH, UPOWER, OnBattery=True)

    def mains(self) -> None:
        """On mains."""
        self.set(UPOWER, UPOWER_PATH, UPOWER, OnBattery=False)

    # Sleep.

    def inhibitors(self) -> list[tuple[str, str, str]]:
        """What is inhibited: what, who, mode."""
        listed: Sequence[Any] = self.call(LOGIND, LOGIND_PATH, f"{LOGIND}.Manager", "ListInhibitors", "")
        return sorted((str(what), str(who), str(mode)) for what, who, _, mode, *_ in listed)

    def prepare_for_sleep(self, asleep: bool) -> None:
        """The machine is about to sleep, or has woken."""
        arguments = dbus.Array([dbus.Boolean(asleep)], signature="v")
        self.call(
            LOGIND, LOGIND_PATH, MOCK, "EmitSignal", "sssav", f"{LOGIND}.Manager", "PrepareForSleep", "b", arguments
        )


def _addresses(address: str) -> Any:
    return dbus.Array([dbus.Dictionary({"address": address}, signature="sv")], signature="a{sv}")


@contextmanager
def mocks_on(folder: Path, *names: str) -> Iterator[Mocks]:
    """A system bus with these services."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_bus(folder) as bus:
        mocks = Mocks(bus)
        try:
            mocks.start(*names)
            yield mocks
        finally:
            mocks.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Mocks]:
    """A system bus with nothing on it yet."""
    with mocks_on(tmp_path / "system-bus") as mocks:
        yield mocks
