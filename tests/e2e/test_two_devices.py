"""A phone, a TV and a laptop of one library: what somebody asks for on one happens on another.

The phone is a database with somebody who edits documents in it. The TV and the laptop are daemons as users have them,
each with the built-in document server, and in sync with the phone's database. A film is in a bucket, and the way
there is slow where a test wants to watch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dmedia_transfer import documents
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.model import random_id
from dmedia_transfer.states import Reason, Status
from tests.bus import PrivateBus, running_bus
from tests.couch import CouchServer
from tests.e2e.members import Member, Phone
from tests.factories import content
from tests.proxy import FaultyProxy
from tests.s3 import S3Server
from tests.waiting import eventually

MIB = 1024 * 1024
FILM_BYTES = 20 * MIB + 777
SLOW_BPS = 3 * MIB


@dataclass
class Home:
    """Who is there."""

    phone: Phone
    tv: Member
    laptop: Member
    tv_store: str  # the TV's FileStore
    laptop_store: str
    bucket: str
    s3: S3Server
    slow: FaultyProxy  # the TV's and the laptop's way to the bucket
    line: FaultyProxy  # the TV's way to the phone's database

    def film(self, seed: int = 0, size: int = FILM_BYTES) -> str:
        """A film that is in the bucket, and known to the phone."""
        data = content(size, seed=seed)
        file_id = self.phone.add_file(data, self.bucket)
        self.s3.client().put_object(Bucket=self.s3.bucket, Key=file_id, Body=data)
        return file_id

    def equal(self, machine: Member) -> bool:
        """Whether the phone's database and the machine's have the same machine document."""
        here, there = (each.get(machine.machine_id) for each in (self.phone, machine))
        return here == there


@pytest.fixture
def buses(tmp_path: Path) -> Iterator[list[PrivateBus]]:
    """A session bus for each machine."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("tv-bus", "laptop-bus"):
            (tmp_path / name).mkdir()
            found.append(stack.enter_context(running_bus(tmp_path / name)))
        yield found


@pytest.fixture
def home(
    tmp_path: Path,
    buses: list[PrivateBus],
    couchdb_server: CouchServer,
    database: tuple[str, str],
    rclone_s3: S3Server,
) -> Iterator[Home]:
    """All of them; the TV is on, the laptop still off."""
    parts = urlsplit(couchdb_server.base)
    with (
        FaultyProxy(rclone_s3.address) as slow,
        FaultyProxy((str(parts.hostname), int(parts.port or 80))) as line,
        contextlib.ExitStack() as cleanup,
    ):
        phone = Phone(tmp_path / "phone", bus=buses[0], couch=couchdb_server, database=database[1])
        spec = rclone_s3.spec(url=slow.url, store_id=random_id())
        bucket = documents.new_store(spec.store_id, "s3", time=time.time(), **dict(spec.settings))
        phone.put(bucket)
        env = {
            "AWS_ACCESS_KEY_ID": rclone_s3.access_key,
            "AWS_SECRET_ACCESS_KEY": rclone_s3.secret_key,
            "DMEDIA_SYNC_USER": couchdb_server.user,
            "DMEDIA_SYNC_PASSWORD": couchdb_server.password,
        }
        members, stores = [], []
        for name, bus, base in (("tv", buses[0], line.url), ("laptop", buses[1], couchdb_server.base)):
            sync = {"sync": [f"{base}/{database[1]}"]}
            member = Member(tmp_path / name, bus=bus, settings=sync, env=env)
            cleanup.callback(member.close)
            members.append(member)
            bindings = Bindings(member.state_dir / "stores.json")
            bindings.enable(bucket)
            store_id = random_id()
            FileStore.create(member.store_dir, store_id)
            bindings.add_filestore(store_id, member.store_dir)
            phone.put(
                documents.new_store(store_id, "filestore", time=time.time(), machine_id=member.machine_id, name=name)
            )
            stores.append(store_id)
        members[0].start()
        eventually(lambda: phone.knows(members[0]))
        yield Home(phone, members[0], members[1], stores[0], stores[1], spec.store_id, rclone_s3, slow, line)


def test_the_phone_queues_on_the_tv_watches_pauses_changes_its_mind_and_resumes(home: Home) -> None:
    phone, tv = home.phone, home.tv
    film = home.film()
    home.slow.limit(SLOW_BPS)

    phone.ask(tv, {"id": "tonight", "file_id": film})
    seen = phone.sees_transfer(tv, film, Status.ONGOING)
    assert seen.bytes_total == FILM_BYTES

    phone.change(tv, "tonight", paused=True)
    seen = phone.sees_transfer(tv, film, Status.PAUSED)
    assert seen.bytes_done < FILM_BYTES
    assert not tv.path_of(film).exists()

    home.slow.limit(None)
    phone.change(tv, "tonight", paused=False, priority=10)
    assert phone.sees_transfer(tv, film, Status.DONE).bytes_done == FILM_BYTES
    assert tv.path_of(film).read_bytes() == content(FILM_BYTES)
    eventually(lambda: phone.entries(tv) == [])
    eventually(lambda: phone.get(film)["stored"].get(home.tv_store, {}).get("copies") == 1)


def test_the_tv_is_off_for_a_while(home: Home) -> None:
    phone, tv = home.phone, home.tv
    wanted, unwanted, urgent = (home.film(seed, 1 * MIB) for seed in (1, 2, 3))
    assert tv.stop() == 0

    phone.ask(tv, {"id": "wanted", "file_id": wanted}, {"id": "unwanted", "file_id": unwanted})
    phone.forget(tv, "unwanted")
    phone.ask(tv, {"id": "urgent", "file_id": urgent, "priority": 10})
    phone.ask(tv, {"id": "some day", "file_id": unwanted, "paused": True})

    tv.start()
    eventually(lambda: phone.entries(tv) == ["some day"])
    assert tv.path_of(wanted).exists()
    assert tv.path_of(urgent).exists()
    phone.sees_transfer(tv, unwanted, Status.PAUSED)
    assert not tv.path_of(unwanted).exists()


def test_while_they_are_apart_both_edit_and_nothing_is_lost(home: Home) -> None:
    phone, tv = home.phone, home.tv
    old, from_phone, from_sofa, dropped = (home.film(seed, 1 * MIB) for seed in (4, 5, 6, 7))
    home.slow.refuse()  # nothing moves until they are together again
    home.slow.cut()
    phone.ask(tv, {"id": "old", "file_id": old}, {"id": "dropped", "file_id": dropped})
    with tv.client() as sofa:
        eventually(lambda: {one.key.file_id for one in sofa.transfers()} == {old, dropped})

        home.line.refuse()
        home.line.cut()
        eventually(lambda: any("sync with" in problem for problem in sofa.state().problems))
        phone.ask(tv, {"id": "from-phone", "file_id": from_phone})
        phone.change(tv, "old", paused=True)
        phone.forget(tv, "dropped")
        sofa.queue_download(from_sofa, requested_by="sofa")
        eventually(lambda: len(tv.queued()) == 3)

        home.line.refuse(False)
        eventually(lambda: {one.key.file_id for one in sofa.transfers()} >= {old, from_phone, from_sofa})
        eventually(lambda: not sofa.state().problems)
        eventually(lambda: not tv.conflicts() and home.equal(tv))
        assert sorted(entry["file_id"] for entry in tv.queued()) == sorted([old, from_phone, from_sofa])

    home.slow.refuse(False)
    eventually(lambda: phone.entries(tv) == ["old"])
    assert tv.path_of(from_phone).exists()
    assert tv.path_of(from_sofa).exists()
    assert phone.sees_transfer(tv, old, Status.PAUSED).priority == 0
    assert not tv.path_of(old).exists()
    assert not tv.path_of(dropped).exists()


def test_what_only_the_laptop_has_comes_to_the_tv_by_way_of_the_bucket(home: Home) -> None:
    phone, tv, laptop = home.phone, home.tv, home.laptop
    laptop.start()
    eventually(lambda: phone.knows(laptop))
    data = content(9 * MIB, seed=8)
    clip = phone.add_file(data, home.laptop_store)
    laptop.path_of(clip).parent.mkdir(parents=True, exist_ok=True)
    laptop.path_of(clip).write_bytes(data)

    phone.ask(tv, {"id": "watch", "file_id": clip})
    waiting = phone.sees_transfer(tv, clip, Status.SUSPENDED)
    assert waiting.reason is Reason.NO_SOURCE

    phone.ask(laptop, {"id": "share", "action": "upload", "file_id": clip, "store_id": home.bucket})
    phone.sees_transfer(laptop, clip, Status.DONE)
    phone.sees_transfer(tv, clip, Status.DONE)
    assert tv.path_of(clip).read_bytes() == data
    stored = eventually(lambda: len(found := phone.get(clip)["stored"]) == 3 and found)
    assert {store_id for store_id, line in stored.items() if line["copies"]} == {
        home.laptop_store, home.bucket, home.tv_store,
    }  # fmt: skip


def test_a_line_that_has_died_hinders_no_end(home: Home) -> None:
    home.line.stall()
    home.phone.ask(home.tv, {"id": "unheard", "file_id": home.film(9, 1 * MIB)})
    time.sleep(0.5)
    assert home.tv.stop() == 0
