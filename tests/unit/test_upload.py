"""A file's leaves in, confirmed parts out: on a disk, a journal and stores in memory."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import leaves
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CorruptLeaf,
    Interrupted,
    ObjectDiffers,
    Permanent,
    ServerBusy,
    SourceChanged,
    TransferError,
    Transient,
    UploadGone,
)
from dmedia_transfer.model import Direction, FileSpec
from dmedia_transfer.multipart import BufferBody
from dmedia_transfer.ports import Body, Meter, Part, UploadRecord
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload import abandon_current
from tests.engine import FlakyStore, Rig, always, in_background, once
from tests.factories import content, file_spec
from tests.waiting import eventually

LEAVES = 10
ERRORS = {"reset": ConnectionLost("reset"), "busy": ServerBusy("slow down"), "gone": UploadGone("gone")}
POOR: dict[str, Any] = {"verifies_sha256": False, "tells_sha256": False}  # as many an S3-compatible server


@pytest.fixture
def rig(small_leaves: int) -> Rig:
    return new_rig(small_leaves * (LEAVES - 1) + 100)


def new_rig(size: int) -> Rig:
    data = content(size)
    rig = Rig(data, file_spec(data), Direction.UPLOAD)
    rig.disk.files[rig.file.file_id] = data
    return rig


def sent(store: FlakyStore) -> list[int]:
    return sorted(number for (verb, number), count in store.calls.items() if verb == "put_part" for _ in range(count))


@pytest.mark.parametrize("settings", [{}, POOR, {"parallel_parts": False}])
def test_a_large_file_goes_in_parts_of_one_leaf(rig: Rig, settings: dict[str, Any]) -> None:
    store = FlakyStore(**settings)
    tally = Tally(rig.file.size)
    rig.upload(store, tally=tally).run()
    assert store.object(rig.file) == rig.data
    assert sent(store) == list(range(1, LEAVES + 1))
    assert (tally.bytes_done, tally.pieces_done, tally.sent_bytes) == (rig.file.size, LEAVES, rig.file.size)
    assert not rig.journal.uploads


def test_the_composite_checksum_of_the_object_is_the_file_digest(rig: Rig) -> None:
    store = FlakyStore()
    rig.upload(store).run()
    info = store.direct.stat(rig.file)
    assert info is not None
    assert info.composite_sha256 == leaves.file_digest(rig.file.leaf_digests)


@pytest.mark.parametrize("settings", [{}, POOR])
def test_a_small_file_goes_with_one_request(small_leaves: int, settings: dict[str, Any]) -> None:
    rig, store = new_rig(small_leaves), FlakyStore(**settings)
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert (store.count("put"), store.count("begin")) == (1, 0)


@pytest.mark.parametrize("tells", [True, False])
def test_a_store_that_says_what_it_took_is_not_asked_what_it_has(small_leaves: int, tells: bool) -> None:
    rig, store = new_rig(small_leaves), FlakyStore(verifies_sha256=False, tells_sha256=tells)
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert store.count("stat") == (1 if tells else 2), "before it is sent, and after it"


def test_a_store_that_took_something_else_is_found_out(small_leaves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, store = new_rig(small_leaves), FlakyStore(verifies_sha256=False)
    damaged, put = BufferBody(rig.data[:-1] + bytes([rig.data[-1] ^ 1])), store.backend.put
    monkeypatch.setattr(store.backend, "put", lambda file, _, meter: put(file, damaged, meter))
    with pytest.raises(ObjectDiffers, match="not the file"):
        rig.upload(store).run()


def test_a_single_leaf_that_is_too_large_for_one_request_goes_in_parts(small_leaves: int) -> None:
    rig, store = new_rig(small_leaves), FlakyStore(put_max_bytes=100)
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert sent(store) == [1]


@pytest.mark.parametrize("settings", [{}, POOR])
def test_a_store_that_takes_few_parts_gets_parts_of_several_leaves(rig: Rig, settings: dict[str, Any]) -> None:
    store = FlakyStore(max_parts=4, **settings)
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert sent(store) == [1, 2, 3]


def test_parts_of_several_leaves_are_resumed_by_checksum(rig: Rig) -> None:
    store = FlakyStore(max_parts=4)
    store.before = once(ConnectionLost("reset"), "put_part", 3)
    rig.connections = 1
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    rig.journal.confirmed_parts[rig.key].clear()
    store.calls.clear()
    rig.upload(store).run()
    assert sent(store) == [3]
    assert store.object(rig.file) == rig.data


# What is there already


@pytest.mark.parametrize("size", [4000, 40_000])
def test_an_object_that_is_proven_ours_is_not_sent_again(small_leaves: int, size: int) -> None:
    rig, store = new_rig(size), FlakyStore()
    rig.upload(store).run()
    store.calls.clear()
    tally = Tally(size)
    rig.upload(store, tally=tally).run()
    assert store.calls == {("stat", 0): 1}
    assert tally.bytes_done == size


def test_an_object_without_a_checksum_is_read_and_verified(rig: Rig) -> None:
    store = FlakyStore(**POOR)
    store.put_whole(rig.data, rig.file)
    tally = Tally(rig.file.size)
    rig.upload(store, tally=tally).run()
    assert store.count("fetch") == LEAVES
    assert store.count("begin") == 0
    assert tally.bytes_done == rig.file.size


@pytest.mark.parametrize("settings", [{}, POOR])
def test_another_object_under_the_name_is_never_overwritten(rig: Rig, settings: dict[str, Any]) -> None:
    store = FlakyStore(**settings)
    other = bytearray(rig.data)
    other[3 * leaves.LEAF_BYTES + 5] ^= 1
    store.put_whole(bytes(other), rig.file)
    with pytest.raises(ObjectDiffers, match="leaf 3"):
        rig.upload(store).run()
    assert store.object(rig.file) == bytes(other)
    assert not sent(store)


@pytest.mark.parametrize("settings", [{}, POOR])
@pytest.mark.parametrize("size", [0, 100])
def test_one_that_was_found_corrupt_is_read_once_more_and_gives_way(
    small_leaves: int, settings: dict[str, Any], size: int
) -> None:
    rig = new_rig(size or small_leaves * (LEAVES - 1) + 100)
    store, tally = FlakyStore(**settings), Tally(rig.file.size)
    store.put_whole(rig.data[:-1] + bytes([rig.data[-1] ^ 1]), rig.file)
    rig.upload(store, tally=tally, replaces=True).run()
    assert store.object(rig.file) == rig.data
    assert tally.bytes_done == rig.file.size


def test_one_that_was_called_corrupt_and_is_not_stays_as_it_is(rig: Rig) -> None:
    store = FlakyStore(**POOR)
    store.put_whole(rig.data, rig.file)
    rig.upload(store, replaces=True).run()
    assert not sent(store)


def test_what_is_not_the_file_after_it_was_sent_is_an_error_also_where_something_gave_way(rig: Rig) -> None:
    store = FlakyStore(**POOR)
    store.put_whole(rig.data[:-1], rig.file)

    def swap(store: FlakyStore, verb: str, number: int) -> None:
        if verb == "finish":
            store.put_whole(rig.data[:-1], rig.file)

    store.after = swap
    with pytest.raises(ObjectDiffers):
        rig.upload(store, replaces=True).run()


def test_an_object_of_another_size_differs_without_being_read(rig: Rig) -> None:
    store = FlakyStore(**POOR)
    store.put_whole(rig.data[:-1], rig.file)
    with pytest.raises(ObjectDiffers, match="bytes"):
        rig.upload(store).run()
    assert store.count("fetch") == 0


def test_an_upload_that_lost_against_another_device_is_aborted(rig: Rig) -> None:
    store = FlakyStore()
    store.before = always(ConnectionLost("reset"), "put_part", 5)
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    upload_id = rig.journal.uploads[rig.key].upload_id
    store.put_whole(rig.data, rig.file)
    rig.upload(store).run()
    with pytest.raises(UploadGone):
        store.direct.list_parts(rig.file, upload_id)
    assert not rig.journal.uploads


# Resuming


@pytest.mark.parametrize("settings", [{}, POOR])
@pytest.mark.parametrize("journal", ["kept", "parts lost"])
def test_parts_that_the_server_has_are_not_sent_again(rig: Rig, settings: dict[str, Any], journal: str) -> None:
    store = FlakyStore(**settings)
    store.before = always(ConnectionLost("reset"), "put_part", 6)
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    there = {part.number for part in store.direct.list_parts(rig.file, rig.journal.uploads[rig.key].upload_id)}
    assert there
    if journal == "parts lost":
        rig.journal.confirmed_parts[rig.key].clear()
    store.before = lambda *_: None
    store.calls.clear()
    tally = Tally(rig.file.size)
    rig.upload(store, tally=tally).run()
    assert set(sent(store)) == set(range(1, LEAVES + 1)) - there
    assert store.count("begin") == 0
    assert store.object(rig.file) == rig.data
    assert tally.bytes_done == rig.file.size


@pytest.mark.parametrize("settings", [{}, POOR])
def test_a_part_that_differs_is_sent_again(rig: Rig, settings: dict[str, Any]) -> None:
    store = FlakyStore(**settings)
    store.before = always(ConnectionLost("reset"), "finish")
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    upload_id = rig.journal.uploads[rig.key].upload_id
    wrong = bytes(leaves.LEAF_BYTES)
    store.direct.put_part(rig.file, upload_id, 2, BufferBody(wrong), lambda count: None)
    store.direct.put_part(rig.file, upload_id, 4, BufferBody(wrong[:10]), lambda count: None)
    store.before = lambda *_: None
    store.calls.clear()
    rig.upload(store).run()
    assert sent(store) == [2, 4]
    assert store.object(rig.file) == rig.data


def test_a_part_without_any_checksum_counts_if_it_is_on_record(rig: Rig) -> None:
    class Opaque(FlakyStore):
        """A store whose ETags say nothing."""

        def put_part(self, *args: Any) -> Part:
            return replace(super().put_part(*args), etag="opaque", sha256=None)

        def list_parts(self, *args: Any) -> list[Part]:
            return [replace(part, etag="opaque", sha256=None) for part in super().list_parts(*args)]

    store = Opaque()
    rig.connections = 1
    store.before = always(ConnectionLost("reset"), "put_part", 4)
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    del rig.journal.confirmed_parts[rig.key][2]
    store.calls.clear()
    store.before = always(ConnectionLost("reset"), "finish")
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    assert sent(store) == [2, *range(4, LEAVES + 1)]


def test_the_id_is_on_record_before_the_first_part_and_the_intent_before_the_upload(rig: Rig) -> None:
    store = FlakyStore()
    seen: dict[str, Any] = {}

    def look(_: FlakyStore, verb: str, number: int) -> None:
        if verb in ("begin", "put_part"):
            seen.setdefault(verb, rig.journal.uploads.get(rig.key))

    store.before = look
    rig.upload(store).run()
    assert (seen["begin"].object_name, seen["begin"].upload_id) == (store.object_name(rig.file), "")
    assert seen["put_part"].upload_id


def test_an_upload_that_was_begun_for_another_place_is_aborted_and_begun_anew(rig: Rig) -> None:
    store = FlakyStore()
    old_id = store.direct.begin(rig.file)
    rig.journal.upload_records.intend(UploadRecord(rig.key, "old-bucket/key", "", 1, 0.0))
    rig.journal.upload_records.begun(rig.key, old_id)
    abandoned: list[tuple[str, str]] = []

    def abandon_named(object_name: str, upload_id: str) -> bool:
        abandoned.append((object_name, upload_id))
        return len(abandoned) > 1

    store.abandon = abandon_named  # type: ignore[method-assign]
    rig.upload(store).run()
    assert abandoned == [("old-bucket/key", old_id)] * 2, "until nothing is left of it"
    assert store.object(rig.file) == rig.data


def test_an_intent_without_an_id_begins_anew(rig: Rig) -> None:
    store = FlakyStore()
    rig.journal.upload_records.intend(UploadRecord(rig.key, store.object_name(rig.file), "", 1, 0.0))
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data


# Gone, completed, lost


@pytest.mark.parametrize("settings", [{}, POOR])
@pytest.mark.parametrize("error", [ConnectionLost("reset"), UploadGone("gone")])
def test_a_lost_answer_to_the_end_is_recognised(rig: Rig, settings: dict[str, Any], error: TransferError) -> None:
    store = FlakyStore(**settings)
    store.after = once(error, "finish")
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert store.count("finish") == 1
    assert not rig.journal.uploads


def test_a_completed_object_is_recognised_in_the_next_run(rig: Rig) -> None:
    store = FlakyStore()
    store.after = once(ConnectionLost("reset"), "finish")
    real_stat = store.stat
    answers = iter([None])

    def stat(file: Any) -> Any:
        if store.count("finish"):
            for _ in answers:
                raise ConnectionLost("still down")
        return real_stat(file)

    store.stat = stat  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    store.calls.clear()
    rig.upload(store).run()
    assert not sent(store)
    assert not rig.journal.uploads


@pytest.mark.parametrize("settings", [{}, POOR])
def test_a_lost_answer_to_a_small_file_is_recognised(small_leaves: int, settings: dict[str, Any]) -> None:
    rig, store = new_rig(3000), FlakyStore(**settings)
    store.after = once(ConnectionLost("reset"), "put")
    rig.upload(store).run()
    assert store.count("put") == 1


@pytest.mark.parametrize(("verb", "number"), [("list_parts", 0), ("put_part", 7), ("finish", 0)])
def test_an_upload_that_is_gone_is_begun_anew(rig: Rig, verb: str, number: int) -> None:
    store = FlakyStore()
    store.before = always(ConnectionLost("reset"), "put_part", 6)
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()

    def abort_first(store: FlakyStore, called: str, at: int) -> None:
        if (called, at) == (verb, number) and store.count("begin") == 1:
            store.direct.abandon(store.object_name(rig.file), rig.journal.uploads[rig.key].upload_id)

    store.before = abort_first
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert store.count("begin") == 2


def test_an_upload_that_goes_again_and_again_fails(rig: Rig) -> None:
    store = FlakyStore()
    store.before = always(UploadGone("gone"), "put_part", 3)
    with pytest.raises(UploadGone):
        rig.upload(store).run()
    assert store.count("begin") == 2


def test_an_object_that_is_not_what_was_sent_is_told_of(rig: Rig) -> None:
    store = FlakyStore()

    def swap(store: FlakyStore, verb: str, number: int) -> None:
        if verb == "finish":
            store.put_whole(rig.data[:-1], rig.file)

    store.after = swap
    with pytest.raises(ObjectDiffers):
        rig.upload(store).run()


# Damage


def test_a_part_that_is_damaged_on_the_way_is_sent_again(rig: Rig) -> None:
    store = FlakyStore()
    store.before = once(CorruptLeaf(rig.file.file_id, 2, "S"), "put_part", 3)
    tally = Tally(rig.file.size)
    rig.upload(store, tally=tally).run()
    assert store.object(rig.file) == rig.data
    assert tally.bytes_done == rig.file.size


def test_a_part_that_is_damaged_every_time_fails_with_the_evidence(rig: Rig) -> None:
    store = FlakyStore()
    store.before = always(CorruptLeaf(rig.file.file_id, 2, "S"), "put_part", 3)
    with pytest.raises(CorruptLeaf):
        rig.upload(store).run()
    assert store.calls["put_part", 3] == 3
    assert store.object(rig.file) is None


@pytest.mark.parametrize("settings", [{}, POOR, {"max_parts": 4}, POOR | {"max_parts": 4}])
def test_a_file_that_changed_on_disk_is_never_published(rig: Rig, settings: dict[str, Any]) -> None:
    store = FlakyStore(**settings)
    changed = bytearray(rig.data)
    changed[5 * leaves.LEAF_BYTES] ^= 1
    rig.disk.files[rig.file.file_id] = bytes(changed)
    with pytest.raises(SourceChanged, match="leaf 5"):
        rig.upload(store).run()
    assert store.object(rig.file) is None


@pytest.mark.parametrize("settings", [{}, POOR])
def test_a_small_file_that_changed_on_disk_is_never_sent(small_leaves: int, settings: dict[str, Any]) -> None:
    rig, store = new_rig(3000), FlakyStore(**settings)
    rig.disk.files[rig.file.file_id] = b"x" * 3000
    with pytest.raises(SourceChanged):
        rig.upload(store).run()
    assert store.object(rig.file) is None


def test_a_file_that_was_cut_short_is_told_of(rig: Rig) -> None:
    rig.disk.files[rig.file.file_id] = rig.data[:-1]
    with pytest.raises(SourceChanged, match="bytes"):
        rig.upload(FlakyStore()).run()


# Pausing


def test_a_pause_lets_parts_in_flight_finish_and_they_are_not_sent_again(rig: Rig) -> None:
    store, crew = FlakyStore(rate_bps=40_000), Crew(3)
    outcome = in_background(rig.upload(store, crew=crew).run)
    next(outcome)
    eventually(lambda: store.count("put_part") >= 3)
    crew.pause(5)
    assert isinstance(next(outcome), Interrupted)
    confirmed = rig.parts_on_record()
    assert sent(store) == confirmed, "none was cut"
    store.calls.clear()
    rig.upload(store).run()
    assert sent(store) == [number for number in range(1, LEAVES + 1) if number not in confirmed]
    assert store.object(rig.file) == rig.data


def test_parts_that_outlast_the_grace_are_cut_and_sent_again(rig: Rig) -> None:
    store, crew = FlakyStore(rate_bps=100), Crew(3)
    outcome = in_background(rig.upload(store, crew=crew).run)
    next(outcome)
    eventually(lambda: store.count("put_part") == 3)
    crew.pause(0.1)  # a part takes most of a minute
    assert isinstance(next(outcome), Interrupted)
    fast = FlakyStore.__new__(FlakyStore)
    fast.__dict__.update(store.__dict__, backend=store.direct)
    rig.upload(fast).run()
    assert store.object(rig.file) == rig.data


def test_a_pause_that_is_taken_back_sends_nothing_twice(rig: Rig) -> None:
    store, crew = FlakyStore(rate_bps=100_000), Crew(3)
    outcome = in_background(rig.upload(store, crew=crew).run)
    next(outcome)
    eventually(lambda: store.count("put_part") >= 3)
    crew.pause(5)
    assert crew.resume()
    assert next(outcome) is None
    assert sent(store) == list(range(1, LEAVES + 1))
    assert (store.count("begin"), store.count("list_parts")) == (1, 0)


def begin_and_die(rig: Rig, store: FlakyStore) -> str:
    """The store has begun an upload, and its answer came when nobody was there any more. The upload's ID."""
    store.after = once(ConnectionLost("reset"), "begin")
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    record = rig.journal.uploads[rig.key]
    assert record.upload_id == ""
    [lost] = store.backend.unstarted(record.object_name, record.time)
    return lost


def test_an_upload_whose_id_got_lost_is_found_and_ended(rig: Rig) -> None:
    store = FlakyStore()
    lost = begin_and_die(rig, store)
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    with pytest.raises(UploadGone):
        store.direct.list_parts(rig.file, lost)


def test_uploads_that_cannot_be_the_lost_one_are_left_alone(rig: Rig) -> None:
    store = FlakyStore()
    older = store.backend.begin(rig.file)
    store.backend._save(f"uploads/{older}/target", {"name": store.object_name(rig.file), "time": time.time() - 2000})
    with_parts = store.backend.begin(rig.file)
    store.backend.put_part(rig.file, with_parts, 1, BufferBody(b"x"), lambda count: None)
    on_record = store.backend.begin(rig.file)
    other_key = rig.key._replace(store_id="O" * 24)
    rig.journal.uploads[other_key] = UploadRecord(other_key, store.object_name(rig.file), on_record, 1, 0.0)
    rig.journal.upload_records.intend(UploadRecord(rig.key, store.object_name(rig.file), "", 1, time.time()))
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    for upload_id in (older, with_parts, on_record):
        store.direct.list_parts(rig.file, upload_id)


@pytest.mark.parametrize("refusal", [AccessDenied("no right to list"), Permanent("not implemented")])
def test_a_store_that_does_not_list_uploads_takes_files_all_the_same(rig: Rig, refusal: TransferError) -> None:
    store = FlakyStore()
    begin_and_die(rig, store)
    store.before = always(refusal, "unstarted")
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data


def test_a_store_that_is_out_of_reach_keeps_the_intent_on_record(rig: Rig) -> None:
    store = FlakyStore()
    begin_and_die(rig, store)
    store.before = always(ConnectionLost("reset"), "unstarted")
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    assert rig.key in rig.journal.uploads


def test_an_id_that_was_garbled_on_its_way_leaves_nothing_behind(rig: Rig) -> None:
    store = FlakyStore()
    begun: list[str] = []

    def begin(file: FileSpec) -> str:
        begun.append(store.backend.begin(file))
        return begun[0].replace(begun[0][0], "x") if len(begun) == 1 else begun[-1]

    store.begin = begin  # type: ignore[method-assign]
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    with pytest.raises(UploadGone):
        store.direct.list_parts(rig.file, begun[0])


# Ending what nobody wants


def test_abandoning_removes_what_is_at_the_store_and_on_record(rig: Rig) -> None:
    store = FlakyStore()
    store.before = always(ConnectionLost("reset"), "put_part", 5)
    with pytest.raises(ConnectionLost):
        rig.upload(store).run()
    upload_id = rig.journal.uploads[rig.key].upload_id
    abandon_current(rig.key, records=rig.journal.upload_records, backend=store, crew=Crew())
    with pytest.raises(UploadGone):
        store.direct.list_parts(rig.file, upload_id)
    assert not rig.journal.uploads
    abandon_current(rig.key, records=rig.journal.upload_records, backend=store, crew=Crew())


def test_an_upload_that_does_not_go_away_stays_on_record(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmedia_transfer.upload.ending.PAUSE_S", 0.001)
    store = FlakyStore()
    store.abandon = lambda object_name, upload_id: False  # type: ignore[method-assign]
    rig.journal.upload_records.intend(UploadRecord(rig.key, "bucket/key", "", 1, 0.0))
    rig.journal.upload_records.begun(rig.key, "id")
    with pytest.raises(Transient):
        abandon_current(rig.key, records=rig.journal.upload_records, backend=store, crew=Crew())
    assert rig.journal.uploads


@given(
    size=st.integers(1, 12 * 4096),
    faults=st.lists(
        st.tuples(
            st.sampled_from(["before", "after"]),
            st.sampled_from(["stat", "begin", "put", "put_part", "list_parts", "finish"]),
            st.sampled_from(["reset", "busy", "gone", "journal lost"]),
            st.integers(0, 12),
        ),
        max_size=6,
    ),
    connections=st.integers(1, 4),
    settings=st.sampled_from([{}, POOR, {"max_parts": 3}, POOR | {"max_parts": 3}]),
)
@pytest.mark.usefixtures("small_leaves_for_all")
def test_whatever_happens_it_ends_with_the_bytes_and_sends_no_confirmed_part_again(
    size: int, faults: list[tuple[str, str, str, int]], connections: int, settings: dict[str, Any]
) -> None:
    rig, store = new_rig(size), FlakyStore(**settings)
    rig.connections = connections
    real = store.put_part
    confirmed: set[tuple[str, int]] = set()

    def put_part(file: Any, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        assert (upload_id, number) not in confirmed, "a part is sent again that was confirmed"
        part = real(file, upload_id, number, body, meter)
        confirmed.add((upload_id, number))
        return part

    store.put_part = put_part  # type: ignore[method-assign]
    for when, verb, what, number in faults:
        error = {"reset": ConnectionLost("reset"), "busy": ServerBusy("slow down"), "gone": UploadGone("gone")}.get(
            what
        )
        nothing = FlakyStore("N" * 24).before
        hook = once(error, verb, number if verb == "put_part" else 0) if error else nothing
        store.before, store.after = (hook, nothing) if when == "before" else (nothing, hook)
        try:
            rig.upload(store).run()
        except (Transient, UploadGone):
            pass
        else:
            assert store.object(rig.file) == rig.data
        if what == "journal lost":
            rig.journal.uploads.clear()
            rig.journal.confirmed_parts.clear()
    store.before = store.after = lambda *_: None
    rig.upload(store).run()
    assert store.object(rig.file) == rig.data
    assert not rig.journal.uploads
