"""A laptop, as its user has it: the connection goes and comes and costs, the battery runs low, the lid is closed."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dbus.bus
import pytest

from dmedia_transfer import documents
from dmedia_transfer.bindings import FILE_NAME as STORES_FILE
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.client import Client
from dmedia_transfer.model import Direction, TransferKey, random_id
from dmedia_transfer.states import Reason, Status
from tests.bus import PrivateBus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import Device, eventually
from tests.e2e.acting import LEAF, MIB, arrived, begin, wait_for, wait_for_bytes
from tests.e2e.conftest import Scene
from tests.proxy import FaultyProxy
from tests.s3 import S3Server
from tests.system import CONNECTED, DISCONNECTED, LOGIND, MOCK, NM, SITE, UPOWER, Mocks, mocks_on

SIZE = 2 * LEAF + 12345
FAR_HOST = "127.1"  # this machine, in a spelling that does not say so: as good as the Internet
BOTH = [("sleep", "dmedia-transfer", "block"), ("sleep", "dmedia-transfer", "delay")]


@dataclass
class Laptop(Scene):
    """A device whose daemon listens to a system bus. Its bucket is on the Internet; `near` is the same on loopback."""

    mocks: Mocks
    near: str

    def at_ease(self) -> None:
        """Connected, on mains, awake, and nothing slows it down."""
        self.mocks.network(CONNECTED)
        self.mocks.mains()
        self.proxy.stall(False)
        self.proxy.limit(None)


@pytest.fixture(scope="module")
def laptop_with_all(
    tmp_path_factory: pytest.TempPathFactory, module_bus: PrivateBus, couchdb_server: CouchServer, rclone_s3: S3Server
) -> Iterator[Laptop]:
    """One for all tests: it starts once."""
    folder = tmp_path_factory.mktemp("laptop")
    database = f"test-{uuid.uuid4().hex}"
    with (
        couchdb_server.session() as session,
        FaultyProxy(rclone_s3.address) as proxy,
        mocks_on(folder / "system", NM, UPOWER, LOGIND) as mocks,
    ):
        session.put(f"{couchdb_server.base}/{database}", timeout=TIMEOUT_S).raise_for_status()
        device = Device(
            folder / "laptop",
            bus=module_bus,
            couch=couchdb_server,
            database=database,
            settings={"allowed_http_hosts": [FAR_HOST], "connections": 1},
            env={
                "AWS_ACCESS_KEY_ID": rclone_s3.access_key,
                "AWS_SECRET_ACCESS_KEY": rclone_s3.secret_key,
                "DBUS_SYSTEM_BUS_ADDRESS": mocks.bus.address,
                "DMEDIA_NETWORK__METERED_MAX_BYTES": str(MIB),
            },
        )
        far = rclone_s3.spec(url=f"http://{FAR_HOST}:{proxy.address[1]}", store_id=random_id())
        raw = documents.new_store(far.store_id, "s3", time=time.time(), **dict(far.settings))
        device.put(raw)
        Bindings(device.state_dir / STORES_FILE, allowed_http_hosts=[FAR_HOST]).enable(raw)
        near = device.add_s3(rclone_s3, url=proxy.url)
        home = device.add_filestore()
        laptop = Laptop(device, rclone_s3, proxy, home, far.store_id, mocks, near)
        laptop.at_ease()
        device.start()
        yield laptop
        device.close()
        session.delete(f"{couchdb_server.base}/{database}", timeout=TIMEOUT_S)


@pytest.fixture
def laptop(laptop_with_all: Laptop) -> Iterator[Laptop]:
    """At ease before and after, with nothing under way."""
    laptop_with_all.at_ease()
    yield laptop_with_all
    with laptop_with_all.device.client() as client:
        for state in client.transfers():
            if not state.status.ended:
                client.transfer(state.key).cancel()
    laptop_with_all.at_ease()


def under_way(
    laptop: Laptop, client: Client, direction: Direction, seed: int, *, size: int = SIZE
) -> tuple[TransferKey, bytes]:
    """A transfer in the middle of its bytes."""
    laptop.proxy.limit(8 * MIB)
    key, data = begin(laptop, client, direction, size, seed=seed)
    wait_for_bytes(client, key, MIB)
    return key, data


def finish(laptop: Laptop, client: Client, key: TransferKey, data: bytes) -> None:
    laptop.proxy.limit(None)
    assert client.transfer(key).wait(timeout_s=60).status is Status.DONE
    assert arrived(laptop, key) == data


def suspended(client: Client, key: TransferKey, reason: Reason) -> None:
    """Wait until it is, for this reason."""
    eventually(lambda: client.transfer(key).state().reason is reason)


@pytest.mark.parametrize("direction", list(Direction))
def test_without_a_connection_it_waits_and_with_the_next_one_it_goes_on(laptop: Laptop, direction: Direction) -> None:
    with laptop.device.client() as client:
        key, data = under_way(laptop, client, direction, seed=100 + (direction is Direction.UPLOAD))
        laptop.mocks.network(DISCONNECTED)
        suspended(client, key, Reason.OFFLINE)
        assert not client.state().online
        eventually(lambda: client.state().active == 0)
        laptop.mocks.network(CONNECTED)
        wait_for(client, key, Status.ONGOING, Status.DONE)
        assert client.state().online
        finish(laptop, client, key, data)


def test_what_is_on_this_machine_needs_no_connection(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        laptop.mocks.network(DISCONNECTED)
        eventually(lambda: not client.state().online)
        key, data = begin(laptop, client, Direction.DOWNLOAD, MIB, seed=110)
        suspended(client, key, Reason.OFFLINE)
        assert client.transfer(key).cancel()
        near = client.queue_download(key.file_id, laptop.near)
        assert near.wait(timeout_s=60).status is Status.DONE
        assert arrived(laptop, key) == data


def test_behind_a_login_page_the_internet_is_away(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        laptop.mocks.network(SITE)
        eventually(lambda: not client.state().online)
        key, data = begin(laptop, client, Direction.DOWNLOAD, MIB, seed=111)
        suspended(client, key, Reason.OFFLINE)
        laptop.mocks.network(CONNECTED)
        finish(laptop, client, key, data)


def test_another_network_cuts_what_the_last_one_left_hanging(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        laptop.mocks.join(1, "192.168.1.7")
        key, data = under_way(laptop, client, Direction.DOWNLOAD, seed=120)
        laptop.proxy.stall()  # as when the Wi-Fi is out of reach: nobody says anything, for a minute
        before = laptop.proxy.connections
        laptop.mocks.join(2, "10.0.0.4")
        eventually(lambda: laptop.proxy.connections > before, within_s=30)
        laptop.proxy.stall(False)
        finish(laptop, client, key, data)


def test_over_a_connection_that_costs_only_the_small_and_the_allowed_goes(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        key, data = under_way(laptop, client, Direction.DOWNLOAD, seed=130)
        laptop.mocks.network(CONNECTED, metered=1)
        suspended(client, key, Reason.METERED)
        assert client.state().metered
        small, _ = begin(laptop, client, Direction.DOWNLOAD, MIB // 2, seed=131)
        assert client.transfer(small).wait(timeout_s=60).status is Status.DONE
        assert client.transfer(key).state().status is Status.SUSPENDED
        laptop.device.cli("download", key.file_id, "--even-metered")
        wait_for(client, key, Status.ONGOING, Status.DONE)
        assert client.transfer(key).state().metered
        eventually(lambda: any(entry.get("metered") for entry in laptop.device.queued()))
        finish(laptop, client, key, data)


def test_a_low_battery_holds_everything_until_there_is_power(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        key, data = under_way(laptop, client, Direction.UPLOAD, seed=140)
        laptop.mocks.battery(50)
        eventually(lambda: laptop.mocks.inhibitors() == BOTH[1:])  # on a battery it may fall asleep
        assert client.transfer(key).state().status is Status.ONGOING
        laptop.mocks.battery(14)
        suspended(client, key, Reason.BATTERY)
        laptop.mocks.mains()
        finish(laptop, client, key, data)


def test_it_stays_awake_while_something_moves_and_sleeps_when_it_has_let_go(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        key, data = under_way(laptop, client, Direction.DOWNLOAD, seed=150)
        eventually(lambda: laptop.mocks.inhibitors() == BOTH)
        laptop.mocks.prepare_for_sleep(True)
        suspended(client, key, Reason.SHUTDOWN)
        eventually(lambda: laptop.mocks.inhibitors() == [])
        assert client.state().active == 0
        laptop.mocks.prepare_for_sleep(False)
        wait_for(client, key, Status.ONGOING, Status.DONE)
        finish(laptop, client, key, data)
    eventually(lambda: laptop.mocks.inhibitors() == [])


def test_after_waking_a_dead_connection_is_not_waited_for(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        key, data = under_way(laptop, client, Direction.UPLOAD, seed=160)
        laptop.proxy.stall()
        before = laptop.proxy.connections
        laptop.mocks.prepare_for_sleep(False)  # of the sleep itself nothing was heard
        eventually(lambda: laptop.proxy.connections > before, within_s=30)
        laptop.proxy.stall(False)
        finish(laptop, client, key, data)


def test_a_batch_of_many_files_is_one_notification(laptop: Laptop) -> None:
    name, path = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
    bus = dbus.bus.BusConnection(laptop.device.bus.address)
    desktop = subprocess.Popen(
        [sys.executable, "-m", "dbusmock", "--session", "--template", "notification_daemon"],
        env=dict(laptop.device.bus.env),
        stdout=subprocess.DEVNULL,
    )

    def shown() -> list[Any]:
        calls = bus.call_blocking(name, path, MOCK, "GetMethodCalls", "s", ["Notify"])
        return [arguments for _, arguments in calls]

    try:
        eventually(lambda: bus.name_has_owner(name))
        with laptop.device.client() as client:
            client.pause_all()
            keys = [begin(laptop, client, Direction.DOWNLOAD, 1000, seed=180 + number)[0] for number in range(12)]
            client.resume_all()
            for key in keys:
                wait_for(client, key, Status.DONE)
        eventually(shown)
        ((_, _, _, title, body, *_),) = shown()
        assert title.startswith("Files ")
        assert int(body.split()[0]) >= 12  # what the test before has moved a moment ago is of the same batch
    finally:
        desktop.kill()
        desktop.wait(30)
        bus.close()


def test_services_that_crash_leave_a_daemon_that_takes_all_for_granted(laptop: Laptop) -> None:
    with laptop.device.client() as client:
        laptop.mocks.network(DISCONNECTED)
        laptop.mocks.battery(5)
        eventually(lambda: not client.state().online)
        key, data = begin(laptop, client, Direction.DOWNLOAD, MIB, seed=170)
        wait_for(client, key, Status.SUSPENDED)
        laptop.mocks.stop(NM, UPOWER, LOGIND)
        finish(laptop, client, key, data)
        laptop.mocks.start(NM, UPOWER, LOGIND)
