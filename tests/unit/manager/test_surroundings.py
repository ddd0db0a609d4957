"""What the manager does when the connection goes and comes, costs by the byte, or the power runs low."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dmedia_transfer.manager import Settings
from dmedia_transfer.model import (
    PRIORITY_NOW,
    ChangeEntries,
    Direction,
    Download,
    Entry,
    Failure,
    FileSpec,
    Outcome,
    StoreSpec,
    TransferKey,
    Upload,
)
from dmedia_transfer.reach import Distance, MeteredRule, OverMetered, Surroundings
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.fakes import World

ONLINE = Surroundings()
LAN_ONLY = Surroundings(Distance.NEAR)
OFFLINE = Surroundings(Distance.HERE)
METERED = Surroundings(metered=True)
NEVER = Settings(over_metered=MeteredRule(OverMetered.NEVER))
LAN, WAN = "192.168.1.4:5987", "tv.example.org:5987"
CUT = Failure("ConnectionLost", "the connection was cut", transient=True)


def near(store_id: str = OTHER_STORE_ID) -> StoreSpec:
    """A store in the local network."""
    return StoreSpec(store_id, "memory", {"endpoint_url": "http://192.168.1.4:9000"}, cost=10)


def peer(store_id: str, machine_id: str) -> StoreSpec:
    """A FileStore of another machine, which is in the local network and elsewhere."""
    settings = {"machine_id": machine_id, "addresses": [LAN, WAN], "near_addresses": [LAN], "near": True}
    return StoreSpec(store_id, "peer", settings)


def a_file(world: World, *stored: str, seed: int = 0) -> FileSpec:
    return world.add_file(file_spec(content(1000, seed=seed)), *stored)


def sources(world: World, key: TransferKey) -> list[str]:
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    return [store.store_id for store in job.sources]


def test_without_a_connection_all_stops_and_its_return_starts_it_again() -> None:
    world = World()
    running, waiting = world.queue(
        *(Entry(a_file(world, seed=seed).file_id) for seed in range(1)),
    ) + world.queue(Entry(a_file(world, seed=9).file_id, paused=True))
    world.manager.surroundings_changed(OFFLINE)
    assert not world.manager.summary().online
    assert world.status(running) == "suspended (offline)"
    assert world.pool.said[-1] == ("stop", world.pool.run_of(running))
    assert world.status(waiting) == "paused"
    world.end(running, Outcome.STOPPED)
    assert world.running() == []
    world.manager.surroundings_changed(ONLINE)
    assert world.manager.summary().online
    assert world.status(running) == "ongoing"
    assert world.running() == [running]
    assert world.manager.transfers()[running].failure is None


def test_what_is_asked_for_without_a_connection_waits_for_one() -> None:
    world = World()
    world.manager.surroundings_changed(OFFLINE)
    down, up = world.queue(Entry(a_file(world).file_id), Entry(a_file(world, seed=1).file_id))
    assert {world.status(down), world.status(up)} == {"suspended (offline)"}
    world.clock.advance(3600)
    assert world.pool.said == []
    world.manager.surroundings_changed(ONLINE)
    assert sorted(world.running()) == sorted([down, up])


def test_an_upload_waits_for_its_store_to_be_reached() -> None:
    world = World()
    file = a_file(world)
    world.stores.files.add(file.file_id)
    world.stores.remote[OTHER_STORE_ID] = near()
    world.manager.surroundings_changed(LAN_ONLY)
    far, close = world.queue(
        Entry(file.file_id, Direction.UPLOAD, STORE_ID), Entry(file.file_id, Direction.UPLOAD, OTHER_STORE_ID)
    )
    assert world.status(far) == "suspended (offline)"
    assert world.status(close) == "ongoing"
    world.manager.surroundings_changed(OFFLINE)
    assert world.status(close) == "suspended (offline)"


def test_a_connection_that_is_back_before_the_worker_has_let_go_is_used_as_soon_as_it_has() -> None:
    world = World()
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(OFFLINE)
    world.manager.surroundings_changed(ONLINE)
    world.end(key, Outcome.STOPPED)
    assert world.status(key) == "ongoing"
    assert world.running() == [key]


def test_while_the_internet_is_away_a_download_goes_on_with_what_is_near() -> None:
    world = World()
    world.stores.remote[OTHER_STORE_ID] = near()
    (key,) = world.queue(Entry(a_file(world, STORE_ID, OTHER_STORE_ID).file_id))
    assert sources(world, key) == [OTHER_STORE_ID, STORE_ID]
    world.manager.surroundings_changed(LAN_ONLY)
    assert world.status(key) == "ongoing"
    assert sources(world, key) == [OTHER_STORE_ID]
    world.manager.surroundings_changed(ONLINE)
    assert world.status(key) == "ongoing"


def test_what_needs_no_connection_goes_on_without_one() -> None:
    world = World()
    world.stores.remote[STORE_ID] = replace(near(STORE_ID), settings={"endpoint_url": "http://127.0.0.1:9000"})
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(OFFLINE)
    assert world.status(key) == "ongoing"
    assert [said for said, *_ in world.pool.said] == ["run"]


def test_a_store_that_turns_up_nearby_ends_the_waiting() -> None:
    world = World()
    world.manager.surroundings_changed(LAN_ONLY)
    (key,) = world.queue(Entry(a_file(world).file_id))
    assert world.status(key) == "suspended (offline)"
    world.stores.remote[STORE_ID] = near(STORE_ID)
    world.manager.stores_changed()
    assert world.status(key) == "ongoing"


def test_over_a_metered_connection_only_what_is_allowed_moves() -> None:
    world = World(settings=NEVER)
    plain, urgent = world.queue(
        Entry(a_file(world).file_id), Entry(a_file(world, seed=1).file_id, priority=PRIORITY_NOW, metered=True)
    )
    world.manager.surroundings_changed(METERED)
    assert world.manager.summary().metered
    assert world.manager.summary().online
    assert world.status(plain) == "suspended (metered)"
    assert world.status(urgent) == "ongoing"
    assert world.manager.set_metered(plain, True)
    assert not world.manager.set_metered(plain, True)
    world.end(plain, Outcome.STOPPED)
    assert world.status(plain) == "ongoing"
    edits = world.take_edits()
    assert any(isinstance(edit, ChangeEntries) and edit.metered for edit in edits)
    asked = {entry["file_id"]: entry.get("metered") for entry in world.machine["queue"]}
    assert asked == {plain.file_id: True, urgent.file_id: True}
    assert world.manager.set_metered(plain, False)
    assert world.status(plain) == "suspended (metered)"


def test_another_device_may_allow_it_over_a_metered_connection() -> None:
    world = World(settings=NEVER)
    file = a_file(world)
    world.manager.surroundings_changed(METERED)
    world.edit_queue({"id": "one", "file_id": file.file_id})
    (key,) = world.manager.transfers()
    assert world.status(key) == "suspended (metered)"
    world.edit_queue({"id": "one", "file_id": file.file_id, "metered": True})
    assert world.status(key) == "ongoing"
    world.edit_queue({"id": "one", "file_id": file.file_id})
    assert world.status(key) == "suspended (metered)"


def test_asking_again_with_the_permission_is_the_permission() -> None:
    world = World(settings=NEVER)
    file = a_file(world)
    world.manager.surroundings_changed(METERED)
    (key,) = world.queue(Entry(file.file_id))
    world.queue(Entry(file.file_id, metered=True))
    assert world.status(key) == "ongoing"
    assert world.manager.transfers()[key].metered


def test_a_reason_that_turns_into_another_one_is_shown() -> None:
    world = World(settings=NEVER)
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(OFFLINE)
    world.end(key, Outcome.STOPPED)
    world.manager.surroundings_changed(METERED)
    assert world.status(key) == "suspended (metered)"


@pytest.mark.parametrize(
    ("around", "reason"),
    [(Surroundings(battery_low=True), "battery"), (Surroundings(asleep=True), "shutdown")],
)
def test_a_low_battery_and_sleep_hold_everything(around: Surroundings, reason: str) -> None:
    world = World()
    world.stores.remote[STORE_ID] = near(STORE_ID)
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(around)
    assert world.status(key) == f"suspended ({reason})"
    (later,) = world.queue(Entry(a_file(world, seed=1).file_id))
    assert world.status(later) == f"suspended ({reason})"
    world.end(key, Outcome.STOPPED)
    assert world.running() == []
    world.manager.surroundings_changed(ONLINE)
    assert sorted(world.running()) == sorted([key, later])


def test_of_two_reasons_both_have_to_go_away() -> None:
    world = World()
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(Surroundings(asleep=True, battery_low=True))
    world.end(key, Outcome.STOPPED)
    world.manager.surroundings_changed(Surroundings(battery_low=True))
    assert world.status(key) == "suspended (battery)"
    world.manager.surroundings_changed(Surroundings(Distance.HERE))
    assert world.status(key) == "suspended (offline)"
    world.manager.surroundings_changed(ONLINE)
    assert world.status(key) == "ongoing"


def test_another_connection_ends_the_wait_after_one_that_was_lost() -> None:
    world = World()
    lost, busy = world.queue(Entry(a_file(world).file_id), Entry(a_file(world, seed=1).file_id))
    world.end(lost, Outcome.FAILED, CUT)
    world.end(busy, Outcome.FAILED, Failure("ServerBusy", "SlowDown", transient=True, retry_after_s=60))
    assert world.status(lost) == world.status(busy) == "suspended (backoff)"
    world.manager.connection_changed()
    assert world.status(lost) == "ongoing"
    assert world.status(busy) == "suspended (backoff)"
    world.clock.advance(1)
    assert world.running().count(lost) == 1


def test_a_machine_that_is_back_ends_the_wait_of_those_that_lost_it_and_of_no_others() -> None:
    world = World()
    there, elsewhere = a_file(world), a_file(world, seed=1)
    world.stores.files |= {there.file_id, elsewhere.file_id}
    world.stores.remote |= {STORE_ID: peer(STORE_ID, "TV"), OTHER_STORE_ID: peer(OTHER_STORE_ID, "NAS")}
    download = a_file(world, STORE_ID, seed=2)
    up, other, down, busy = world.queue(
        Entry(there.file_id, Direction.UPLOAD, STORE_ID),
        Entry(elsewhere.file_id, Direction.UPLOAD, OTHER_STORE_ID),
        Entry(download.file_id),
        Entry(elsewhere.file_id, Direction.UPLOAD, STORE_ID),
    )
    for key in (up, other, down):
        world.end(key, Outcome.FAILED, CUT)
    world.end(busy, Outcome.FAILED, Failure("ServerBusy", "SlowDown", transient=True, retry_after_s=60))
    assert world.running() == []
    world.manager.machine_is_back("TV")
    assert sorted(world.running()) == sorted([up, down])
    assert world.status(other) == world.status(busy) == "suspended (backoff)"


def addresses(world: World, key: TransferKey) -> object:
    job = world.pool.jobs[world.pool.run_of(key)]
    (store,) = job.sources if isinstance(job, Download) else (job.destination,) if isinstance(job, Upload) else ()
    return store.settings["addresses"]


def a_big_file(world: World, *stored: str) -> FileSpec:
    return world.add_file(replace(a_file(world), size=900_000_000), *stored)


@pytest.mark.parametrize("direction", list(Direction))
def test_what_moves_in_the_local_network_does_not_go_around_it_where_that_costs(direction: Direction) -> None:
    world = World()
    world.stores.remote[STORE_ID] = peer(STORE_ID, "TV")
    file = a_big_file(world, STORE_ID)
    if direction is Direction.UPLOAD:
        world.stores.files.add(file.file_id)
    world.manager.surroundings_changed(METERED)
    (key,) = world.queue(Entry(file.file_id, direction, STORE_ID if direction is Direction.UPLOAD else ""))
    assert addresses(world, key) == [LAN]


def test_a_download_that_runs_lets_go_of_far_addresses_when_they_begin_to_cost() -> None:
    world = World()
    world.stores.remote[STORE_ID] = peer(STORE_ID, "TV")
    (key,) = world.queue(Entry(a_big_file(world, STORE_ID).file_id))
    assert addresses(world, key) == [LAN, WAN]
    run = world.pool.run_of(key)
    world.manager.surroundings_changed(METERED)
    assert world.pool.said[-1] == ("sources", run)
    assert addresses(world, key) == [LAN]
    world.manager.surroundings_changed(ONLINE)
    assert world.pool.said[-1] == ("sources", run)  # and is left alone for the rest of it
    assert world.running() == [key]


def test_an_upload_that_runs_begins_anew_without_far_addresses_when_they_begin_to_cost() -> None:
    world = World()
    world.stores.remote[STORE_ID] = peer(STORE_ID, "TV")
    file = a_big_file(world)
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id, Direction.UPLOAD, STORE_ID))
    world.manager.surroundings_changed(METERED)
    assert world.pool.said[-1] == ("stop", world.pool.run_of(key))
    world.end(key, Outcome.STOPPED)
    assert world.running() == [key]
    assert addresses(world, key) == [LAN]


def test_a_paused_one_stays_paused_whatever_the_connection_does() -> None:
    world = World()
    (key,) = world.queue(Entry(a_file(world).file_id))
    world.manager.surroundings_changed(OFFLINE)
    world.end(key, Outcome.STOPPED)
    assert world.manager.pause(key)
    world.manager.surroundings_changed(ONLINE)
    assert world.status(key) == "paused"
    assert world.manager.resume(key)
    assert world.status(key) == "ongoing"
