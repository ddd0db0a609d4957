"""Other machines from the command line: everything edits documents only, and works while they are off."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dmedia_transfer import documents, leaves, statusdoc
from dmedia_transfer.model import Direction, Failure, Progress, RecordStored, Transfer, TransferKey
from dmedia_transfer.peers.section import PeerAddress, write_section
from dmedia_transfer.peers.trust import Trust
from dmedia_transfer.states import Reason, Status
from tests.cli import Terminal
from tests.factories import content, leaf_digests_of
from tests.peers import make_machine

TV, PHONE = "TV" + "A" * 22, "PHONE" + "A" * 19
NAS, TV_DISK = "NAS" + "A" * 21, "TVDISK" + "A" * 18
DATA = content(1000)
FILM = leaves.file_id(leaf_digests_of(DATA))


@pytest.fixture
def library(terminal: Terminal) -> Terminal:
    """A TV, a phone, a bucket, a disk of the TV's, and a film in the bucket."""
    now = time.time()
    with terminal.database() as database:
        for machine_id, name in ((TV, "tv"), (PHONE, "phone")):
            database.put(documents.new_machine(machine_id, name, time=now))
        database.put(documents.new_store(NAS, "s3", time=now, name="nas", bucket="films"))
        database.put(documents.new_store(TV_DISK, "filestore", time=now, name="tv-disk", machine_id=TV))
        lines = {NAS: {"copies": 1, "time": now}}
        database.put(
            documents.new_file(FILM, len(DATA), leaf_digests_of(DATA), time=now, stored=lines, name="film.mkv")
        )
    return terminal


def queue_of(terminal: Terminal, machine_id: str) -> list[dict[str, Any]]:
    queue: list[dict[str, Any]] = terminal.document(machine_id)["queue"]
    return queue


def tell(terminal: Terminal, *transfers: Transfer, **facts: Any) -> None:
    """The TV says what it does."""
    with terminal.database() as database:
        there = database.get(statusdoc.transfers_id(TV)) or {}
        raw = statusdoc.write_status(TV, transfers, time=time.time() - 300, **facts)
        database.put({**raw, **({"_rev": there["_rev"]} if there else {})})


def test_the_machines_are_listed_with_what_they_do_and_when_they_were_last_heard_of(library: Terminal) -> None:
    key = TransferKey(Direction.DOWNLOAD, FILM, "")
    tell(library, Transfer(key, Status.ONGOING), queue_paused=True)
    listed = {machine["hostname"]: machine for machine in library.json("machines")}
    assert listed["tv"]["status"]["counts"] == {"ongoing": 1}
    assert listed["phone"]["status"] is None
    lines = library.run("machines").splitlines()
    assert any("tv" in line and "queue paused; 1 ongoing" in line for line in lines)
    assert any("phone" in line and "never" in line for line in lines)


def test_a_download_is_queued_on_the_tv_which_may_be_off(library: Terminal) -> None:
    assert library.run("download", "film.mkv", "--on", "tv", "-p", "high").endswith("is queued on tv\n")
    (entry,) = queue_of(library, TV)
    assert (entry["file_id"], entry["priority"], entry["action"]) == (FILM, 10, "download")
    assert entry["id"]
    assert "tv was never heard of" in library.err
    tell(library)
    library.run("download", "film.mkv", "--on", "TVAA")
    assert "tv was last heard of 5:0" in library.err
    assert len(queue_of(library, TV)) == 2


def test_what_the_tv_does_is_listed_as_it_told_last(library: Terminal) -> None:
    library.run("download", "film.mkv", "--on", "tv")
    key = TransferKey(Direction.DOWNLOAD, FILM, "")
    full = Failure("DiskFull", "no room above the floor", reason=Reason.DISK_FULL)
    tell(
        library,
        Transfer(key, Status.SUSPENDED, reason=Reason.DISK_FULL, failure=full, progress=Progress(500, 1000)),
        problems=["CouchDB is away"],
    )
    listed = library.json("list", "--on", "tv")
    (transfer,) = listed["transfers"]
    assert (transfer["status"], transfer["reason"], transfer["bytes_done"]) == ("suspended", "disk-full", 500)
    assert listed["problems"] == ["CouchDB is away"]
    assert "50%" in library.run("list", "--on", "tv")
    assert "last heard of" in library.err


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (("pause",), {"paused": True}),
        (("prioritize", "now"), {"priority": 100}),
        (("metered", "yes"), {"metered": True}),
    ],
)
def test_transfers_of_the_tv_are_steered(library: Terminal, command: tuple[str, ...], changed: dict[str, Any]) -> None:
    library.run("download", "film.mkv", "--on", "tv")
    library.run(*command, FILM, "--on", "tv")
    (entry,) = queue_of(library, TV)
    assert changed.items() <= entry.items()
    library.run("cancel", FILM, "--on", "tv")
    assert queue_of(library, TV) == []


def test_transfers_of_the_tv_get_another_place(library: Terminal) -> None:
    songs = [letter * 48 for letter in "ABC"]
    for song in songs:
        library.run("download", song, "--on", "tv")
    library.run("reorder", songs[2], songs[1], "--before", songs[0], "--on", "tv")
    assert [entry["file_id"] for entry in queue_of(library, TV)] == [songs[2], songs[1], songs[0]]
    assert "it sees changes when it has synced" in library.err


def test_what_has_failed_on_the_tv_is_tried_again_under_a_new_id(library: Terminal) -> None:
    library.run("download", "film.mkv", "--on", "tv")
    (before,) = queue_of(library, TV)
    assert library.run("retry", FILM, "--on", "tv").endswith("has not failed\n")
    broken = Failure("CorruptLeaf", "leaf 0 does not match")
    tell(library, Transfer(TransferKey(Direction.DOWNLOAD, FILM, ""), Status.FAILED, failure=broken))
    library.run("retry", FILM, "--on", "tv")
    (after,) = queue_of(library, TV)
    assert after["id"] != before["id"]


def test_the_whole_queue_of_the_tv_is_paused(library: Terminal) -> None:
    library.run("pause", "--all", "--on", "tv")
    assert library.document(TV)["queue_paused"] is True


def test_a_machine_that_is_not_there_or_not_clear_is_named(library: Terminal) -> None:
    assert "there is no machine 'fridge'" in library.run("list", "--on", "fridge", code=1)
    with library.database() as database:
        database.put(documents.new_machine("TVTV" + "A" * 20, "tv", time=1.0))
    assert "could be 2 machines" in library.run("list", "--on", "tv", code=1)


def test_waiting_is_not_for_another_machine(library: Terminal) -> None:
    assert "--wait" in library.run("download", "film.mkv", "--on", "tv", "--wait", code=2)


def test_a_machine_is_forgotten_and_its_document_stays(library: Terminal) -> None:
    assert library.run("machines", "forget", "phone") == "phone is forgotten\n"
    assert "access to the database" in library.err
    assert library.document(PHONE)["forgotten"] is True
    assert library.run("machines", "forget", "phone") == "phone was forgotten already\n"


def test_fetching_from_another_machine_is_queued_on_both(library: Terminal) -> None:
    with library.database() as database:
        raw = database.get(FILM)
        assert raw is not None
        database.put({**raw, "stored": {TV_DISK: {"copies": 1, "time": time.time()}}})
    library.run("fetch-from", "tv", "film.mkv", "--via", "nas")
    (upload,) = queue_of(library, TV)
    (download,) = queue_of(library, library.machine_id)
    assert (upload["action"], upload["store_id"]) == ("upload", NAS)
    assert (download["action"], download["store_id"]) == ("download", NAS)


def test_a_move_to_a_disk_of_the_tv_is_queued_there_and_from_it_too(library: Terminal) -> None:
    library.run("move", "film.mkv", "--from", "nas", "--to", "tv-disk", "--no-wait")
    (entry,) = queue_of(library, TV)
    assert (entry["action"], entry["store_id"], entry["only"]) == ("download", NAS, True)
    assert "stays" in library.err


def test_a_move_between_two_buckets_goes_through_this_machine(library: Terminal) -> None:
    with library.database() as database:
        database.put(documents.new_store("CLOUD" + "A" * 19, "s3", time=1.0, name="cloud", bucket="more"))
    library.run("move", "film.mkv", "--from", "nas", "--to", "cloud", "--no-wait")
    assert [entry["action"] for entry in queue_of(library, library.machine_id)] == ["download", "upload"]


def test_a_move_of_what_is_not_there_is_refused(library: Terminal) -> None:
    assert "no copy in tv-disk" in library.run("move", "film.mkv", "--from", "tv-disk", "--to", "nas", code=1)
    assert "to itself" in library.run("move", "film.mkv", "--from", "nas", "--to", "nas", code=2)


def test_many_files_are_queued_with_one_write(library: Terminal) -> None:
    names = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    file_ids = [first + second + "A" * 46 for first in names for second in names]
    listed = library.file("wanted.txt", "\n".join([*file_ids, "", file_ids[0].lower()]).encode())
    before = library.document(TV)["_rev"]
    assert "1,024 downloads queued on tv" in library.run("download", "--files-from", listed, "--on", "tv")
    after = library.document(TV)
    assert [entry["file_id"] for entry in after["queue"]] == file_ids
    assert int(after["_rev"].partition("-")[0]) == int(before.partition("-")[0]) + 1


def test_a_list_with_something_else_in_it_is_refused_as_a_whole(library: Terminal) -> None:
    listed = library.file("wanted.txt", f"{FILM}\n../../etc/passwd\n".encode())
    assert "ETC/PASSWD" in library.run("download", "--files-from", listed, "--on", "tv", code=2)
    assert queue_of(library, TV) == []


# Peers.


def with_peers(library: Terminal) -> None:
    """The TV has published its certificate and an address, and this machine's daemon has learned of it."""
    tv = make_machine(library.home / "tv-state")
    section = write_section(None, tv.identity.published, [PeerAddress("192.0.2.7", 5987)])
    library.set(peer__enabled="true")
    with library.database() as database:
        raw = database.get_machine(TV) or {}
        database.put({**raw, "peer": section})
        Trust(library.home / "state" / "peers.json").on_machine(database.get_machine(TV) or {})


def test_where_other_machines_are_reached_is_listed_and_why_one_is_not(library: Terminal) -> None:
    with_peers(library)
    listed = {machine["hostname"]: machine for machine in library.json("machines")}
    assert listed["tv"]["reached_at"] == "192.0.2.7:5987"
    assert listed["phone"]["reached_at"] is None
    assert "is not trusted" in listed["phone"]["not_reached"]
    assert "192.0.2.7:5987" in library.run("machines")


def test_a_film_is_fetched_straight_from_a_machine_that_can_be_reached(library: Terminal) -> None:
    assert "--via" in library.run("fetch-from", "tv", "film.mkv", code=2)
    with_peers(library)
    assert "is not trusted" in library.run("fetch-from", "phone", "film.mkv", code=1)
    assert "no FileStore of tv" in library.run("fetch-from", "tv", "film.mkv", code=1)
    with library.database() as database:
        database.record_stored([RecordStored(FILM, TV_DISK, 1, time.time())])
    assert "film.mkv comes from tv\n" in library.run("fetch-from", "tv", "film.mkv")
    (entry,) = queue_of(library, library.machine_id)
    assert (entry["action"], entry["store_id"], entry["only"]) == ("download", TV_DISK, True)


def test_a_key_is_replaced_soon_or_at_once(library: Terminal) -> None:
    assert "enabled" in library.run("machines", "new-key", code=2)
    with_peers(library)
    first = library.json("machines", "new-key")["used"]
    soon = library.json("machines", "new-key")
    assert soon["used"] == soon["certificates"][0] == first
    assert len(soon["certificates"]) == 2
    now = library.json("machines", "new-key", "--at-once")
    assert now["certificates"] == [now["used"]]
    assert now["used"] not in soon["certificates"]
