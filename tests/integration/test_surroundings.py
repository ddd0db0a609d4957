"""What NetworkManager, UPower and logind tell, and what is made of it; each played by python-dbusmock."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.bus.network import Connection, Network
from dmedia_transfer.bus.others import system_bus
from dmedia_transfer.bus.power import Power, Supply
from dmedia_transfer.bus.sleep import Sleep
from dmedia_transfer.reach import Distance
from tests.system import (
    CONNECTED,
    DISCONNECTED,
    FULL,
    LOGIND,
    NM,
    PORTAL,
    SITE,
    UPOWER,
    Mocks,
    mocks_on,
    settle,
)


@pytest.fixture(scope="module")
def mocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mocks]:
    """All three services."""
    with mocks_on(tmp_path_factory.mktemp("system"), NM, UPOWER, LOGIND) as mocks:
        yield mocks


@pytest.fixture
def bus(mocks: Mocks) -> Iterator[Any]:
    """A connection of ours, as the daemon has one."""
    connection = mocks.bus.connect()
    connection.set_exit_on_disconnect(False)
    yield connection
    connection.close()


class Told:
    """What a watcher told, in order."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def __call__(self, what: Any) -> None:
        self.all.append(what)

    def is_now(self, values: tuple[object, ...], *names: str) -> bool:
        return bool(self.all) and tuple(getattr(self.last, name) for name in names) == values

    @property
    def last(self) -> Any:
        return self.all[-1] if self.all else None


# The connection


@pytest.fixture
def online(mocks: Mocks) -> None:
    """Connected, as a test finds it."""
    mocks.network(CONNECTED)


@pytest.mark.usefixtures("online")
def test_the_connection_is_followed_as_it_goes_and_comes(mocks: Mocks, bus: Any) -> None:
    told = Told()
    network = Network(bus, told)
    settle(lambda: told.all == [Connection(Distance.FAR, False, "unknown")])
    for state, connectivity, metered, reach, costs in (
        (DISCONNECTED, 1, 2, Distance.HERE, False),
        (40, 0, 2, Distance.HERE, False),  # it is being made
        (CONNECTED, FULL, 1, Distance.FAR, True),
        (SITE, PORTAL, 2, Distance.NEAR, False),
        (CONNECTED, PORTAL, 2, Distance.NEAR, False),
        (CONNECTED, 0, 3, Distance.FAR, True),  # nobody checks; a guess that it costs
        (CONNECTED, FULL, 4, Distance.FAR, False),  # a guess that it does not
        (50, 3, 0, Distance.NEAR, False),
        (0, 0, 0, Distance.FAR, False),  # it does not know yet
    ):
        mocks.network(state, connectivity, metered=metered)
        settle(partial(told.is_now, (reach, costs), "reach", "metered"))
    network.close()


@pytest.mark.usefixtures("online")
def test_another_network_and_another_address_are_other_connections(mocks: Mocks, bus: Any) -> None:
    told = Told()
    network = Network(bus, told)
    settle(lambda: told.last)
    seen = {told.last.identity}
    mocks.join(1, "192.168.1.7")
    settle(lambda: "192.168.1.7" in told.last.identity)
    seen.add(told.last.identity)
    mocks.readdress(1, "192.168.1.8")
    settle(lambda: "192.168.1.8" in told.last.identity)
    seen.add(told.last.identity)
    mocks.join(2, "10.0.0.4")
    settle(lambda: "10.0.0.4" in told.last.identity)
    seen.add(told.last.identity)
    assert len(seen) == 4
    network.close()


def test_without_networkmanager_there_is_a_connection_and_when_it_comes_it_is_believed(
    system: Mocks,
) -> None:
    connection = system.bus.connect()
    connection.set_exit_on_disconnect(False)
    told = Told()
    network = Network(connection, told)
    system.start(NM)
    system.network(DISCONNECTED)
    settle(lambda: told.last == Connection(Distance.HERE))
    system.stop(NM)
    settle(lambda: told.last == Connection())
    network.close()
    connection.close()


def test_a_watcher_that_was_closed_tells_nothing(mocks: Mocks, bus: Any) -> None:
    mocks.network(CONNECTED)
    told, other = Told(), Told()
    network, witness = Network(bus, told), Network(bus, other)
    settle(lambda: told.all and other.all)
    network.close()
    mocks.network(DISCONNECTED)
    settle(lambda: other.last.reach is Distance.HERE)
    assert told.last.reach is Distance.FAR
    witness.close()


# The power


def test_a_battery_is_low_below_its_level_and_not_any_more_clearly_above(mocks: Mocks, bus: Any) -> None:
    mocks.mains()
    told = Told()
    power = Power(bus, told, min_percent=20)
    settle(lambda: told.all == [Supply()])
    for percent, low in ((50, False), (20, False), (19.5, True), (24, True), (26, False), (5, True)):
        mocks.battery(percent)
        settle(partial(told.is_now, (True, low), "on_battery", "low"))
    mocks.mains()
    settle(lambda: told.last == Supply())
    assert told.all == [
        Supply(),
        Supply(True, False),
        Supply(True, True),
        Supply(True, False),
        Supply(True, True),
        Supply(),
    ]
    mocks.battery(50)
    settle(lambda: told.last == Supply(True, False))
    mocks.mains()
    settle(lambda: told.last == Supply())
    power.close()


def test_with_the_level_zero_no_battery_is_low(mocks: Mocks, bus: Any) -> None:
    mocks.battery(1)
    told = Told()
    power = Power(bus, told, min_percent=0)
    settle(lambda: told.last == Supply(on_battery=True))
    mocks.mains()
    settle(lambda: told.last == Supply())
    assert told.all == [Supply(on_battery=True), Supply()]
    power.close()


def test_without_upower_the_machine_is_on_mains(system: Mocks) -> None:
    connection = system.bus.connect()
    connection.set_exit_on_disconnect(False)
    told = Told()
    power = Power(connection, told, min_percent=20)
    system.start(UPOWER)
    system.battery(10)
    settle(lambda: told.last == Supply(True, True))
    system.stop(UPOWER)
    settle(lambda: told.last == Supply())
    power.close()
    connection.close()


# Sleep


def test_inhibitors_are_held_as_long_as_they_are_wanted_and_no_longer(mocks: Mocks, bus: Any) -> None:
    sleep = Sleep(bus, Told())
    sleep.want(delay=True, block=True)
    both = [("sleep", "dmedia-transfer", "block"), ("sleep", "dmedia-transfer", "delay")]
    settle(lambda: mocks.inhibitors() == both)
    sleep.want(delay=True, block=True)
    sleep.want(delay=True, block=False)
    settle(lambda: mocks.inhibitors() == both[1:])
    sleep.want(delay=False, block=False)
    settle(lambda: mocks.inhibitors() == [])
    sleep.want(delay=True, block=True)
    sleep.want(delay=False, block=False)  # before logind has answered
    sleep.want(delay=False, block=True)
    settle(lambda: mocks.inhibitors() == both[:1])
    sleep.close()
    settle(lambda: mocks.inhibitors() == [])


def test_sleep_and_waking_are_told(mocks: Mocks, bus: Any) -> None:
    told = Told()
    sleep = Sleep(bus, told)
    sleep.want(delay=True, block=False)
    settle(lambda: mocks.inhibitors())
    mocks.prepare_for_sleep(True)
    settle(lambda: told.all == [True])
    mocks.prepare_for_sleep(False)
    settle(lambda: told.all == [True, False])
    sleep.close()
    settle(lambda: not mocks.inhibitors())


def test_a_logind_that_comes_back_is_asked_again(system: Mocks) -> None:
    connection = system.bus.connect()
    connection.set_exit_on_disconnect(False)
    sleep = Sleep(connection, Told())
    sleep.want(delay=True, block=False)
    for _ in range(2):
        system.start(LOGIND)
        settle(lambda: [mode for _, _, mode in system.inhibitors()] == ["delay"])
        system.stop(LOGIND)
    sleep.close()
    connection.close()


# Without any of it


def test_without_a_system_bus_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    assert system_bus() is None


def test_a_system_bus_that_goes_away_harms_nobody(system: Mocks) -> None:
    connection = system.bus.connect()
    connection.set_exit_on_disconnect(False)
    told = Told()
    system.start(NM)
    network = Network(connection, told)
    power = Power(connection, Told(), min_percent=20)
    sleep = Sleep(connection, Told())
    settle(lambda: told.all)
    system.bus.stop()
    settle(lambda: not connection.get_is_connected())
    sleep.want(delay=True, block=True)
    for watcher in (network, power, sleep):
        watcher.close()
    connection.close()
