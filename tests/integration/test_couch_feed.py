"""The changes feed, against a real server, a proxy that misbehaves, and servers that talk nonsense."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from dmedia_transfer import documents
from dmedia_transfer.couch import feed as feed_module
from dmedia_transfer.couch import pause
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.changes import seq_number
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.feed import Feed
from tests import factories
from tests.couchfeed import Inbox, MemoryCheckpoints
from tests.proxy import FaultyProxy
from tests.scripted import Answer, Asked, ScriptedServer
from tests.waiting import WAIT_S, eventually

MACHINE, STORE = factories.MACHINE_ID, factories.STORE_ID
FILE = "F" * 48

Start = Callable[..., Feed]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.2)
    monkeypatch.setattr(pause, "DENIED_PAUSE_S", 0.1)
    monkeypatch.setattr(feed_module, "COALESCE_S", 0.05)


@pytest.fixture
def inbox() -> Inbox:
    """The manager's thread."""
    return Inbox()


@pytest.fixture
def checkpoints() -> MemoryCheckpoints:
    """The journal."""
    return MemoryCheckpoints()


@pytest.fixture
def start(inbox: Inbox, checkpoints: MemoryCheckpoints) -> Iterator[Start]:
    """Starts a feed that the test need not stop."""
    feeds: list[Feed] = []

    def starter(address: Address, name: str, **options: Any) -> Feed:
        feed = Feed(
            address,
            name,
            call_soon=inbox.call_soon,
            on_document=inbox.documents.append,
            on_state=inbox.states.append,
            on_reset=inbox.on_reset,
            checkpoint=checkpoints,
            **{"heartbeat_s": 1.0, "save_interval_s": 0.0, **options},
        )
        feeds.append(feed)
        feed.start()
        return feed

    yield starter
    for feed in feeds:
        feed.stop()
    eventually(lambda: not any(feed._thread.is_alive() for feed in feeds))


def machine(**facts: Any) -> dict[str, Any]:
    """A machine's document."""
    return {**documents.new_machine(MACHINE, "tv", time=1.0), **facts}


def upstream(address: Address) -> tuple[str, int]:
    """Where a proxy sends to."""
    parts = urlsplit(address.url)
    return str(parts.hostname), int(parts.port or 80)


def behind(proxy: FaultyProxy, address: Address) -> Address:
    """The server through a proxy."""
    return Address(proxy.url, address.user, address.password)


def test_only_machines_stores_and_wanted_files_come(couch: Database, inbox: Inbox, start: Start) -> None:
    couch.put(machine())
    couch.put(documents.new_store(STORE, "s3", time=1.0))
    for file_id in (FILE, "G" * 48):
        couch.put({"_id": file_id, "type": "dmedia/file"})
    feed = start(couch.address, couch.name)
    feed.set_wanted([FILE])
    inbox.wait(lambda: inbox.has(MACHINE) and inbox.has(STORE))
    couch.put({"_id": "other", "type": "x"})
    rev = couch.put({**machine(), "_rev": (couch.get(MACHINE) or {})["_rev"], "n": 1})
    inbox.wait(lambda: inbox.has(MACHINE, _rev=rev))
    assert {raw["_id"] for raw in inbox.documents} <= {MACHINE, STORE, FILE}
    assert inbox.states == [None]


def test_a_change_is_delivered_at_once(couch: Database, inbox: Inbox, start: Start) -> None:
    start(couch.address, couch.name, heartbeat_s=10 * WAIT_S)  # no heartbeat brings it
    inbox.wait(lambda: inbox.states)
    raw = machine()
    for number in range(10):
        inbox.documents.clear()
        raw = {**raw, "n": number, "_rev": couch.put({**raw, "n": number})}
        inbox.wait(lambda: inbox.documents)


def test_a_file_that_is_wanted_later_comes_when_it_changes(
    couch: Database, inbox: Inbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "COALESCE_S", 0.5)
    couch.put({"_id": FILE, "type": "dmedia/file"})
    feed = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.states)
    feed.set_wanted([FILE])
    raw = couch.get(FILE) or {}
    couch.put({**raw, "n": 1})  # while the feed does not follow it yet
    couch.put(documents.new_store(STORE, "s3", time=1.0))
    inbox.wait(lambda: inbox.has(STORE))
    assert not inbox.has(FILE)
    inbox.wait(lambda: inbox.has(FILE, n=1))
    feed.set_wanted([])
    couch.put({**(couch.get(FILE) or {}), "n": 2})
    couch.put(machine())
    inbox.wait(lambda: inbox.has(MACHINE))
    assert not inbox.has(FILE, n=2)
    assert inbox.states == [None]


def test_many_wishes_make_few_connections(couch: Database, inbox: Inbox, start: Start) -> None:
    with FaultyProxy(upstream(couch.address)) as proxy:
        feed = start(behind(proxy, couch.address), couch.name)
        inbox.wait(lambda: inbox.states)
        before = proxy.connections
        wanted = [f"{number:048d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ")) for number in range(300)]
        for number in range(300):
            feed.set_wanted(wanted[: number + 1])
        couch.put({"_id": wanted[-1], "type": "dmedia/file"})
        inbox.wait(lambda: inbox.has(wanted[-1]))
        assert proxy.connections - before <= 4


def test_a_deleted_machine_or_store_is_told(couch: Database, inbox: Inbox, start: Start) -> None:
    rev = couch.put(documents.new_store(STORE, "s3", time=1.0))
    couch.put({"_id": "other"})
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(STORE))
    couch.delete({"_id": "other", "_rev": (couch.get("other") or {})["_rev"]})
    couch.delete({"_id": STORE, "_rev": rev})
    inbox.wait(lambda: inbox.has(STORE, _deleted=True))
    assert not inbox.has("other")


def test_conflicts_are_shown(couch: Database, inbox: Inbox, start: Start) -> None:
    body = {"new_edits": False, "docs": [{**machine(), "_rev": "1-a"}, {**machine(), "_rev": "1-b"}]}
    couch._session.json("POST", f"{couch._url}/_bulk_docs", data=json.dumps(body).encode())
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(MACHINE, _rev="1-b", _conflicts=["1-a"]))


def test_the_next_life_goes_on_where_this_one_ended(
    couch: Database, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints
) -> None:
    couch.put(machine())
    start(couch.address, couch.name).stop()
    feed = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(MACHINE))
    feed.stop()
    inbox.documents.clear()
    inbox.states.clear()
    couch.put(documents.new_store(STORE, "s3", time=1.0))
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(STORE))
    assert not inbox.has(MACHINE)
    assert inbox.resets == 0


def test_an_idle_feed_moves_its_checkpoint_past_what_it_does_not_follow(
    couch: Database, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints
) -> None:
    start(couch.address, couch.name, heartbeat_s=0.05, settle_interval_s=0.1)
    inbox.wait(lambda: inbox.states)
    eventually(lambda: checkpoints.kept)
    for number in range(5):
        couch.put({"_id": f"other{number}"})
    last = seq_number(couch._session.json("GET", couch._url)["update_seq"])
    eventually(lambda: seq_number(json.loads(*checkpoints.kept.values())["since"]) == last)


def test_an_idle_feed_writes_nothing(
    couch: Database, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints
) -> None:
    start(couch.address, couch.name, heartbeat_s=0.02, settle_interval_s=0.1)
    inbox.wait(lambda: inbox.states)
    time.sleep(0.5)
    assert checkpoints.keeps <= 2


def test_it_waits_for_a_server_that_is_not_there_yet(couch: Database, inbox: Inbox, start: Start) -> None:
    couch.put(machine())
    with FaultyProxy(upstream(couch.address)) as proxy:
        proxy.refuse()
        start(behind(proxy, couch.address), couch.name)
        inbox.wait(lambda: inbox.states)
        assert inbox.states[0] is not None
        assert "does not answer" in inbox.states[0]
        proxy.refuse(False)
        inbox.wait(lambda: inbox.has(MACHINE))
        assert inbox.states[-1] is None


def test_it_connects_again_after_a_cut_and_misses_nothing(couch: Database, inbox: Inbox, start: Start) -> None:
    rev = couch.put(machine())
    with FaultyProxy(upstream(couch.address)) as proxy:
        start(behind(proxy, couch.address), couch.name)
        for number in range(5):
            inbox.wait(lambda: inbox.has(MACHINE, _rev=rev))  # noqa: B023 - called in this round
            proxy.refuse()
            proxy.cut()
            rev = couch.put(machine(_rev=rev, n=number))
            time.sleep(0.05)
            proxy.refuse(False)
        inbox.wait(lambda: inbox.has(MACHINE, _rev=rev))


def test_a_connection_that_fell_silent_is_given_up(couch: Database, inbox: Inbox, start: Start) -> None:
    with FaultyProxy(upstream(couch.address)) as proxy:
        start(behind(proxy, couch.address), couch.name, heartbeat_s=0.2)
        inbox.wait(lambda: inbox.states)
        proxy.stall()
        rev = couch.put(machine())
        inbox.wait(lambda: inbox.states[-1] is not None)
        proxy.stall(False)
        proxy.cut()
        inbox.wait(lambda: inbox.has(MACHINE, _rev=rev) and inbox.states[-1] is None)


def test_the_network_that_changed_is_no_reason_to_wait(couch: Database, inbox: Inbox, start: Start) -> None:
    with FaultyProxy(upstream(couch.address)) as proxy:
        feed = start(behind(proxy, couch.address), couch.name, heartbeat_s=60.0)
        inbox.wait(lambda: inbox.states)
        proxy.stall()
        proxy.stall(False)
        before = proxy.connections
        feed.reconnect()
        eventually(lambda: proxy.connections > before)
        rev = couch.put(machine())
        inbox.wait(lambda: inbox.has(MACHINE, _rev=rev))
        assert inbox.states == [None]


@pytest.mark.parametrize("moment", ["connected", "frozen", "refused"])
def test_it_stops_at_once_whatever_the_server_does(couch: Database, inbox: Inbox, start: Start, moment: str) -> None:
    with FaultyProxy(upstream(couch.address)) as proxy:
        if moment == "refused":
            proxy.refuse()
        if moment == "frozen":
            proxy.stall()
        feed = start(behind(proxy, couch.address), couch.name, heartbeat_s=60.0)
        if moment == "frozen":
            eventually(lambda: proxy.connections)
        else:
            inbox.wait(lambda: inbox.states)
        feed.stop()
        eventually(lambda: not feed._thread.is_alive())
        seen = (len(inbox.documents), len(inbox.states))
        proxy.stall(False)
        couch.put(machine())
        time.sleep(0.1)
        assert (len(inbox.documents), len(inbox.states)) == seen


def test_a_database_that_is_made_anew_is_read_from_its_start(couch: Database, inbox: Inbox, start: Start) -> None:
    couch.put(machine())
    for number in range(5):
        couch.put({"_id": f"other{number}"})
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(MACHINE))
    requests.delete(couch._url, auth=couch._session.auth, timeout=10).raise_for_status()
    inbox.wait(lambda: "no such database" in str(inbox.states[-1]))
    couch.ensure_exists()
    rev = couch.put(machine(hostname="new"))
    inbox.wait(lambda: inbox.has(MACHINE, _rev=rev, hostname="new"))
    assert inbox.resets == 1
    assert inbox.states[-1] is None


def test_a_database_that_was_made_anew_meanwhile_is_noticed_in_the_next_life(
    couch: Database, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints
) -> None:
    for number in range(5):
        couch.put({"_id": f"other{number}"})
    feed = start(couch.address, couch.name)
    inbox.wait(lambda: inbox.states)
    feed.stop()
    assert checkpoints.kept
    requests.delete(couch._url, auth=couch._session.auth, timeout=10).raise_for_status()
    couch.ensure_exists()
    couch.put(machine())
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(MACHINE))
    assert inbox.resets == 0  # nothing of this life is gone


def test_a_checkpoint_that_cannot_be_read_or_kept_stops_nothing(
    couch: Database, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    couch.put(machine())

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "load", fails)
    monkeypatch.setattr(checkpoints, "keep", fails)
    start(couch.address, couch.name)
    inbox.wait(lambda: inbox.has(MACHINE))
    rev = couch.put(machine(_rev=(couch.get(MACHINE) or {})["_rev"]))
    inbox.wait(lambda: inbox.has(MACHINE, _rev=rev))


# Servers that are not as CouchDB.


class Couch:
    """Just enough of CouchDB to be followed: rows that never change, and whatever a test puts in their place."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines  # of the continuous feed
        self.selector = True
        self.identity = {"instance_start_time": "1", "update_seq": "9-x"}
        self.trouble: Answer | None = None
        self.server = ScriptedServer(self.respond)

    def respond(self, asked: Asked) -> Answer:
        if self.trouble:
            return self.trouble
        if not asked.path.endswith("_changes"):
            return Answer(json=self.identity)
        if asked.query.get("filter") == "_selector" and not self.selector:
            return Answer(400, json={"error": "bad_request", "reason": "no filter _selector"})
        if asked.query["since"] == "bad":
            return Answer(400, json={"error": "bad_request", "reason": "Malformed sequence"})
        if asked.query["feed"] == "normal":
            return Answer(json={"results": [], "last_seq": "1-x"})
        return Answer(pieces=self.stream())

    def stream(self) -> Iterator[bytes]:
        yield from self.lines
        while not self.server.closing.wait(0.05):
            yield b"\n"


@pytest.fixture
def fake() -> Iterator[Couch]:
    """A server that a test bends."""
    made = Couch()
    with made.server:
        yield made


def row(document_id: str = MACHINE, **facts: Any) -> bytes:
    """A line of the feed."""
    raw = {"_id": document_id, "type": documents.MACHINE, **facts}
    return json.dumps({"seq": "2-x", "id": document_id, "changes": [], "doc": raw}).encode() + b"\n"


def streams(server: ScriptedServer) -> int:
    """How many continuous feeds were asked for."""
    return sum(asked.query.get("feed") == "continuous" for asked in server.asked)


def test_lines_come_at_once_also_in_an_answer_that_is_not_chunked(fake: Couch, inbox: Inbox, start: Start) -> None:
    fake.lines = (row(n=1),)
    start(Address(fake.server.url), "db", heartbeat_s=10 * WAIT_S)
    inbox.wait(lambda: inbox.has(MACHINE, n=1))


def test_lines_may_come_in_any_pieces(fake: Couch, inbox: Inbox, start: Start) -> None:
    text = row(n=1) + b"\r\n" + row(n=2, text="ä\u2028 \x85" * 40_000) + row(n=3)
    fake.lines = tuple(text[at : at + 997] for at in range(0, len(text), 997))
    start(Address(fake.server.url), "db")
    inbox.wait(lambda: inbox.has(MACHINE, n=3))
    assert [raw["n"] for raw in inbox.documents] == [1, 2, 3]


@pytest.mark.parametrize("garbage", [b"<html>\n", b"{\n", b"7\n", b"{}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_garbage_is_asked_for_again_and_then_left_out(fake: Couch, inbox: Inbox, start: Start, garbage: bytes) -> None:
    fake.lines = (garbage, row(n=1))
    start(Address(fake.server.url), "db")
    inbox.wait(lambda: inbox.has(MACHINE, n=1))
    assert streams(fake.server) == feed_module.GARBAGE_MAX


def test_rows_without_a_document_or_a_place_are_passed_over(fake: Couch, inbox: Inbox, start: Start) -> None:
    fake.lines = (
        b'{"seq":null,"id":"x","doc":null}\n',
        b'{"seq":5,"id":"x"}\n',
        b'{"seq":[5,"x"],"doc":7}\n',
        row(n=1),
    )
    start(Address(fake.server.url), "db")
    inbox.wait(lambda: inbox.has(MACHINE, n=1))
    assert streams(fake.server) == 1


def test_a_server_that_cannot_filter_is_read_in_full_and_that_is_said_once(
    fake: Couch, inbox: Inbox, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    fake.selector = False
    fake.lines = (
        json.dumps({"seq": "2", "doc": {"_id": "x", "type": "other"}}).encode() + b"\n",
        json.dumps({"seq": "3", "doc": {"_id": FILE, "type": "dmedia/file"}}).encode() + b"\n",
        row(n=1),
    )
    with caplog.at_level(logging.WARNING):
        feed = start(Address(fake.server.url), "db")
        inbox.wait(lambda: inbox.has(MACHINE, n=1))
        feed.set_wanted([FILE])
        feed.reconnect()
        inbox.wait(lambda: inbox.has(FILE))
    assert not inbox.has("x")
    assert sum("cannot filter" in record.getMessage() for record in caplog.records) == 1


def test_a_place_that_the_server_does_not_know_is_given_up(
    fake: Couch, inbox: Inbox, start: Start, checkpoints: MemoryCheckpoints
) -> None:
    checkpoints.kept["127.0.0.1/db"] = json.dumps({"born": "1", "since": "bad"})
    fake.lines = (row(n=1),)
    start(Address(fake.server.url), "db")
    inbox.wait(lambda: inbox.has(MACHINE, n=1))
    assert inbox.states == [None]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (Answer(401, json={"error": "unauthorized", "reason": "no"}), "does not accept user"),
        (Answer(403, json={"error": "forbidden", "reason": "locked"}), "refuses user"),
        (Answer(404, json={"error": "not_found", "reason": "no_db_file"}), "no such database"),
        (Answer(429, headers={"Retry-After": "0"}), "429"),
        (Answer(500, json={"error": "x", "reason": "boom"}), "500: boom"),
        (Answer(200, body=b"<html>", content_type="text/html"), "does not answer as CouchDB does"),
        (Answer(200, body=b"{"), "broken JSON"),
        (Answer(200, body=b"7"), "nothing sensible"),
    ],
)
def test_any_trouble_is_said_once_and_outlived(
    fake: Couch, inbox: Inbox, start: Start, trouble: Answer, words: str
) -> None:
    fake.lines = (row(n=1),)
    fake.trouble = trouble
    start(Address(fake.server.url), "db")
    eventually(lambda: len(fake.server.asked) >= 3)
    assert len(inbox.states) == 1
    assert words in str(inbox.states[0])
    fake.trouble = None
    inbox.wait(lambda: inbox.has(MACHINE, n=1))
    assert inbox.states[-1] is None


def test_a_server_that_is_busy_is_left_alone_for_as_long_as_it_says(fake: Couch, inbox: Inbox, start: Start) -> None:
    fake.trouble = Answer(503, headers={"Retry-After": "60"})
    start(Address(fake.server.url), "db")
    inbox.wait(lambda: inbox.states)
    time.sleep(0.5)
    assert len(fake.server.asked) == 1


def test_a_server_that_ends_each_feed_is_not_hammered(fake: Couch, inbox: Inbox, start: Start) -> None:
    fake.stream = lambda: iter([b'{"last_seq":"4-x"}\n'])  # type: ignore[method-assign]
    start(Address(fake.server.url), "db")
    time.sleep(1.0)
    assert 2 <= streams(fake.server) <= 40
