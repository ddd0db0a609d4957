"""Documents from other devices: what is refused and in which words, and what is carried through."""

from __future__ import annotations

import copy
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmedia_transfer import documents
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import Direction, Entry
from tests import factories
from tests.factories import MACHINE_ID, OTHER_STORE_ID, STORE_ID

FILE_ID = "F" * 48
DEEP = json.loads("[" * 400 + "]" * 400)


def file(**changes: Any) -> dict[str, Any]:
    raw = {"_id": FILE_ID, "_rev": "1-a", "type": "dmedia/file", "time": 1790000000, "ver": 0, "bytes": 1000}
    return {
        **raw,
        "ext": "mp4",
        "name": "film.mp4",
        "mime": "video/mp4",
        "stored": {STORE_ID: {"copies": 1, "time": 5}},
        **changes,
    }


def kept(line: object) -> dict[str, Any]:
    return file(stored={STORE_ID: line})


KEPT = f"stored.{STORE_ID}"


def store(**changes: Any) -> dict[str, Any]:
    return {"_id": STORE_ID, "type": "dmedia/store", "time": 1, "ver": 0, "plugin": "s3", "bucket": "films", **changes}


def machine(**changes: Any) -> dict[str, Any]:
    return {"_id": MACHINE_ID, "type": "dmedia/machine", "time": 1, "ver": 0, "hostname": "tv", "queue": [], **changes}


def entry(**changes: Any) -> dict[str, Any]:
    return {"file_id": FILE_ID, **changes}


def without(raw: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name != key}


NOT_UNICODE = "unable to parse raw data as a unicode string"

READERS = {
    "dmedia/file": documents.read_file,
    "dmedia/store": documents.read_store,
    "dmedia/machine": documents.read_machine,
}

ID_WORDS = "is not a machine or store ID (24 characters of base32)"
FILE_ID_WORDS = "is not a file ID (48 characters of base32)"

BAD = [
    # missing keys
    (without(file(), "_id"), "?", "_id", "is missing"),
    (without(file(), "bytes"), FILE_ID, "bytes", "is missing"),
    (without(store(), "plugin"), STORE_ID, "plugin", "is missing"),
    (without(machine(), "_id"), "?", "_id", "is missing"),
    # names that are no names
    (file(_id="../../etc/passwd"), "../../etc/passwd", "_id", f"'../../etc/passwd' {FILE_ID_WORDS}"),
    (file(_id="f" * 48), "f" * 48, "_id", f"'{'f' * 48}' {FILE_ID_WORDS}"),
    (file(_id=FILE_ID + "\n"), FILE_ID + "\n", "_id", f"'{FILE_ID}\\n' {FILE_ID_WORDS}"),
    (file(_id=5), "5", "_id", "should be a valid string, but it is 5"),
    (file(stored={"../x": {}}), FILE_ID, "stored.../x", f"'../x' {ID_WORDS}"),
    (store(_id="../x"), "../x", "_id", f"'../x' {ID_WORDS}"),
    (store(machine_id="../x"), STORE_ID, "machine_id", f"'../x' {ID_WORDS}"),
    (machine(_id="A" * 25), "A" * 25, "_id", f"'{'A' * 25}' {ID_WORDS}"),
    (file(ext="../x"), FILE_ID, "ext", "'../x' is not a file's extension (up to 16 letters and digits, no dot)"),
    (file(ext="mp4\n"), FILE_ID, "ext", "'mp4\\n' is not a file's extension (up to 16 letters and digits, no dot)"),
    (file(ext="٣"), FILE_ID, "ext", "'٣' is not a file's extension (up to 16 letters and digits, no dot)"),
    (file(mime="a/b\r\nX: y"), FILE_ID, "mime", "'a/b\\r\\nX: y' is not a media type like `video/mp4`"),
    (file(mime="ä/ö"), FILE_ID, "mime", "'ä/ö' is not a media type like `video/mp4`"),
    (file(name="\ud800"), FILE_ID, "name", f"should be a valid string, {NOT_UNICODE}, but it is '\\ud800'"),
    (file(name="x" * 5000), FILE_ID, "name", None),
    # numbers
    (file(bytes=0), FILE_ID, "bytes", "should be greater than or equal to 1, but it is 0"),
    (file(bytes=-1), FILE_ID, "bytes", "should be greater than or equal to 1, but it is -1"),
    (file(bytes=True), FILE_ID, "bytes", "should be a valid integer, but it is True"),
    (file(bytes="1000"), FILE_ID, "bytes", "should be a valid integer, but it is '1000'"),
    (file(bytes=1000.0), FILE_ID, "bytes", "should be a valid integer, but it is 1000.0"),
    (file(bytes=float("nan")), FILE_ID, "bytes", "should be a valid integer, but it is nan"),
    (file(bytes=10**400), FILE_ID, "bytes", None),
    (file(bytes=DEEP), FILE_ID, "bytes", "should be a valid integer, but it is [[[[...]]]]"),
    (kept({"copies": -1}), FILE_ID, f"{KEPT}.copies", "should be greater than or equal to 0, but it is -1"),
    (kept({"copies": True}), FILE_ID, f"{KEPT}.copies", "should be a valid integer, but it is True"),
    (kept({"copies": 10**30}), FILE_ID, f"{KEPT}.copies", None),
    (kept({"time": float("nan")}), FILE_ID, f"{KEPT}.time", "should be a finite number, but it is nan"),
    (kept({"time": float("inf")}), FILE_ID, f"{KEPT}.time", "should be a finite number, but it is inf"),
    (kept({"time": 10**400}), FILE_ID, f"{KEPT}.time", None),
    (kept({"time": "now"}), FILE_ID, f"{KEPT}.time", "should be a valid number, but it is 'now'"),
    (store(copies=True), STORE_ID, "copies", "should be a valid integer, but it is True"),
    # wrong shapes
    (file(stored=[]), FILE_ID, "stored", "should be an object, but it is []"),
    (file(stored={STORE_ID: 1}), FILE_ID, f"stored.{STORE_ID}", "should be an object, but it is 1"),
    (file(stored=None), FILE_ID, "stored", "should be an object, but it is None"),
    (machine(queue={"a": 1}), MACHINE_ID, "queue", "should be a valid list, but it is {'a': 1}"),
    (machine(queue="x"), MACHINE_ID, "queue", "should be a valid list, but it is 'x'"),
    (machine(queue=None), MACHINE_ID, "queue", "should be a valid list, but it is None"),
    (machine(queue_paused=1), MACHINE_ID, "queue_paused", "should be a valid boolean, but it is 1"),
    (machine(forgotten="no"), MACHINE_ID, "forgotten", "should be a valid boolean, but it is 'no'"),
    (machine(hostname=["tv"]), MACHINE_ID, "hostname", "should be a valid string, but it is ['tv']"),
    (store(plugin=""), STORE_ID, "plugin", "String should have at least 1 character, but it is ''"),
    (store(plugin=["s3"]), STORE_ID, "plugin", "should be a valid string, but it is ['s3']"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "document_id", "key", "problem"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_bad_document_gives_one_clear_message(
    raw: dict[str, Any], document_id: str, key: str, problem: str | None
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        READERS[raw["type"]](raw)
    error = caught.value
    assert (error.document_id, error.key) == (document_id, key)
    if problem is not None:
        assert error.problem == problem
    assert len(str(error)) < 300
    assert "\n" not in str(error)
    assert repr(document_id) in str(error)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (without(file(), "type"), f"document '{FILE_ID}', key 'type': is missing"),
        (
            file(type="dmedia/store"),
            f"document '{FILE_ID}', key 'type': should be 'dmedia/file', but it is 'dmedia/store'",
        ),
        (file(type=["x"] * 10**5), None),
        ([], "document '?': should be an object, but it is []"),
        (None, "document '?': should be an object, but it is None"),
        ("text", "document '?': should be an object, but it is 'text'"),
    ],
)
def test_what_is_no_file_document_is_said_to_be_none(raw: Any, message: str | None) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.read_file(raw)
    assert message is None or str(caught.value) == message
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "key", "problem"),
    [
        ({"bucket": "a/b"}, "bucket", "'a/b' is not a bucket's name"),
        ({"bucket": "../b"}, "bucket", "'../b' is not a bucket's name"),
        ({"bucket": "films\n"}, "bucket", "'films\\n' is not a bucket's name"),
        ({"bucket": None}, "bucket", "should be a valid string, but it is None"),
        ({"prefix": "../"}, "prefix", "'../' has a part `.` or `..`"),
        ({"prefix": "a/../b"}, "prefix", "'a/../b' has a part `.` or `..`"),
        ({"prefix": "/a"}, "prefix", "'/a' is not a prefix (letters, digits and `-_.=@`, parts ended by `/`)"),
        ({"prefix": "a//b"}, "prefix", None),
        ({"prefix": "a" * 513}, "prefix", None),
        ({"endpoint_url": "ftp://host"}, "endpoint_url", "'ftp://host' is not a URL like `https://host:port`"),
        ({"endpoint_url": "https://host/?x=1"}, "endpoint_url", None),
        ({"endpoint_url": "https://host\r\nX: y"}, "endpoint_url", None),
        ({"endpoint_url": "file:///etc/passwd"}, "endpoint_url", None),
        ({"region": "EU west"}, "region", "'EU west' is not a region's name"),
        ({"storage_class": "cheap"}, "storage_class", "'cheap' is not a storage class like `STANDARD_IA`"),
        ({"use_ext": 1}, "use_ext", "should be a valid boolean, but it is 1"),
    ],
)
def test_a_bad_setting_of_a_bucket_is_named(changes: dict[str, Any], key: str, problem: str | None) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.read_s3_settings(store(**changes))
    assert caught.value.key == key
    assert problem is None or caught.value.problem == problem


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@host/", "https://hunter2@host", "http://u:hunter2/x@h", "x//u:hunter2@"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.read_s3_settings(store(endpoint_url=url))
    assert "hunter2" not in str(caught.value)
    assert "a user or a password does not belong into a document" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "https://s3.example.org", "http://127.0.0.1:9000/", "http://[::1]:9000", "https://host/base/path"]
)
def test_honest_addresses_are_taken(url: str) -> None:
    assert documents.read_s3_settings(store(endpoint_url=url)).endpoint_url == url


def test_a_store_of_an_unknown_plugin_is_read_and_left_to_who_knows_plugins() -> None:
    assert documents.read_store(store(plugin="gopher")).plugin == "gopher"


def test_a_key_of_another_program_does_not_stand_in_for_ours() -> None:
    view = documents.read_file(file(id="../x", rev=5))
    assert (view.id, view.rev) == (FILE_ID, "1-a")
    with pytest.raises(InvalidDocument, match="'_id': is missing"):
        documents.read_file(without(file(id=FILE_ID), "_id"))


def test_whole_seconds_are_times_too() -> None:
    assert documents.read_file(file(stored={STORE_ID: {"time": 5}})).stored[STORE_ID].time == 5.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = [
    "_id",
    "_rev",
    "type",
    "bytes",
    "stored",
    "ext",
    "mime",
    "name",
    "queue",
    "plugin",
    "bucket",
    "copies",
    "prefix",
    "endpoint_url",
    "hostname",
]
KEYS = [*KEYS, "_attachments", "queue_paused"]


@settings(max_examples=200)
@given(
    base=st.sampled_from([file(), store(), machine()]), changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)
)
def test_no_document_does_more_than_be_refused(base: dict[str, Any], changes: dict[str, Any]) -> None:
    raw = {**base, **changes}
    before = copy.deepcopy(raw)
    for read in (*READERS.values(), documents.read_s3_settings, documents.inline_leaves):
        try:
            view: object = read(raw)
        except InvalidDocument as error:
            assert len(str(error)) < 500  # noqa: PT017
        else:
            if isinstance(view, documents.MachineDocument):
                documents.read_queue(view)
    assert repr(raw) == repr(before), "reading changes nothing, and so loses no key"


# Queues


def read(raw: object) -> Entry:
    return documents.read_entry(raw, document_id=MACHINE_ID, position=3)


@pytest.mark.parametrize(
    ("raw", "key", "problem"),
    [
        ({}, "queue.3.file_id", "is missing"),
        (entry(file_id="../x"), "queue.3.file_id", f"'../x' {FILE_ID_WORDS}"),
        ("../x", "queue.3.file_id", f"'../x' {FILE_ID_WORDS}"),
        (entry(store_id="../x"), "queue.3.store_id", f"'../x' {ID_WORDS}"),
        (entry(store_id=7), "queue.3.store_id", "should be a valid string, but it is 7"),
        (entry(action="delete"), "queue.3.action", "should be 'download' or 'upload', but it is 'delete'"),
        (entry(action="upload"), "queue.3.store_id", "is missing: an upload names its store"),
        (entry(action="upload", store_id=""), "queue.3.store_id", "is missing: an upload names its store"),
        (entry(action="upload", store_id=None), "queue.3.store_id", "is missing: an upload names its store"),
        (entry(paused="yes"), "queue.3.paused", "should be a valid boolean, but it is 'yes'"),
        (entry(priority=True), "queue.3.priority", "should be a valid integer, but it is True"),
        (entry(priority="high"), "queue.3.priority", "should be a valid integer, but it is 'high'"),
        (entry(priority=10**9), "queue.3.priority", "should be less than or equal to 1000000, but it is 1000000000"),
        (entry(priority=float("nan")), "queue.3.priority", "should be a valid integer, but it is nan"),
        (entry(time=float("inf")), "queue.3.time", "should be a finite number, but it is inf"),
        (entry(id=5), "queue.3.id", "should be a valid string, but it is 5"),
        (entry(id="x" * 129), "queue.3.id", None),
        (5, "queue.3", "should be an object, but it is 5"),
        (None, "queue.3", "should be an object, but it is None"),
        ([FILE_ID], "queue.3", f"should be an object, but it is ['{FILE_ID}']"),
        (DEEP, "queue.3", "should be an object, but it is [[[[...]]]]"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named_by_its_place(raw: object, key: str, problem: str | None) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read(raw)
    assert (caught.value.document_id, caught.value.key) == (MACHINE_ID, key)
    assert problem is None or caught.value.problem == problem
    assert len(str(caught.value)) < 300


def test_an_entry_needs_no_more_than_a_file() -> None:
    assert read({"file_id": FILE_ID}) == read(FILE_ID) == Entry(FILE_ID, Direction.DOWNLOAD)
    assert read(entry(store_id="")) == read(entry(store_id=None)) == read(FILE_ID)


def test_good_entries_stand_beside_bad_ones() -> None:
    queue = documents.read_queue(
        documents.read_machine(machine(queue=[FILE_ID, 5, entry(action="x"), entry(priority=10)], queue_paused=True))
    )
    assert [each.priority for each in queue.entries] == [0, 10]
    assert [problem.key for problem in queue.problems] == ["queue.1", "queue.2.action"]
    assert queue.paused


def test_a_queue_of_garbage_does_not_drown_the_log() -> None:
    queue = documents.read_queue(documents.read_machine(machine(queue=[5] * 5000 + [FILE_ID])))
    assert len(queue.entries) == 1
    assert len(queue.problems) == documents.MAX_PROBLEMS + 1
    assert str(queue.problems[-1]) == f"document '{MACHINE_ID}', key 'queue': has 4900 more bad entries"


@pytest.mark.parametrize("queue", [[entry(note="x" * 1000)] * 10_000, [entry(note="x" * 10**7)], ["x" * 10**7]])
def test_a_queue_of_ten_megabytes_gives_one_short_message(queue: list[object]) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.read_machine(machine(queue=queue))
    assert caught.value.key == "queue"
    assert "bytes, and 8,388,608 are allowed" in caught.value.problem
    assert len(str(caught.value)) < 200


def test_a_queue_too_deep_to_be_written_again_is_refused() -> None:
    deep: list[object] = []
    for _ in range(200_000):  # more than any Python can: 3.13 writes many thousands
        deep = [deep]
    with pytest.raises(InvalidDocument, match="is nested too deeply"):
        documents.read_machine(machine(queue=[deep]))


def test_ten_thousand_entries_are_read_in_time_that_grows_with_their_number() -> None:
    def seconds(count: int) -> float:
        view = documents.read_machine(machine(queue=[entry(id=str(number)) for number in range(count)]))
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            assert len(documents.read_queue(view).entries) == count
            best = min(best, time.process_time() - start)
        return best

    seconds(100)  # warm up
    # Ten times as many: 10 times the time, 100 times if it were quadratic.
    assert seconds(10_000) < 40 * max(seconds(1000), 1e-4)


ENTRIES = st.builds(
    Entry,
    file_id=st.just(FILE_ID),
    direction=st.just(Direction.DOWNLOAD),
    store_id=st.sampled_from(["", STORE_ID]),
    id=st.text(st.characters(exclude_categories=["Cs"]), max_size=128),
    priority=st.integers(-1_000_000, 1_000_000),
    paused=st.booleans(),
    only=st.booleans(),
    time=st.floats(allow_nan=False, allow_infinity=False),
    requested_by=st.text(st.characters(exclude_categories=["Cs"]), max_size=256),
) | st.builds(Entry, file_id=st.just(FILE_ID), direction=st.just(Direction.UPLOAD), store_id=st.just(STORE_ID))


@given(entry=ENTRIES)
def test_what_is_written_is_read_again_also_over_the_wire(entry: Entry) -> None:
    assert read(json.loads(json.dumps(documents.write_entry(entry)))) == entry


# New documents


def test_new_documents_are_read_as_what_they_say() -> None:
    spec = factories.file_spec(factories.content(1000), ext="mp4", mime="video/mp4")
    raw = documents.new_file(
        spec.file_id,
        1000,
        spec.leaf_digests,
        time=1.0,
        stored={STORE_ID: {"copies": 1, "time": 1.0}},
        ext="mp4",
        mime="video/mp4",
    )
    view = documents.read_file(json.loads(json.dumps(raw)))
    assert documents.file_spec(view, documents.inline_leaves(raw)) == spec
    assert view.stored[STORE_ID].copies == 1
    assert documents.read_machine(documents.new_machine(MACHINE_ID, "tv", time=1.0)).hostname == "tv"
    new = documents.new_store(STORE_ID, "s3", time=1.0, bucket="films", prefix="a/")
    assert documents.read_store(new).plugin == "s3"
    assert documents.read_s3_settings(new).prefix == "a/"


def test_leaves_of_another_file_or_size_are_refused() -> None:
    spec, other = factories.file_spec(b"one"), factories.file_spec(b"two")
    view = documents.read_file(file(_id=spec.file_id, bytes=3))
    for digests, words in [
        (other.leaf_digests, f"the leaf digests are those of file {other.file_id}"),
        (spec.leaf_digests * 2, "64 bytes of leaf digests, but a file of 3 bytes has 32"),
        (b"", "0 bytes of leaf digests, but a file of 3 bytes has 32"),
        (spec.leaf_digests[:-1], "31 bytes of leaf digests, but a file of 3 bytes has 32"),
    ]:
        with pytest.raises(InvalidDocument) as caught:
            documents.file_spec(view, digests)
        assert str(caught.value) == f"document '{spec.file_id}', key '_attachments.leaves': {words}"


@pytest.mark.parametrize(
    ("attachments", "problem"),
    [
        (None, "is missing"),
        ({}, "is missing"),
        ({"leaves": {"stub": True}}, "is missing"),
        ({"leaves": "x"}, "is missing"),
        ({"leaves": {"data": "%%%"}}, "is not base64: '%%%'"),
        ({"leaves": {"data": "ü"}}, "is not base64: 'ü'"),
        ({"leaves": {"data": 5}}, "is not base64: 5"),
    ],
)
def test_leaves_that_are_not_there_are_missed(attachments: object, problem: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.inline_leaves(file(_attachments=attachments))
    assert (caught.value.document_id, caught.value.problem) == (FILE_ID, problem)


# Merging `stored`

LINES = st.fixed_dictionaries(
    {},
    optional={
        "copies": st.integers(0, 3) | st.none() | st.booleans() | st.just("2"),
        "time": st.integers(0, 3) | st.floats() | st.just(10**400) | st.none() | st.text(max_size=2),
        "note": st.text(max_size=2),
    },
)
STORED = st.dictionaries(st.sampled_from([STORE_ID, OTHER_STORE_ID, "odd"]), LINES | JSON, max_size=3) | JSON


def same(left: object, right: object) -> bool:
    return json.dumps(left) == json.dumps(right)  # NaN equals itself here, and 1 is not True


@settings(max_examples=200)
@given(bodies=st.lists(STORED, min_size=1, max_size=4))
def test_the_order_of_revisions_does_not_matter(bodies: list[Any]) -> None:
    expected = documents.merge_stored(bodies)
    for order in itertools.permutations(bodies):
        assert same(documents.merge_stored(order), expected)


@settings(max_examples=200)
@given(a=STORED, b=STORED, c=STORED)
def test_merging_in_steps_is_merging_at_once_and_merging_twice_is_merging_once(a: Any, b: Any, c: Any) -> None:
    merge = documents.merge_stored
    assert same(merge([merge([a, b]), c]), merge([a, merge([b, c])]))
    assert same(merge([merge([a, b]), merge([a, b])]), merge([a, b]))
    assert same(merge([a, a]), merge([a]))


def test_the_later_word_on_a_store_wins_also_when_it_is_a_removal() -> None:
    old, new = {STORE_ID: {"copies": 1, "time": 1}}, {STORE_ID: {"copies": 0, "time": 2}}
    assert documents.merge_stored([old, new]) == new
    assert documents.merge_stored([old, {OTHER_STORE_ID: {"copies": 1, "time": 0}}]) == {
        STORE_ID: {"copies": 1, "time": 1},
        OTHER_STORE_ID: {"copies": 1, "time": 0},
    }


def test_of_two_words_at_one_time_more_copies_win() -> None:
    few, many = {STORE_ID: {"copies": 9, "time": 1}}, {STORE_ID: {"copies": 10, "time": 1}}
    assert documents.merge_stored([few, many]) == documents.merge_stored([many, few]) == many


@pytest.mark.parametrize("line", [None, 5, "x", ["x"], False, "~"])
def test_what_is_no_object_never_wins_over_one(line: object) -> None:
    good = {"copies": 0, "time": -5}
    assert documents.merge_stored([{STORE_ID: line}, {STORE_ID: good}]) == {STORE_ID: good}


@pytest.mark.parametrize("line", [None, 5, "x", ["x"], {"time": float("inf")}, {"time": 10**400}, {"time": "later"}])
def test_garbage_never_wins_over_a_time(line: object) -> None:
    good = {"copies": 1, "time": 5}
    assert documents.merge_stored([{STORE_ID: line}, {STORE_ID: good}]) == {STORE_ID: good}


def test_unknown_keys_of_a_line_survive_the_merge() -> None:
    line = {"copies": 1, "time": 1, "plugin": "x"}
    assert documents.merge_stored([{STORE_ID: line}, None, []]) == {STORE_ID: line}
