"""Sources and missing leaves in, a verified file out: on a disk, a journal and stores in memory."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.crew import Crew
from dmedia_transfer.download import Download, Source
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CorruptLeaf,
    DiskFull,
    Interrupted,
    LeafMissing,
    NoSource,
    ObjectMissing,
    SizeDisputed,
    StoreMissing,
    TransferError,
)
from dmedia_transfer.lines import SPARE
from dmedia_transfer.model import Direction
from dmedia_transfer.tally import Tally
from tests.engine import FlakyStore, Hook, Rig, Shown, always, in_background, no_pace, once
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.waiting import eventually

LEAVES = 10


@pytest.fixture
def rig(small_leaves: int) -> Rig:
    return new_rig(small_leaves * (LEAVES - 1) + 100)


def new_rig(size: int) -> Rig:
    data = content(size)
    return Rig(data, file_spec(data), Direction.DOWNLOAD)


def store_with(rig: Rig, store_id: str = STORE_ID, *, cost: int = 100, **settings: Any) -> FlakyStore:
    store = FlakyStore(store_id, **settings)
    store.cost = cost
    store.put_whole(rig.data, rig.file)
    return store


def test_a_file_is_fetched_leaf_by_leaf_and_published(rig: Rig) -> None:
    store = store_with(rig)
    tally = Tally(rig.file.size)
    rig.download(store, tally=tally).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert store.count("fetch") == LEAVES
    assert (tally.bytes_done, tally.pieces_done, tally.sent_bytes) == (rig.file.size, LEAVES, rig.file.size)
    assert tally.stores == ((STORE_ID, rig.file.size),)
    assert rig.recorded() == set()


def test_while_a_leaf_is_written_the_next_one_is_on_its_way(rig: Rig) -> None:
    store = store_with(rig)

    def once_there_is_another(index: int) -> None:
        eventually(lambda: store.count("fetch") > 1)

    rig.disk.fail_write = once_there_is_another
    rig.download(store, crew=Crew(1)).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert store.count("fetch") == LEAVES


def test_a_file_that_is_there_is_done_without_a_request(rig: Rig) -> None:
    store = FlakyStore()
    rig.disk.files[rig.file.file_id] = rig.data
    rig.journal.leaf_records.record(rig.key, rig.disk.store_id, "boot-1", 3)
    tally = Tally(rig.file.size)
    rig.download(store, tally=tally).run()
    assert not store.calls
    assert tally.bytes_done == rig.file.size
    assert rig.recorded() == set()


def test_leaves_on_record_are_not_fetched_again(rig: Rig) -> None:
    store = store_with(rig)
    store.before = always(ConnectionLost("reset"), "fetch", 6)
    with pytest.raises(ConnectionLost):
        rig.download(store).run()
    kept = rig.recorded()
    assert kept
    store.before = lambda *_: None
    store.calls.clear()
    rig.download(store).run()
    assert {leaf for verb, leaf in store.calls if verb == "fetch"} == set(range(LEAVES)) - kept
    assert rig.disk.files[rig.file.file_id] == rig.data


@pytest.mark.parametrize("lost", ["the boot", "the journal"])
def test_a_partial_file_that_is_not_on_record_is_hashed_again(rig: Rig, lost: str) -> None:
    store = store_with(rig)
    store.before = always(ConnectionLost("reset"), "fetch", 6)
    with pytest.raises(ConnectionLost):
        rig.download(store).run()
    kept = rig.recorded()
    damaged = min(kept)
    rig.disk.partials[rig.file.file_id].data[damaged * leaves.LEAF_BYTES] ^= 1
    if lost == "the boot":
        rig.disk.identity = "boot-2"
    else:
        rig.journal.leaves.clear()
    store.before = lambda *_: None
    store.calls.clear()
    tally = Tally(rig.file.size)
    rig.download(store, tally=tally).run()
    assert {leaf for verb, leaf in store.calls if verb == "fetch"} == set(range(LEAVES)) - kept | {damaged}
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert tally.bytes_done == rig.file.size


def test_what_is_in_a_partial_file_is_not_lost_when_hashing_it_is_broken_off(rig: Rig) -> None:
    store = store_with(rig)
    found = rig.disk.partial(rig.file.file_id, rig.file.size)
    found.data[:] = rig.data
    found.data[0] ^= 1
    store.before = always(ConnectionLost("down"), "fetch")
    with pytest.raises(ConnectionLost):
        rig.download(store).run()
    store.before = lambda *_: None
    store.calls.clear()
    rig.download(store).run()
    assert {leaf for verb, leaf in store.calls if verb == "fetch"} == {0}


def test_a_corrupt_leaf_is_fetched_three_times_and_fails_with_the_evidence(rig: Rig) -> None:
    store = store_with(rig)
    store.garble = lambda leaf: leaf == 4
    download = rig.download(store)
    with pytest.raises(CorruptLeaf) as caught:
        download.run()
    assert (caught.value.file_id, caught.value.leaf, caught.value.store_id) == (rig.file.file_id, 4, STORE_ID)
    assert store.calls["fetch", 4] == 3
    assert not rig.disk.files
    assert rig.recorded() >= {0, 1, 2, 3}, "the others are kept"
    assert 4 not in rig.recorded()
    assert rig.disk.writes[4] == 0


def test_a_leaf_that_is_corrupt_once_is_fetched_again(rig: Rig) -> None:
    store = store_with(rig)
    store.garble = lambda leaf: leaf == 4 and store.calls["fetch", 4] == 1
    rig.download(store).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert store.calls["fetch", 4] == 2


def test_a_corrupt_leaf_is_fetched_from_another_source_and_the_rest_from_the_first(rig: Rig) -> None:
    liar, honest = store_with(rig, cost=10), store_with(rig, OTHER_STORE_ID)
    liar.garble = lambda leaf: leaf == 4
    rig.download(liar, honest).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert {leaf for verb, leaf in honest.calls if verb == "fetch"} == {4}


def test_a_source_with_two_corrupt_leaves_is_not_asked_any_more(rig: Rig) -> None:
    liar, honest = store_with(rig, cost=10), store_with(rig, OTHER_STORE_ID)
    liar.garble = lambda leaf: True
    rig.connections = 1
    download = rig.download(liar, honest)
    download.run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    on_their_way = 1 + SPARE  # when the second one was found to be wrong
    assert 2 <= liar.count("fetch") <= 2 + on_their_way
    assert honest.count("fetch") == LEAVES
    assert [(one.store_id, one.state) for one in download.sources()] == [
        (STORE_ID, "demoted"),
        (OTHER_STORE_ID, "waiting"),
    ]
    assert "does not match its digest" in download.sources()[0].reason


def test_when_all_sources_lie_it_fails_with_the_evidence(rig: Rig) -> None:
    liars = store_with(rig), store_with(rig, OTHER_STORE_ID)
    for liar in liars:
        liar.garble = lambda leaf: leaf in (4, 5)
    with pytest.raises(CorruptLeaf) as caught:
        rig.download(*liars).run()
    assert caught.value.leaf in (4, 5)
    assert not rig.disk.files
    assert all(liar.count("fetch") <= 3 * 2 + LEAVES for liar in liars)


@pytest.mark.parametrize("error", [ConnectionLost("reset"), AccessDenied("no"), ObjectMissing("gone")])
def test_a_source_that_fails_is_demoted_and_the_others_go_on(rig: Rig, error: TransferError) -> None:
    bad, good = store_with(rig, cost=10), store_with(rig, OTHER_STORE_ID)
    bad.before = once(error, "fetch", 3)
    rig.connections = 1
    download = rig.download(bad, good)
    download.run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert bad.calls["fetch", 3] == 1
    assert good.calls["fetch", 3] == 1
    first, _ = download.sources()
    assert (first.state, first.reason) == ("demoted", str(error))
    assert first.received_bytes < rig.file.size


def test_when_all_sources_fail_the_error_is_the_one_that_trying_again_helps_against(rig: Rig) -> None:
    gone, down = store_with(rig), store_with(rig, OTHER_STORE_ID)
    lost = ConnectionLost("reset")
    down.before = always(lost, "fetch")
    gone.before = always(ObjectMissing("gone"), "fetch")
    download = rig.download(down, gone)
    with pytest.raises(ConnectionLost) as caught:
        download.run()
    assert download.blames(caught.value) == OTHER_STORE_ID


def test_without_a_source_there_is_a_reason_to_wait(rig: Rig) -> None:
    with pytest.raises(NoSource):
        rig.download().run()


def test_an_object_that_is_too_short_puts_the_document_under_suspicion(rig: Rig) -> None:
    short = FlakyStore()
    short.put_whole(rig.data[: leaves.LEAF_BYTES * 2], rig.file)
    download = rig.download(short)
    with pytest.raises(SizeDisputed) as caught:
        download.run()
    assert download.blames(caught.value) == ""


def test_an_object_that_is_longer_shows_in_the_last_leaf(small_leaves: int) -> None:
    rig = new_rig(small_leaves + 100)
    longer = FlakyStore()
    wrong = rig.data[:-100] + content(200, seed=9)
    longer.put_whole(wrong, rig.file)
    with pytest.raises(SizeDisputed, match="by its document"):
        rig.download(longer).run()


def test_a_size_that_only_one_source_disputes_is_settled_by_the_other(rig: Rig) -> None:
    short, whole = FlakyStore(), store_with(rig, OTHER_STORE_ID)
    short.put_whole(rig.data[: leaves.LEAF_BYTES * 2], rig.file)
    rig.download(short, whole).run()
    assert rig.disk.files[rig.file.file_id] == rig.data


@pytest.mark.parametrize("error", [DiskFull("full"), StoreMissing("unplugged")])
def test_after_an_error_from_a_write_no_leaf_is_on_record(rig: Rig, error: TransferError) -> None:
    store = store_with(rig)
    rig.disk.fail_write = lambda index: error if index == 5 else None
    with pytest.raises(type(error)):
        rig.download(store).run()
    assert rig.recorded() == set()
    rig.disk.fail_write = lambda index: None
    rig.download(store).run()
    assert rig.disk.files[rig.file.file_id] == rig.data


def test_after_an_error_from_publishing_no_leaf_is_on_record(rig: Rig) -> None:
    store = store_with(rig)
    rig.disk.fail_publish = StoreMissing("the sync failed")
    with pytest.raises(StoreMissing):
        rig.download(store).run()
    assert rig.recorded() == set()
    assert not rig.disk.files


def test_a_pause_cuts_leaves_in_flight_and_keeps_the_others(rig: Rig) -> None:
    store = FlakyStore(rate_bps=40_000)
    store.put_whole(rig.data, rig.file)
    crew, tally = Crew(3), Tally(rig.file.size)
    outcome = in_background(rig.download(store, crew=crew, tally=tally).run)
    next(outcome)
    eventually(lambda: bool(rig.recorded()))
    crew.pause(0)
    assert isinstance(next(outcome), Interrupted)
    kept = rig.recorded()
    assert kept
    assert not rig.disk.files
    fast = store_with(rig)
    rig.download(fast).run()
    assert {leaf for verb, leaf in fast.calls if verb == "fetch"} == set(range(LEAVES)) - kept
    assert rig.disk.files[rig.file.file_id] == rig.data


def test_a_pause_that_is_taken_back_at_once_loses_no_leaf(rig: Rig) -> None:
    store = FlakyStore(rate_bps=100_000)
    store.put_whole(rig.data, rig.file)
    crew = Crew(3)
    outcome = in_background(rig.download(store, crew=crew).run)
    next(outcome)
    eventually(lambda: bool(rig.recorded()))
    crew.pause(5)
    assert crew.resume()
    assert next(outcome) is None
    assert store.count("fetch") == LEAVES
    assert rig.disk.files[rig.file.file_id] == rig.data


def test_cutting_the_connections_blames_no_source(rig: Rig) -> None:
    store = FlakyStore(rate_bps=100_000)
    store.put_whole(rig.data, rig.file)
    crew = Crew(3)
    outcome = in_background(rig.download(store, crew=crew).run)
    next(outcome)
    for _ in range(3):
        time.sleep(0.03)
        crew.cut()
    assert next(outcome) is None
    assert rig.disk.files[rig.file.file_id] == rig.data


def test_a_stop_ends_a_source_that_hangs(rig: Rig) -> None:
    store = FlakyStore(rate_bps=1)
    store.put_whole(rig.data, rig.file)
    crew = Crew(3)
    outcome = in_background(rig.download(store, crew=crew).run)
    next(outcome)
    eventually(lambda: store.count("fetch") == 3)
    begun = time.monotonic()
    crew.stop()
    assert isinstance(next(outcome), Interrupted)
    assert time.monotonic() - begun < 1


def test_two_sources_of_one_cost_are_read_from_at_the_same_time(rig: Rig) -> None:
    stores = [store_with(rig, one, rate_bps=400_000) for one in (STORE_ID, OTHER_STORE_ID)]
    tally = Tally(rig.file.size, Shown(rig.file.size))
    download = rig.download(*stores, tally=tally)
    download.run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert set(rig.disk.writes.values()) == {1}
    assert all(store.count("fetch") > 1 for store in stores)
    assert sum(count for _, count in tally.stores) == tally.sent_bytes
    assert {one.store_id: one.received_bytes for one in download.sources()} == dict(tally.stores)


def test_a_slow_source_does_not_hold_up_the_end(rig: Rig) -> None:
    slow, fast = store_with(rig, rate_bps=1), store_with(rig, OTHER_STORE_ID)
    download = rig.download(slow, fast)
    download.run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert set(rig.disk.writes.values()) == {1}
    assert fast.count("fetch") == LEAVES, "also those that the slow one was at"
    assert [one.state for one in download.sources()] == ["waiting", "waiting"], "to be slow is no failure"


def test_a_source_that_is_still_receiving_the_file_itself_is_asked_again(rig: Rig) -> None:
    relay = store_with(rig)
    there: set[int] = {0}

    def arriving(store: FlakyStore, verb: str, leaf: int) -> None:
        if verb == "fetch" and leaf not in there:
            there.add(max(there) + 1)
            raise LeafMissing(rig.file.file_id, leaf, STORE_ID, frozenset(there - {leaf}))

    relay.before = arriving
    download = rig.download(relay)
    download.run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert relay.count("fetch") <= 3 * LEAVES
    assert download.sources()[0].state == "waiting"


def test_while_it_waits_for_a_leaf_it_is_still_told_how_far_it_is(rig: Rig) -> None:
    relay = store_with(rig)

    def lacks_all_but_the_first(_: FlakyStore, verb: str, leaf: int) -> None:
        if verb == "fetch" and leaf > 0:
            raise LeafMissing(rig.file.file_id, leaf, STORE_ID, frozenset({0}))

    relay.before = lacks_all_but_the_first
    told: list[int] = []
    crew = Crew(1)
    tally = Tally(rig.file.size, lambda tally: told.append(tally.bytes_done))
    outcome = in_background(rig.download(relay, crew=crew, tally=tally).run)
    next(outcome)
    eventually(lambda: relay.count("fetch") >= 3)
    count = len(told)
    eventually(lambda: len(told) >= count + 2)
    assert told[-1] == told[count - 1] == leaves.LEAF_BYTES
    crew.stop()
    assert isinstance(next(outcome), Interrupted)


def test_a_source_that_gets_the_leaf_after_all_wins_if_it_is_first(rig: Rig) -> None:
    """Both have the leaf verified at once: one of them writes it."""
    both_there = threading.Barrier(2, timeout=20)
    stores = [store_with(rig, one) for one in (STORE_ID, OTHER_STORE_ID)]
    begun = threading.Event()

    def slow(store: FlakyStore, verb: str, leaf: int) -> None:
        if verb == "fetch" and leaf == 0:
            begun.set()
            both_there.wait()

    for store in stores:
        store.before = slow
    tally = Tally(rig.file.size, Shown(rig.file.size))
    rig.download(*stores, tally=tally).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert rig.disk.writes[0] == 1
    assert [store.calls["fetch", 0] for store in stores] == [1, 1]
    assert tally.bytes_done == rig.file.size


def test_sources_join_and_leave_a_running_download(rig: Rig) -> None:
    stuck, good = store_with(rig, rate_bps=1), store_with(rig, OTHER_STORE_ID)
    crew = Crew(2)
    news: list[list[Source]] = []
    download = Download(
        rig.key,
        rig.file,
        sources=[Source(STORE_ID, stuck)],
        destination=rig.disk,
        records=rig.journal.leaf_records,
        crew=crew,
        buffers=LeafBuffers(2),
        tally=Tally(rig.file.size, Shown(rig.file.size)),
        pace=no_pace,
        news=lambda: news.pop() if news else None,
    )
    outcome = in_background(download.run)
    next(outcome)
    eventually(lambda: stuck.count("fetch") == 2)
    news.append([Source(OTHER_STORE_ID, good)])
    crew.spread(2)
    assert next(outcome) is None
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert good.count("fetch") == LEAVES


@given(
    size=st.integers(1, 12 * 4096),
    faults=st.lists(
        st.tuples(st.sampled_from(["reset", "garble", "full", "reboot", "journal lost", "none"]), st.integers(0, 11)),
        max_size=5,
    ),
    connections=st.integers(1, 4),
)
@pytest.mark.usefixtures("small_leaves_for_all")
def test_whatever_happens_it_ends_with_the_bytes_and_fetches_no_recorded_leaf_again(
    size: int, faults: list[tuple[str, int]], connections: int
) -> None:
    rig = new_rig(size)
    rig.connections = connections
    store = store_with(rig)
    trusted: set[int] = set()

    def not_on_record(_: FlakyStore, verb: str, leaf: int) -> None:
        assert verb != "fetch" or leaf not in trusted, "a recorded leaf is fetched again"

    for fault, at in faults:
        disturb: Hook = always(ConnectionLost("reset"), "fetch", at) if fault == "reset" else (lambda *_: None)
        store.before = both(not_on_record, disturb)
        store.garble = partial(equal, at if fault == "garble" else None)
        rig.disk.fail_write = partial(full_at, at if fault == "full" else None)
        try:
            rig.download(store).run()
        except (ConnectionLost, CorruptLeaf, DiskFull):
            assert rig.file.file_id not in rig.disk.files
        trusted = rig.recorded()
        if fault == "reboot":
            rig.disk.identity += "+"
            trusted = set()
        if fault == "journal lost":
            rig.journal.leaves.clear()
            trusted = set()
    store.before, store.garble = not_on_record, lambda leaf: False
    rig.disk.fail_write = lambda index: None
    rig.download(store).run()
    assert rig.disk.files[rig.file.file_id] == rig.data
    assert not rig.disk.partials


def both(first: Hook, second: Hook) -> Hook:
    def hook(store: FlakyStore, verb: str, number: int) -> None:
        first(store, verb, number)
        second(store, verb, number)

    return hook


def equal(one: int | None, other: int) -> bool:
    return one == other


def full_at(leaf: int | None, index: int) -> TransferError | None:
    return DiskFull("full") if index == leaf else None
