"""Bandwidth limits and the timetable, as the manager applies them."""

from __future__ import annotations

import pytest

from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.limiter import Timetable
from dmedia_transfer.manager import Settings
from dmedia_transfer.model import Entry, FileSpec, Outcome, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.factories import content, file_spec
from tests.fakes import World

MB = 1_000_000.0


def start(world: World, count: int) -> list[TransferKey]:
    files: list[FileSpec] = [world.add_file(file_spec(content(1000, seed=seed))) for seed in range(count)]
    keys = world.queue(*(Entry(file.file_id) for file in files))
    assert len(world.running()) == count
    return keys


def downloads(world: World) -> list[float | None]:
    return [share[0] for share in world.pool.shares.values()]


def test_without_a_limit_no_worker_is_told_a_share_and_nothing_ticks() -> None:
    world = World()
    start(world, 2)
    world.clock.advance(60)
    assert world.pool.shares == {}


def test_a_limit_is_shared_by_all_workers_and_never_exceeded() -> None:
    world = World(settings=Settings(download_bps=4 * MB))
    start(world, 4)
    shares = downloads(world)
    assert len(shares) == 4
    assert sum(share or 0.0 for share in shares) <= 4 * MB * 1.01


def test_a_limit_is_live() -> None:
    world = World()
    (key,) = start(world, 1)
    world.manager.set_limits(download_bps=2 * MB)
    assert downloads(world) == [2 * MB]
    world.manager.set_limits(download_bps=1 * MB)
    assert downloads(world) == [1 * MB]
    world.manager.set_limits(download_bps=0)
    assert downloads(world) == [None]
    world.end(key)


def test_a_share_that_one_worker_leaves_over_flows_to_the_other() -> None:
    world = World(settings=Settings(download_bps=1000.0))
    busy, idle = start(world, 2)
    for second in range(1, 5):
        world.clock.advance(1.0)
        world.move(busy, 200 * second)
        world.move(idle, 1)
    busy_share = world.pool.shares[world.pool.run_of(busy)][0]
    idle_share = world.pool.shares[world.pool.run_of(idle)][0]
    assert busy_share is not None
    assert idle_share is not None
    assert busy_share > idle_share


def test_a_worker_that_fetches_again_what_was_cut_keeps_its_share_though_nothing_is_done() -> None:
    world = World(settings=Settings(download_bps=1000.0))
    busy, cut = start(world, 2)
    for second in range(1, 10):
        world.clock.advance(1.0)
        world.move(busy, 50 * second, sent=500 * second)
        world.move(cut, 1, sent=500 * second)
    assert world.pool.shares[world.pool.run_of(cut)][0] == pytest.approx(500.0)


@pytest.mark.parametrize(("hour", "share"), [(9, 2 * MB), (19, 5 * MB)])
def test_the_timetable_limits_by_the_time_of_day_and_the_lower_limit_counts(hour: int, share: float) -> None:
    table = Timetable.parse("08:00 2MB/s, 18:00 off, 23:00 stop")
    world = World(settings=Settings(download_bps=5 * MB, timetable=table))
    world.clock.advance(3600 * ((hour - 12) % 24))
    start(world, 1)
    assert downloads(world) == [share]


def test_when_the_timetable_says_stop_all_is_suspended_until_it_says_go() -> None:
    world = World(settings=Settings(timetable=Timetable.parse("08:00 off, 23:00 stop"), max_transfers=1))
    files = [world.add_file(file_spec(content(1000, seed=seed))) for seed in range(3)]
    running, waiting, paused = world.queue(
        Entry(files[0].file_id), Entry(files[1].file_id), Entry(files[2].file_id, paused=True)
    )
    world.clock.advance(3600 * 11 + 1)
    assert [world.status(key) for key in (running, waiting, paused)] == [
        "suspended (schedule)",
        "suspended (schedule)",
        "paused",
    ]
    world.end(running, Outcome.STOPPED)
    late = world.add_file(file_spec(content(1000, seed=9)))
    (new,) = world.queue(Entry(late.file_id))
    assert world.status(new) == "suspended (schedule)"
    assert world.running() == []
    world.clock.advance(3600 * 9 + 1)
    assert world.status(running) == "ongoing"
    assert [world.status(key) for key in (waiting, new, paused)] == ["queued", "queued", "paused"]


def test_fewer_transfers_at_once_suspend_those_that_began_last_and_more_let_them_go_on() -> None:
    world = World(settings=Settings(max_transfers=3))
    first, second, third = start(world, 3)
    world.manager.set_limits(max_transfers=1)
    transfers = world.manager.transfers()
    assert transfers[first].status is Status.ONGOING
    assert {transfers[key].reason for key in (second, third)} == {Reason.PREEMPTED}
    for key in (second, third):
        world.end(key, Outcome.STOPPED)
    assert world.running() == [first]
    world.manager.set_limits(max_transfers=2)
    assert world.running() == [first, second]


def test_workers_are_told_of_another_number_of_connections_once() -> None:
    world = World()
    start(world, 2)
    world.manager.set_limits(connections=8)
    world.manager.set_limits(connections=8, max_transfers=3)
    assert world.pool.said.count(("connect 8", 1)) == world.pool.said.count(("connect 8", 2)) == 1


class Guest:
    """A server for peers that does as it is told, or less."""

    def __init__(self, world: World) -> None:
        self.limits: tuple[float | None, float | None, bool] = (None, None, False)
        self.times_told = 0
        world.manager.admit_peers(self)

    def __call__(self, *, send_bps: float | None, receive_bps: float | None, stopped: bool) -> None:
        self.limits = (send_bps, receive_bps, stopped)
        self.times_told += 1


def test_without_a_limit_the_server_for_peers_is_told_nothing() -> None:
    world = World()
    guest = Guest(world)
    start(world, 2)
    world.clock.advance(60)
    assert guest.times_told == 0


def test_the_server_for_peers_alone_may_use_the_whole_limit_and_nothing_ticks() -> None:
    world = World(settings=Settings(download_bps=1000.0, upload_bps=500.0))
    guest = Guest(world)
    assert guest.limits == (500.0, 1000.0, False)
    world.clock.advance(600)
    assert guest.times_told == 1


def test_a_change_of_the_limit_holds_for_the_server_for_peers_at_once() -> None:
    world = World(settings=Settings(download_bps=1000.0, upload_bps=500.0))
    guest = Guest(world)
    world.manager.set_limits(upload_bps=0)
    assert guest.limits == (None, 1000.0, False)


def test_the_server_for_peers_shares_the_limit_with_the_workers() -> None:
    world = World(settings=Settings(download_bps=1000.0))
    guest = Guest(world)
    (key,) = start(world, 1)

    def seconds(count: int, *, guest_bytes: int) -> None:
        for _ in range(count):
            world.manager.peers_moved(0, guest_bytes)
            world.move(key, world.manager.transfers()[key].progress.bytes_done + 10)
            world.clock.advance(1.0)

    seconds(8, guest_bytes=0)
    idle = guest.limits[1]
    seconds(8, guest_bytes=1000)
    busy = guest.limits[1]
    assert idle is not None
    assert busy is not None
    assert idle < 1000.0
    assert busy > 700.0  # the worker does next to nothing
    world.end(key)
    world.clock.advance(2.0)
    assert guest.limits[1] == 1000.0


def test_the_timetable_stops_the_server_for_peers_as_well() -> None:
    world = World(settings=Settings(timetable=Timetable.parse("00:00 stop")))
    assert Guest(world).limits == (None, None, True)


def test_the_timetable_can_be_changed_while_it_runs() -> None:
    world = World()
    (key,) = start(world, 1)
    world.manager.set_limits(timetable="11:00 stop")
    assert world.status(key) == "suspended (schedule)"
    assert world.manager.summary().timetable == "11:00 stop"
    with pytest.raises(InvalidRequest, match="25:00"):
        world.manager.set_limits(timetable="25:00 stop")
    world.manager.set_limits(timetable="")
    world.end(key, Outcome.STOPPED)
    assert world.status(key) == "ongoing"
