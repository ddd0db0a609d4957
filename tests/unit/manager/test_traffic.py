"""What has crossed the network, as the manager adds it up."""

from __future__ import annotations

from dmedia_transfer.model import (
    Direction,
    Ended,
    Entry,
    Failure,
    Moved,
    Outcome,
    SourceUse,
    StoreSpec,
    TransferKey,
)
from dmedia_transfer.ports import Traffic
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.fakes import HOME_ID, World

FILM = file_spec(content(1000, seed=1))


def download(world: World) -> TransferKey:
    world.add_file(FILM, STORE_ID, OTHER_STORE_ID)
    (key,) = world.queue(Entry(FILM.file_id))
    return key


def upload(world: World, store_id: str = STORE_ID) -> TransferKey:
    world.add_file(FILM, HOME_ID)
    world.stores.files.add(FILM.file_id)
    (key,) = world.queue(Entry(FILM.file_id, direction=Direction.UPLOAD, store_id=store_id))
    return key


def received(world: World, key: TransferKey, **by_store: int) -> None:
    uses = tuple(SourceUse(store_id, count) for store_id, count in by_store.items())
    world.manager.report(Moved(world.pool.run_of(key), sum(by_store.values()), 0, uses))


def down(store_id: str, count: int) -> Traffic:
    return Traffic(Direction.DOWNLOAD, store_id, "memory", count)


def test_nothing_has_crossed_the_network_before_anything_moved() -> None:
    world = World()
    download(world)
    assert world.manager.traffic() == []


def test_a_download_is_added_up_by_its_sources_while_it_runs_and_when_it_is_done() -> None:
    world = World()
    key = download(world)
    received(world, key, **{STORE_ID: 300, OTHER_STORE_ID: 500})
    running = world.manager.traffic()
    assert running == sorted([down(STORE_ID, 300), down(OTHER_STORE_ID, 500)], key=lambda one: one.store_id)
    world.end(key)
    assert world.manager.traffic() == running


def test_what_an_attempt_has_thrown_away_was_moved_all_the_same() -> None:
    world = World()
    key = download(world)
    received(world, key, **{STORE_ID: 300})
    world.end(key, Outcome.FAILED, Failure("ConnectionLost", "gone", transient=True))
    assert world.manager.traffic() == [down(STORE_ID, 300)]
    world.clock.advance(60)
    received(world, key, **{STORE_ID: 1000})
    assert world.manager.traffic() == [down(STORE_ID, 1300)]


def test_what_was_told_of_a_run_is_never_taken_back() -> None:
    world = World()
    key = download(world)
    received(world, key, **{STORE_ID: 300})
    assert world.manager.traffic() == [down(STORE_ID, 300)]
    world.manager.cancel(key)
    (again,) = world.queue(Entry(FILM.file_id))  # while the worker of the first request has not let go
    assert again == key
    assert world.manager.traffic() == [down(STORE_ID, 300)]
    world.end(key, Outcome.STOPPED)
    assert world.manager.traffic() == [down(STORE_ID, 300)]


def test_disks_of_this_machine_are_not_the_network() -> None:
    world = World()
    world.stores.remote[STORE_ID] = StoreSpec(STORE_ID, "filestore", {"path": "/usb"}, cost=0, local=True)
    key = download(world)
    received(world, key, **{STORE_ID: 300, OTHER_STORE_ID: 500})
    assert world.manager.traffic() == [down(OTHER_STORE_ID, 500)]


def test_an_upload_counts_what_was_sent_and_not_how_far_it_is() -> None:
    world = World()
    key = upload(world)
    world.move(key, 400, sent=700)
    told = Traffic(Direction.UPLOAD, STORE_ID, "memory", 700)
    assert world.manager.traffic() == [told]
    run_id = world.pool.run_of(key)
    del world.pool.jobs[run_id]
    world.manager.report(Ended(run_id, Outcome.FINISHED, sent_bytes=900))
    assert world.manager.traffic() == [Traffic(Direction.UPLOAD, STORE_ID, "memory", 900)]


def test_a_copy_to_another_disk_is_not_the_network_either() -> None:
    world = World()
    world.stores.remote[STORE_ID] = StoreSpec(STORE_ID, "filestore", {"path": "/usb"}, cost=0, local=True)
    key = upload(world)
    world.move(key, 400, sent=0)
    world.end(key)
    assert world.manager.traffic() == []


def test_what_peers_fetch_and_send_is_added_up_by_itself() -> None:
    world = World()
    world.manager.peers_moved(100, 20)
    world.manager.peers_moved(1, 0)
    assert world.manager.served() == {Direction.UPLOAD: 101, Direction.DOWNLOAD: 20}


def test_the_manager_tells_where_something_is_wrong() -> None:
    world = World()
    world.manager.set_problem("feed", "the database does not answer")
    assert world.manager.troubled() == {"feed"}
    world.manager.set_problem("feed", None)
    assert world.manager.troubled() == frozenset()
