"""Machines of one library that serve each other: separate hosts, each with a daemon and a database of its own.

A phone, which is a database and somebody who edits documents, says what is wanted. Nobody enables a store: that the
machines are in the library is all that there is between them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from dmedia_transfer import documents
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.model import random_id
from dmedia_transfer.states import Status
from tests.bus import running_bus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import eventually
from tests.e2e.acting import download_of, state_of, wait_for_bytes
from tests.e2e.looking import recorded
from tests.e2e.members import Member, Phone
from tests.e2e.test_fault_points import RECEIVING_FROM_A_PEER
from tests.factories import content
from tests.lan import Lan, Place
from tests.proxy import FaultyProxy

MIB = 1024 * 1024
FILM_BYTES = 20 * MIB + 777  # three leaves


class Host(Member):
    """A machine on the network."""

    place: Place
    store_id: str

    def trusts(self, other: Host) -> bool:
        """Whether it speaks to another machine, at the address that that one has now."""
        try:
            known = json.loads((self.state_dir / "peers.json").read_text())["machines"]
        except FileNotFoundError:
            return False
        there = known.get(other.machine_id) or {"addresses": ()}
        return any(each.startswith(f"{other.place.address}:") for each in there["addresses"])

    def limit(self, bps: int) -> None:
        """Send so many bytes per second from now on, to whomever; 0 for as many as it can."""
        with self.client() as client:
            client.set_limits(upload_bps=bps)

    def wait_for(self, file_id: str, count: int = 1) -> None:
        """Wait until so many bytes of a download are there, of one that is not at its end."""
        with self.client() as client:
            eventually(lambda: any(one.key == download_of(file_id) for one in client.transfers()))
            wait_for_bytes(client, download_of(file_id), count)

    def read_from(self, file_id: str) -> set[str]:
        """The stores from which a download has got bytes so far."""
        with self.client() as client:
            state = state_of(client, download_of(file_id))
            return {each.store_id for each in state.sources if each.received_bytes} if state is not None else set()


@dataclass
class Library:
    """Who is there."""

    lan: Lan
    phone: Phone
    tv: Host
    laptop: Host
    den: Host

    def film(self, *hosts: Host, seed: int, size: int = FILM_BYTES) -> str:
        """A film that these machines have."""
        data = content(size, seed=seed)
        file_id = self.phone.add_file(data, *(host.store_id for host in hosts))
        for host in hosts:
            path = host.path_of(file_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return file_id

    def readdress(self, host: Host) -> None:
        """A machine gets another address; on loopback, where none can be lost, it listens elsewhere from now on."""
        if self.lan.is_real:
            self.lan.readdress(host.place)
            return
        host.stop()
        self.lan.readdress(host.place)
        host.extra_env["DMEDIA_PEER__HOST"] = host.place.address
        host.start()

    def arrives(self, host: Host, file_id: str, *, seed: int) -> None:
        """Wait until a machine has the film, and all know that it has."""
        eventually(lambda: self.stored(file_id).get(host.store_id, {}).get("copies") == 1)
        assert host.path_of(file_id).read_bytes() == content(FILM_BYTES, seed=seed)

    def stored(self, file_id: str) -> dict[str, Any]:
        """Who has a file, by all revisions of its document: two machines may have written at the same time."""
        with self.phone.http() as (session, url):
            answer = session.get(f"{url}/{file_id}", params={"open_revs": "all"}, timeout=TIMEOUT_S)
            return documents.merge_stored([row["ok"]["stored"] for row in answer.json() if "stored" in row["ok"]])

    def certificates(self, host: Host) -> list[str]:
        """What a machine publishes."""
        return list(self.phone.get(host.machine_id)["peer"]["certificates"])

    def ask(self, host: Host, file_id: str, **facts: object) -> None:
        """Put an entry into a machine's queue."""
        self.phone.ask(host, {"id": random_id(), "file_id": file_id, **facts})

    @property
    def hosts(self) -> list[Host]:
        """All machines that run a daemon."""
        return [self.tv, self.laptop, self.den]

    def is_known_to_all(self, host: Host) -> bool:
        """Whether all other machines speak to this one."""
        return all(other.trusts(host) for other in self.hosts if other is not host)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, couchdb_server: CouchServer) -> Iterator[Library]:
    """Three machines that know each other."""
    folder = tmp_path_factory.mktemp("library")
    name = f"test-{uuid4().hex}"
    parts = urlsplit(couchdb_server.base)
    with contextlib.ExitStack() as cleanup:
        session = cleanup.enter_context(couchdb_server.session())
        session.put(f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S).raise_for_status()
        cleanup.callback(session.delete, f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S)
        lan = Lan()
        cleanup.callback(lan.close)
        hosts: list[Host] = []
        for each in ("phone", "tv", "laptop", "den"):
            (folder / f"{each}-bus").mkdir()
        bus = cleanup.enter_context(running_bus(folder / "phone-bus"))
        phone = Phone(folder / "phone", bus=bus, couch=couchdb_server, database=name)
        for each in ("tv", "laptop", "den"):
            bus = cleanup.enter_context(running_bus(folder / f"{each}-bus"))
            place = lan.join()
            line = FaultyProxy((str(parts.hostname), int(parts.port or 80)), place.listener())
            cleanup.enter_context(line)  # to the phone's database
            host = Host(
                folder / each,
                bus=bus,
                settings={"sync": [f"{line.url}/{name}"], "stall_s": 5, "connections": 1},
                env={
                    "DMEDIA_SYNC_USER": couchdb_server.user,
                    "DMEDIA_SYNC_PASSWORD": couchdb_server.password,
                    "DMEDIA_PEER__ENABLED": "true",
                    "DMEDIA_PEER__PORT": "5987" if lan.is_real else "0",
                    "DMEDIA_PEER__HOST": "" if lan.is_real else place.address,
                },
                prefix=place.prefix,
            )
            cleanup.callback(host.close)
            host.place, host.store_id = place, random_id()
            FileStore.create(host.store_dir, host.store_id)
            Bindings(host.state_dir / "stores.json").add_filestore(host.store_id, host.store_dir)
            phone.put(
                documents.new_store(host.store_id, "filestore", time=time.time(), machine_id=host.machine_id, name=each)
            )
            host.launch()
            hosts.append(host)
        found = Library(lan, phone, *hosts)
        for host in hosts:
            eventually(host._is_on_the_bus)
        for host in hosts:
            eventually(partial(phone.knows, host))
            eventually(partial(found.is_known_to_all, host))
        yield found


def test_a_film_comes_from_the_machine_that_has_it(library: Library) -> None:
    film = library.film(library.laptop, seed=1)
    library.ask(library.tv, film)
    library.arrives(library.tv, film, seed=1)


def test_a_film_is_sent_to_another_machine(library: Library) -> None:
    film = library.film(library.laptop, seed=2)
    library.ask(library.laptop, film, action="upload", store_id=library.den.store_id)
    library.phone.sees_transfer(library.laptop, film, Status.DONE)
    library.arrives(library.den, film, seed=2)


@pytest.mark.parametrize("point", RECEIVING_FROM_A_PEER)
def test_a_film_that_is_sent_arrives_though_the_server_was_killed_at(
    library: Library, tmp_path: Path, point: str
) -> None:
    seed = RECEIVING_FROM_A_PEER.index(point) + 20
    film = library.film(library.laptop, seed=seed)
    mark = tmp_path / "mark"
    served = library.den.log().count("the server for peers listens on")
    library.den.stop()
    library.den.start(DMEDIA_FAULT=point, DMEDIA_FAULT_MARK=str(mark))
    eventually(lambda: library.den.log().count("the server for peers listens on") > served)
    library.ask(library.laptop, film, action="upload", store_id=library.den.store_id)
    eventually(mark.exists)
    library.phone.sees_transfer(library.laptop, film, Status.DONE)
    library.arrives(library.den, film, seed=seed)
    uploads = library.den.state_dir / "peer" / "uploads"
    eventually(lambda: not list(uploads.iterdir()))
    assert not [path for path in (library.den.store_dir / "partial").rglob("*") if path.is_file()]


def test_a_film_that_is_still_arriving_is_passed_on(library: Library) -> None:
    film = library.film(library.laptop, seed=3)
    library.laptop.limit(4 * MIB)
    library.ask(library.tv, film)
    eventually(lambda: recorded(library.tv, download_of(film)))  # one leaf after the other: the first is verified
    library.laptop.limit(64 * 1024)
    library.ask(library.den, film, store_id=library.tv.store_id, only=True)
    eventually(lambda: recorded(library.den, download_of(film)))
    assert not library.tv.path_of(film).exists()
    library.laptop.limit(0)
    library.arrives(library.tv, film, seed=3)
    library.arrives(library.den, film, seed=3)


def test_a_film_comes_from_all_that_have_it_at_once(library: Library) -> None:
    film = library.film(library.laptop, library.den, seed=10)
    for source in (library.laptop, library.den):
        source.limit(2 * MIB)
    with library.tv.client() as client:
        client.set_limits(connections=4)
    library.ask(library.tv, film)
    eventually(lambda: library.tv.read_from(film) == {library.laptop.store_id, library.den.store_id})
    for source in (library.laptop, library.den):
        source.limit(0)
    library.arrives(library.tv, film, seed=10)
    with library.tv.client() as client:
        client.set_limits(connections=1)


def test_a_machine_leaves_in_the_middle_and_another_one_has_the_rest(library: Library) -> None:
    film = library.film(library.laptop, library.den, seed=4)
    for source in (library.laptop, library.den):
        source.limit(4 * MIB)
    library.ask(library.tv, film, store_id=library.den.store_id)
    library.tv.wait_for(film, 1 * MIB)
    library.den.kill()
    try:
        library.laptop.limit(0)
        library.arrives(library.tv, film, seed=4)
    finally:
        library.den.start()


def test_a_machine_whose_address_changes_is_found_again(library: Library) -> None:
    film = library.film(library.laptop, seed=5)
    library.laptop.limit(4 * MIB)
    library.ask(library.tv, film)
    library.tv.wait_for(film, 1 * MIB)
    library.readdress(library.laptop)
    library.laptop.limit(0)
    eventually(lambda: library.is_known_to_all(library.laptop))
    library.arrives(library.tv, film, seed=5)


def test_a_new_key_is_taken_up_by_all(library: Library) -> None:
    before = library.certificates(library.laptop)
    library.laptop.cli("machines", "new-key")
    eventually(lambda: len(library.certificates(library.laptop)) == 2)
    assert library.certificates(library.laptop)[0] == before[0]
    film = library.film(library.laptop, seed=6)
    library.ask(library.tv, film)
    library.arrives(library.tv, film, seed=6)

    library.laptop.cli("machines", "new-key", "--at-once")
    eventually(lambda: not set(before) & set(library.certificates(library.laptop)))
    film = library.film(library.laptop, seed=7)
    library.ask(library.tv, film)
    library.arrives(library.tv, film, seed=7)


def test_a_machine_that_is_forgotten_gets_and_gives_nothing_more(library: Library) -> None:
    to_den, from_den = library.film(library.tv, seed=8), library.film(library.den, seed=9)
    library.tv.limit(4 * MIB)
    library.ask(library.den, to_den)
    library.den.wait_for(to_den, 1 * MIB)
    library.tv.cli("machines", "forget", "den")
    eventually(lambda: not library.tv.trusts(library.den))
    library.tv.limit(0)
    library.ask(library.tv, from_den)
    seen = library.phone.sees_transfer(library.tv, from_den, Status.SUSPENDED)
    assert library.den.store_id in seen.error  # and why, if that were not cut off
    library.phone.sees_transfer(library.den, to_den, Status.SUSPENDED, Status.FAILED)
    assert not library.den.path_of(to_den).exists()
