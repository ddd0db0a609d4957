"""The changes feed, as CouchDB sends it; holds against Apache CouchDB as well."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.couch import CouchDb, CouchServer
from tests.waiting import WAIT_S

A, B, C = "a" * 32, "b" * 32, "c" * 32


class Feed:
    """A continuous feed, read by a thread of its own."""

    def __init__(self, db: CouchDb, server: CouchServer, body: dict[str, Any] | None = None, **query: str) -> None:
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self._session = server.session()
        query = {"feed": "continuous", "heartbeat": "400", **query}
        self._response = self._session.request(
            "GET" if body is None else "POST",
            db.base + "/_changes",
            params=query,
            json=body,
            stream=True,
            timeout=WAIT_S,
        )
        assert self._response.status_code == 200, self._response.text
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._response.iter_lines(chunk_size=1):
                self.lines.put(line)
        except Exception:  # the test closed it
            pass
        self.lines.put(None)

    def line(self) -> bytes | None:
        """The next line, also a heartbeat; None at the end."""
        return self.lines.get(timeout=WAIT_S)

    def row(self) -> dict[str, Any]:
        """The next line that is no heartbeat."""
        while not (line := self.line()):
            assert line is not None, "the feed ended"
        return dict(json.loads(line))

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self._session.close()


@pytest.fixture
def feeds(couch_db: CouchDb, couchdb_server: CouchServer) -> Iterator[Any]:
    opened: list[Feed] = []

    def make(body: dict[str, Any] | None = None, **query: str) -> Feed:
        opened.append(Feed(couch_db, couchdb_server, body, **query))
        return opened[-1]

    yield make
    for feed in opened:
        feed.close()


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["results"]]


def test_each_document_is_told_once_with_its_latest_change(couch_db: CouchDb) -> None:
    rev = couch_db.put("a", {"n": 1})
    couch_db.put("b", {})
    rev = couch_db.put("a", {"n": 2, "_rev": rev})
    answer = couch_db.changes()
    assert sorted(ids(answer)) == ["a", "b"]
    (row,) = [row for row in answer["results"] if row["id"] == "a"]
    assert row["changes"] == [{"rev": rev}]
    assert answer["pending"] == 0


def test_a_deletion_is_told_as_such(couch_db: CouchDb) -> None:
    rev = couch_db.put("a", {"n": 1})
    couch_db("DELETE", "/a", params={"rev": rev})
    (row,) = couch_db.changes(include_docs="true")["results"]
    assert row["deleted"] is True
    assert row["doc"]["_deleted"] is True


def test_since_goes_on_where_the_last_answer_ended(couch_db: CouchDb) -> None:
    couch_db.put("a", {})
    last = couch_db.changes()["last_seq"]
    assert ids(couch_db.changes(since=last)) == []
    couch_db.put("b", {})
    assert ids(couch_db.changes(since=last)) == ["b"]
    assert ids(couch_db.changes(since="now")) == []
    assert sorted(ids(couch_db.changes(since="0"))) == ["a", "b"]


def test_limited_answers_bring_everything_in_the_end(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"d{n}"} for n in range(10)])
    seen: list[str] = []
    since = "0"
    while True:
        answer = couch_db.changes(since=since, limit="3")
        seen += ids(answer)
        since = answer["last_seq"]
        if not answer["results"]:
            break
        assert answer["pending"] == 10 - len(seen)
    assert sorted(seen) == sorted(f"d{n}" for n in range(10))


@pytest.mark.parametrize("feed", ["normal", "longpoll"])
def test_a_limit_of_zero_tells_only_where_the_feed_is(couch_db: CouchDb, feed: str) -> None:
    couch_db.bulk([{"_id": "a"}, {"_id": "b"}])
    answer = couch_db.changes(limit="0", feed=feed, timeout="300")
    assert (answer["results"], answer["pending"]) == ([], 2)
    assert sorted(ids(couch_db.changes(since=answer["last_seq"]))) == ["a", "b"]
    now = couch_db.changes(limit="0", since="now")["last_seq"]
    assert ids(couch_db.changes(since=now)) == []


def test_descending_brings_the_newest_first(couch_db: CouchDb) -> None:
    couch_db("DELETE")
    couch_db("PUT", params={"q": "1"})  # CouchDB has an order only within a shard
    for id in ("a", "b", "c"):
        couch_db.put(id, {})
    assert ids(couch_db.changes(descending="true", limit="1")) == ["c"]
    assert ids(couch_db.changes(descending="true")) == ["c", "b", "a"]


def test_all_leaves_are_told_with_style_all_docs(couch_db: CouchDb) -> None:
    for leaf in (B, C):
        document = {"_id": "film", "_rev": f"2-{leaf}", "_revisions": {"start": 2, "ids": [leaf, A]}}
        couch_db.bulk([document], new_edits=False)
    (main,) = couch_db.changes(include_docs="true", conflicts="true")["results"]
    assert main["changes"] == [{"rev": f"2-{C}"}]
    assert main["doc"]["_conflicts"] == [f"2-{B}"]
    (every,) = couch_db.changes(style="all_docs")["results"]
    assert sorted(change["rev"] for change in every["changes"]) == [f"2-{B}", f"2-{C}"]


def test_only_the_documents_asked_for_are_told(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": id} for id in ("a", "b", "c")])
    posted = couch_db("POST", "/_changes", params={"filter": "_doc_ids"}, json={"doc_ids": ["a", "c", "x"]})
    assert sorted(ids(posted.json())) == ["a", "c"]
    assert ids(couch_db.changes(filter="_doc_ids", doc_ids='["b"]')) == ["b"]
    assert couch_db("POST", "/_changes", params={"filter": "_doc_ids"}, json={}).status_code == 400


def test_only_what_the_selector_means_is_told(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": "a", "type": "x"}, {"_id": "b", "type": "y"}, {"_id": "c"}])
    body = {"selector": {"type": {"$in": ["y"]}}}
    answer = couch_db("POST", "/_changes", params={"filter": "_selector"}, json=body).json()
    assert ids(answer) == ["b"]
    again = couch_db("POST", "/_changes", params={"filter": "_selector", "since": answer["last_seq"]}, json=body)
    assert ids(again.json()) == []
    bad = couch_db("POST", "/_changes", params={"filter": "_selector"}, json={"selector": {"a": {"$no": 1}}})
    assert bad.status_code == 400


def test_attachments_come_inline_when_asked_for(couch_db: CouchDb) -> None:
    couch_db.put("a", {"_attachments": {"leaves": {"content_type": "application/octet-stream", "data": "AAEC"}}})
    (row,) = couch_db.changes(include_docs="true", attachments="true")["results"]
    assert row["doc"]["_attachments"]["leaves"]["data"] == "AAEC"


@pytest.mark.parametrize("since", ["nonsense", "5", "-1"])
def test_a_malformed_since_is_refused(couch_db: CouchDb, since: str) -> None:
    assert couch_db("GET", "/_changes", params={"since": since}).status_code == 400


def test_a_longpoll_waits_for_the_next_change(couch_db: CouchDb, couchdb_server: CouchServer) -> None:
    couch_db.put("old", {})
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def ask() -> None:
        with couchdb_server.session() as session:
            answers.put(CouchDb(session, couch_db.base).changes(feed="longpoll", since="now", timeout="15000"))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    with pytest.raises(queue.Empty):
        answers.get(timeout=0.5)
    couch_db.put("new", {})
    assert ids(answers.get(timeout=WAIT_S)) == ["new"]
    thread.join(WAIT_S)


def test_a_longpoll_with_something_to_tell_does_not_wait(couch_db: CouchDb) -> None:
    couch_db.put("a", {})
    assert ids(couch_db.changes(feed="longpoll")) == ["a"]


def test_a_longpoll_ends_with_its_timeout(couch_db: CouchDb) -> None:
    began = time.monotonic()
    answer = couch_db.changes(feed="longpoll", since="now", timeout="300")
    assert answer["results"] == []
    assert time.monotonic() - began > 0.25


def test_a_continuous_feed_tells_what_is_there_and_what_comes(couch_db: CouchDb, feeds: Any) -> None:
    couch_db.put("a", {"n": 1})
    feed = feeds(since="0", include_docs="true")
    assert feed.row()["id"] == "a"
    couch_db.put("b", {"n": 2})
    row = feed.row()
    assert (row["id"], row["doc"]["n"]) == ("b", 2)
    assert ids(couch_db.changes(since=row["seq"])) == []


def test_a_continuous_feed_with_a_selector_tells_nothing_else(couch_db: CouchDb, feeds: Any) -> None:
    feed = feeds({"selector": {"type": "machine"}}, since="now", filter="_selector", include_docs="true")
    couch_db.bulk([{"_id": "a", "type": "file"}, {"_id": "b", "type": "machine"}, {"_id": "c"}])
    assert feed.row()["id"] == "b"


def test_an_idle_feed_says_at_once_that_it_lives_and_then_in_each_heartbeat(feeds: Any) -> None:
    feed = feeds(since="now", heartbeat="300")
    began = time.monotonic()
    assert [feed.line() for _ in range(4)] == [b""] * 4
    assert time.monotonic() - began > 0.7


def test_changes_that_do_not_match_do_not_keep_heartbeats_back(
    couch_db: CouchDb, couchdb_server: CouchServer, feeds: Any
) -> None:
    feed = feeds({"selector": {"type": "machine"}}, since="now", filter="_selector", heartbeat="400")
    assert feed.line() == b""
    began = time.monotonic()
    n = 0
    while feed.lines.qsize() < 3:
        couch_db.put(f"d{n}", {})
        n += 1
    if couchdb_server.embedded:  # CouchDB says so after each change that is not told, too
        assert time.monotonic() - began > 0.7


def test_a_feed_with_a_timeout_ends_with_where_it_was(couch_db: CouchDb, feeds: Any) -> None:
    couch_db.put("a", {})
    response = couch_db("GET", "/_changes", params={"feed": "continuous", "timeout": "300"})
    rows = [json.loads(line) for line in response.text.splitlines() if line]
    assert rows[0]["id"] == "a"
    assert ids(couch_db.changes(since=rows[-1]["last_seq"])) == []


def test_a_feed_with_a_limit_ends_when_it_is_reached(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": "a"}, {"_id": "b"}, {"_id": "c"}])
    response = couch_db("GET", "/_changes", params={"feed": "continuous", "limit": "2", "heartbeat": "10000"})
    rows = [json.loads(line) for line in response.text.splitlines() if line]
    assert len(rows) == 3
    assert len(couch_db.changes(since=rows[-1]["last_seq"])["results"]) == 1


def test_sequence_numbers_may_be_left_out_between(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"d{n}"} for n in range(6)])
    rows = couch_db.changes(seq_interval="3")["results"]
    assert [row["seq"] is not None for row in rows].count(True) == 2


def test_deleting_the_database_ends_its_feeds_normally(couch_db: CouchDb, feeds: Any) -> None:
    couch_db.put("a", {})
    feed = feeds(since="now", heartbeat="500")
    assert feed.line() == b""
    couch_db("DELETE")
    deadline = time.monotonic() + WAIT_S
    while (line := feed.line()) is not None:
        assert time.monotonic() < deadline
        assert line == b"" or b"last_seq" in line
    assert couch_db("GET", "/_changes").status_code == 404
    assert couch_db("PUT").status_code == 201


def test_a_sequence_number_of_the_database_before_leads_to_the_start(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"old{n}"} for n in range(5)])
    stale = couch_db.changes()["last_seq"]
    couch_db("DELETE")
    couch_db("PUT")
    couch_db.put("new", {})
    assert ids(couch_db.changes(since=stale)) == ["new"]


def test_many_large_changes_arrive_whole(couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"d{n:04}", "text": "x" * 5000} for n in range(1500)])
    answer = couch_db.changes(include_docs="true")
    assert len(answer["results"]) == 1500
    assert all(len(row["doc"]["text"]) == 5000 for row in answer["results"])


def test_a_change_is_told_at_once(couch_db: CouchDb, couchdb_server: CouchServer, feeds: Any) -> None:
    feed = feeds({"selector": {"type": "m"}}, since="now", filter="_selector", include_docs="true")
    assert feed.line() == b""
    for n in range(20):
        couch_db.put(f"d{n}", {"type": "m"})
        assert feed.row()["id"] == f"d{n}"


def test_a_document_that_changes_all_the_time_is_in_every_answer(
    couch_db: CouchDb, couchdb_server: CouchServer
) -> None:
    rev = couch_db.put("film", {"n": 0})
    over = threading.Event()

    def write() -> None:
        with couchdb_server.session() as session:
            writer, last, number = CouchDb(session, couch_db.base), rev, 0
            while not over.is_set():
                number += 1
                last = writer.put("film", {"_rev": last, "n": number})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            told = couch_db("GET", "/_changes").json()
            assert [row["id"] for row in told["results"]] == ["film"]
    finally:
        over.set()
        thread.join()
