"""A database that is away, wrong, slow or another one: the daemon says so, goes on, forgets nothing, and comes back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from dmedia_transfer import documents
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.client import Client
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from dmedia_transfer.model import StoreSpec, random_id
from dmedia_transfer.states import Status
from tests.bus import ROOT_DIR, PrivateBus
from tests.couch import TIMEOUT_S, CouchDb, CouchServer
from tests.device import Device
from tests.e2e.acting import download_of, wait_for
from tests.factories import BytesBody, content, file_spec
from tests.scripted import Answer, Asked
from tests.troubled import InPlace, TroubledDatabase
from tests.waiting import eventually

SLOW_BPS = 1024 * 1024  # of each connection to the store
SLOW_BYTES = 3 * 1024 * 1024 // 2  # so that a transfer takes a while


class House:
    """A device whose database stands behind something that can be told to make trouble."""

    def __init__(self, folder: Path, bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "couch.sqlite"
        self.server = EmbeddedServer(self.file, password="secret")
        self.server.start()
        self.between = TroubledDatabase(self.server.address.url)
        root = folder / "memory"
        root.mkdir()
        monkeypatch.setenv("DMEDIA_MEMORY_ROOT", str(root))
        address = self.server.address
        self.device = Device(
            folder / "tv",
            bus=bus,
            couch=CouchServer(self.between.url, address.user, address.password, embedded=True),
            settings={"max_transfers": 1},  # so that some wait for their turn
            env={"DMEDIA_MEMORY_ROOT": str(root), "PYTHONPATH": str(ROOT_DIR)},
            program="tests.impatient",
        )
        self.device.config_file.chmod(0o600)  # else that is what the doctor finds first

    def settle_in(self) -> None:
        """Have stores, and the daemon running."""
        with self.database() as couch:
            couch("PUT").raise_for_status()
        settings = {"folder": "objects", "rate_bps": SLOW_BPS}
        store = documents.new_store(random_id(), "memory", time=1.0, **settings)
        self.source = self.device.add_store(store)
        self.objects = MemoryBackend(StoreSpec(self.source, "memory", {"folder": "objects"}))
        self.home = self.device.add_filestore()
        self.device.start()

    @contextlib.contextmanager
    def database(self) -> Iterator[CouchDb]:
        """The database itself, past all trouble."""
        address = self.server.address
        direct = CouchServer(address.url, address.user, address.password, embedded=True)
        with direct.session() as session:
            yield CouchDb(session, f"{direct.base}/{self.device.database}")

    def add_file(self, seed: int, *, size: int = 5000) -> str:
        """A file in the store, with a document."""
        data = content(size, seed=seed)
        file = file_spec(data)
        self.objects.put(file, BytesBody(data), lambda _: None)
        self.put_document(file.file_id, size, file.leaf_digests)
        return file.file_id

    def put_document(self, file_id: str, size: int, digests: bytes) -> None:
        """Put a file's document."""
        stored = {self.source: {"copies": 1, "time": 1.0}}
        with self.database() as couch:
            couch.put(file_id, documents.new_file(file_id, size, digests, time=1.0, stored=stored))

    def restart_server(self) -> None:
        """Start the server again, maybe on another port."""
        self.server.start()
        self.between.upstream = self.server.address.url

    def queue(self) -> list[dict[str, Any]]:
        """What the database has."""
        with self.database() as couch:
            return list(couch.get(self.device.machine_id)["queue"])

    def queued(self) -> list[str]:
        """The files that are queued in the database."""
        return [entry["file_id"] for entry in self.queue()]

    def is_stored(self, file_id: str) -> bool:
        """Whether the document says that this machine has it."""
        with self.database() as couch:
            return self.home in couch.get(file_id)["stored"]

    def has(self, file_id: str) -> bool:
        """Whether the file is here."""
        return self.device.path_of(file_id).exists()

    def times_published(self, file_id: str) -> int:
        """How often a worker has brought it here."""
        return self.device.log().count(f"download {file_id}: published")

    def close(self) -> None:
        """Leave nothing running."""
        self.device.close()
        if self.server.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server.pid, signal.SIGCONT)
        self.server.stop()


@pytest.fixture
def house(tmp_path: Path, private_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A device at work."""
    house = House(tmp_path, private_bus, monkeypatch)
    try:
        with house.between:
            house.settle_in()
            yield house
    finally:
        house.close()


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    """A local app."""
    with house.device.client() as client:
        yield client


def ask(client: Client, *file_ids: str, **options: Any) -> None:
    """Queue downloads. A call that waited for the database would not be answered before the trouble is over."""
    for file_id in file_ids:
        client.queue_download(file_id, **options)


class Day:
    """What goes on while there is trouble: one moves, one that is known waits, and new ones are asked for."""

    def __init__(self, house: House, client: Client) -> None:
        self.house, self.client = house, client
        self.moving = house.add_file(1, size=SLOW_BYTES)
        self.waiting = house.add_file(2, size=SLOW_BYTES // 2)
        self.asked = [house.add_file(seed) for seed in (3, 4, 5)]
        ask(client, self.moving, self.waiting)
        wait_for(client, download_of(self.moving), Status.ONGOING, Status.DONE)
        eventually(lambda: client.transfer(download_of(self.waiting)).state().progress.bytes_total > 0)  # it is known
        eventually(lambda: set(house.queued()) >= {self.moving, self.waiting} or house.has(self.moving))

    def ask_meanwhile(self) -> None:
        """Ask for more; the answer does not depend on the database."""
        ask(self.client, *self.asked, paused=True)
        shown = {state.key.file_id: state.status for state in self.client.transfers()}
        assert [shown[file_id] for file_id in self.asked] == [Status.PAUSED] * 3

    def goes_on(self) -> None:
        """What was known is brought here."""
        eventually(lambda: self.house.has(self.moving) and self.house.has(self.waiting))

    def ends_well(self) -> None:
        """Everything that was asked for is written, in order, and done once."""
        house, client = self.house, self.client
        eventually(lambda: house.queued() == self.asked)
        eventually(lambda: client.state().problems == ())
        for file_id in self.asked:
            assert client.transfer(download_of(file_id)).resume()
        everything = [self.moving, self.waiting, *self.asked]
        eventually(lambda: all(map(house.has, everything)) and house.queued() == [])
        eventually(lambda: all(map(house.is_stored, everything)))
        assert [house.times_published(file_id) for file_id in everything] == [1] * 5


def problems_say(client: Client, words: Sequence[str]) -> None:
    """Wait until the daemon says what is wrong."""
    eventually(lambda: any(all(word in problem for word in words) for problem in client.state().problems))


def answering(status: int, error: str, reason: str, **headers: str) -> InPlace:
    """Whatever is asked, this is the answer, as CouchDB words it."""
    return lambda _: Answer(status, json={"error": error, "reason": reason}, headers=headers)


def writes(in_place: InPlace) -> InPlace:
    """Only writes are in trouble."""
    written = ("/_bulk_docs",)
    return lambda asked: in_place(asked) if asked.method == "PUT" or asked.path.endswith(written) else None


def html(_: Asked) -> Answer:
    """What a hotel's network says to everything."""
    return Answer(body=b"<html>Please log in</html>", content_type="text/html")


def nonsense(_: Asked) -> Answer:
    """Not even JSON."""
    return Answer(body=b'\x00\xff{"rows": [', content_type="application/json")


def other_json(_: Asked) -> Answer:
    """JSON, and nothing that CouchDB says."""
    return Answer(json=["hello"])


TROUBLES: dict[str, tuple[InPlace, Sequence[str]]] = {
    "401": (
        answering(401, "unauthorized", "Name or password is incorrect."),
        ["does not accept user", "incorrect"],
    ),
    "403": (
        answering(403, "forbidden", "Account is temporarily locked."),
        ["refuses user", "temporarily locked"],
    ),
    "404": (answering(404, "not_found", "Database does not exist."), ["has no such database"]),
    "409": (answering(409, "conflict", "Document update conflict."), ["409", "conflict"]),
    "412": (answering(412, "file_exists", "The database could not be created."), ["412"]),
    "413": (answering(413, "too_large", "the request entity is too large"), ["so large"]),
    "429": (answering(429, "too_many_requests", "slow down", **{"Retry-After": "2"}), ["429", "slow down"]),
    "500": (answering(500, "badmatch", "a fault of the server"), ["500", "a fault of the server"]),
    "html": (html, ["does not answer as CouchDB does", "text/html"]),
    "nonsense": (nonsense, ["CouchDB at", "JSON"]),
    "other-json": (other_json, ["CouchDB at", "sens"]),
}
WRITE_TROUBLES = {
    "409": (answering(409, "conflict", "Document update conflict."), ["changed"]),
    "403": (answering(403, "forbidden", "readers only"), ["refuses user", "readers only"]),
    "500": (answering(500, "badmatch", "the disk is full"), ["500", "the disk is full"]),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_database_that_answers_wrongly_holds_up_nothing_and_loses_nothing(
    house: House, client: Client, name: str
) -> None:
    in_place, words = TROUBLES[name]
    day = Day(house, client)
    with house.between.trouble(in_place):
        day.ask_meanwhile()
        problems_say(client, words)
        day.goes_on()
        assert house.queued() != day.asked
    day.ends_well()


@pytest.mark.parametrize("name", WRITE_TROUBLES)
def test_a_database_that_can_only_be_read_holds_up_nothing_and_loses_nothing(
    house: House, client: Client, name: str
) -> None:
    in_place, words = WRITE_TROUBLES[name]
    day = Day(house, client)
    with house.between.trouble(writes(in_place)):
        day.ask_meanwhile()
        problems_say(client, words)
        day.goes_on()
        assert house.queued() != day.asked
    day.ends_well()


def test_a_server_that_is_restarted_is_found_again(house: House, client: Client) -> None:
    day = Day(house, client)
    house.server.stop()
    house.between.cut()
    day.ask_meanwhile()
    problems_say(client, ["CouchDB at"])
    day.goes_on()
    house.restart_server()
    day.ends_well()


def test_a_server_that_is_frozen_is_noticed_and_keeps_nobody_waiting(house: House, client: Client) -> None:
    day = Day(house, client)
    assert house.server.pid is not None
    os.kill(house.server.pid, signal.SIGSTOP)
    day.ask_meanwhile()
    day.goes_on()
    problems_say(client, ["does not answer in time"])
    os.kill(house.server.pid, signal.SIGCONT)
    day.ends_well()


def test_a_slow_database_is_no_trouble(house: House, client: Client) -> None:
    day = Day(house, client)

    def slowly(_: Asked) -> None:
        time.sleep(0.7)

    with house.between.trouble(slowly):
        day.ask_meanwhile()
        day.goes_on()
        eventually(lambda: house.queued() == day.asked)
        assert client.state().problems == ()
    day.ends_well()


def test_a_compaction_is_no_trouble(house: House, client: Client) -> None:
    day = Day(house, client)
    over = threading.Event()

    def compact() -> None:
        while not over.is_set():
            with house.database() as couch:
                assert couch("POST", "/_compact", json={}).status_code == requests.codes.accepted

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        day.ask_meanwhile()
        day.goes_on()
        eventually(lambda: house.queued() == day.asked)
        assert client.state().problems == ()
    finally:
        over.set()
        thread.join(TIMEOUT_S)
    day.ends_well()


def test_a_backup_from_yesterday_brings_nothing_back_and_takes_nothing_away(house: House, client: Client) -> None:
    day = Day(house, client)
    cancelled = house.add_file(6)
    ask(client, cancelled, paused=True)
    eventually(lambda: cancelled in house.queued())
    yesterday = house.queue()
    backup = house.folder / "backup"
    with _stopped(house):
        _copy_database(house.file, backup)
    day.goes_on()
    assert client.transfer(download_of(cancelled)).cancel()
    day.ask_meanwhile()
    eventually(lambda: house.queued() == day.asked)
    assert {entry["file_id"] for entry in yesterday} >= {day.waiting, cancelled}

    with _stopped(house):
        _copy_database(backup, house.file)
    assert house.queue() == yesterday

    day.ends_well()
    assert not house.has(cancelled)
    assert house.times_published(cancelled) == 0


def test_a_database_that_is_deleted_and_made_anew_gets_its_queue_back(house: House, client: Client) -> None:
    day = Day(house, client)
    day.ask_meanwhile()
    eventually(lambda: house.queued()[-3:] == day.asked)
    kept = _documents(house)
    with house.database() as couch:
        couch("DELETE").raise_for_status()
    day.goes_on()
    eventually(lambda: _machine_is_back(house, day.asked))
    with house.database() as couch:  # replication brings the others back
        rows = couch.bulk([{key: value for key, value in raw.items() if key != "_rev"} for raw in kept])
        assert all("rev" in row for row in rows), rows
    with_documents = [day.moving, day.waiting, *day.asked]
    for file_id in day.asked:
        client.transfer(download_of(file_id)).resume()
    eventually(lambda: all(map(house.has, with_documents)) and house.queued() == [])
    eventually(lambda: client.state().problems == ())
    assert [house.times_published(file_id) for file_id in with_documents] == [1] * 5


def test_a_queue_that_was_asked_for_without_database_outlives_a_restart_of_the_daemon(
    house: House, client: Client
) -> None:
    day = Day(house, client)
    day.goes_on()
    in_place, _ = TROUBLES["500"]
    with house.between.trouble(in_place):
        day.ask_meanwhile()
        client.close()
        house.device.stop()
        house.device.start()
        with house.device.client() as again:
            problems_say(again, ["500"])
            shown = [state.key.file_id for state in again.transfers() if state.status is Status.PAUSED]
            assert shown == day.asked
        listed = json.loads(house.device.cli("list", "--json").stdout)
        assert any("500" in problem for problem in listed["problems"])
        assert [each["file_id"] for each in listed["transfers"]] == day.asked
        examined = house.device.cli("doctor", check=False)
        assert examined.returncode == 1
        assert "500" in examined.stdout
    with house.device.client() as day.client:
        day.ends_well()


@contextlib.contextmanager
def _stopped(house: House) -> Iterator[None]:
    house.server.stop()
    house.between.cut()
    yield
    house.restart_server()


def _copy_database(source: Path, target: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
        if Path(f"{source}{suffix}").exists():
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
    shutil.copy(source, target)


def _documents(house: House) -> list[dict[str, Any]]:
    """All documents but the machine's own, attachments inline."""
    with house.database() as couch:
        answer = couch("GET", "/_all_docs", params={"include_docs": "true", "attachments": "true"}).json()
    mine = house.device.machine_id
    docs = [row["doc"] for row in answer["rows"]]
    return [raw for raw in docs if not raw["_id"].startswith((mine, "_design/"))]


def _machine_is_back(house: House, asked: Sequence[str]) -> bool:
    with house.database() as couch:
        answer = couch("GET", f"/{house.device.machine_id}")
    return answer.status_code == 200 and [e["file_id"] for e in answer.json()["queue"]][-len(asked) :] == list(asked)
