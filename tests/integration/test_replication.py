"""Sync: everything arrives, once, whatever becomes of either side or of the way between them.

By our own replicator; where the server is an Apache CouchDB, what is `BY_EITHER` is done by CouchDB's as well.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pydantic import SecretStr

from dmedia_transfer.couch import pause
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from dmedia_transfer.couch.replication import Replication, Target, pair, peer, replication, replicator
from dmedia_transfer.couch.replication.peer import Peer, Refused
from dmedia_transfer.couch.session import Rejected
from dmedia_transfer.errors import Conflict
from dmedia_transfer.model import random_id
from tests.couch import CouchDb, CouchServer
from tests.proxy import FaultyProxy
from tests.waiting import eventually

A, B, C = "a" * 32, "b" * 32, "c" * 32


OURS, COUCHDBS = "our replicator", "CouchDB's replicator"
BY_EITHER = pytest.mark.parametrize(
    "replicated_by", [OURS, *([COUCHDBS] if os.environ.get("DMEDIA_TEST_COUCHDB_URL") else [])], indirect=True
)


@pytest.fixture
def replicated_by(request: pytest.FixtureRequest) -> str:
    """Who moves the documents."""
    return str(getattr(request, "param", OURS))


@pytest.fixture(autouse=True)
def _impatient(replicated_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "may_schedule", lambda _: replicated_by == COUCHDBS)
    monkeypatch.setattr(replication, "LOOK_S", 1.0)
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.2)
    monkeypatch.setattr(pause, "DENIED_PAUSE_S", 0.1)
    monkeypatch.setattr(replicator, "CHECKPOINT_S", 0.3)
    monkeypatch.setattr(replicator, "WAIT_S", 2.0)


class States:
    """What the daemon would be told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str | None]] = []

    def __call__(self, url: str, problem: str | None) -> None:
        self.all.append((url, problem))

    @property
    def now(self) -> str | None:
        """The last one; empty before the first."""
        return self.all[-1][1] if self.all else ""


@pytest.fixture
def states() -> States:
    return States()


@pytest.fixture
def other_db(couchdb_server: CouchServer) -> Iterator[CouchDb]:
    """The name of a database that is not there yet."""
    with couchdb_server.session() as session:
        db = CouchDb(session, f"{couchdb_server.base}/test-{uuid.uuid4().hex}")
        yield db
        db("DELETE")


@pytest.fixture
def proxy(couchdb_server: CouchServer) -> Iterator[FaultyProxy]:
    """The way to the other database."""
    parts = urlsplit(couchdb_server.base)
    with FaultyProxy((str(parts.hostname), int(parts.port or 80))) as proxy:
        yield proxy


Sync = Callable[..., Replication]


@pytest.fixture
def sync(couchdb_server: CouchServer, states: States, replicated_by: str) -> Iterator[Sync]:
    """Starts a sync of two databases, which the test need not stop."""
    started: list[Replication] = []
    machine_id = random_id()  # what CouchDB is asked for is told apart by it

    def start(
        here: CouchDb, there: CouchDb | None, *, base: str = "", login: tuple[str, str] | None = None
    ) -> Replication:
        targets = []
        if there is not None:
            user, password = login or (couchdb_server.user, couchdb_server.password)
            remote = Address(base or urlsplit(there.base)._replace(path="").geturl(), user, SecretStr(password))
            targets = [Target("other", remote, urlsplit(there.base).path[1:])]
        made = Replication(
            replace(Address.parse(couchdb_server.url), url=urlsplit(here.base)._replace(path="").geturl()),
            urlsplit(here.base).path[1:],
            targets,
            machine_id=machine_id,
            call_soon=lambda callback, *arguments: callback(*arguments),
            on_state=states,
        )
        started.append(made)
        made.start()
        return made

    yield start
    for each in started:
        each.stop()
    eventually(lambda: not any(each._thread.is_alive() for each in started))
    if replicated_by == COUCHDBS:  # which would go on without us
        start(CouchDb(requests.Session(), f"{couchdb_server.base}/none"), None)._thread.join()


def state(db: CouchDb) -> dict[str, Any]:
    """All leaves of all documents but design documents, with their history and attachments."""
    query = {"open_revs": "all", "revs": "true", "attachments": "true"}
    leaves = {}
    for row in db.changes(style="all_docs")["results"]:
        if not row["id"].startswith("_design/"):
            rows = db("GET", f"/{row['id']}", params=query).json()
            leaves[row["id"]] = sorted((one["ok"] for one in rows), key=lambda document: str(document["_rev"]))
    return leaves


def fill(db: CouchDb, prefix: str = "") -> None:
    """A document of each kind."""
    data = base64.b64encode(os.urandom(3000)).decode()
    db.put(f"{prefix}plain", {"n": 1, "text": "ü\u2028"})
    attachments = {"leaves": {"content_type": "application/octet-stream", "data": data}}
    db.put(f"{prefix}attached", {"_attachments": attachments})
    db.put(f"{prefix}attached", {**db.get(f"{prefix}attached"), "n": 2})
    rev = db.put(f"{prefix}gone", {"n": 1})
    db("DELETE", f"/{prefix}gone", params={"rev": rev})
    for leaf in (B, C):
        history = {"start": 2, "ids": [leaf, A]}
        db.bulk([{"_id": f"{prefix}split", "_rev": f"2-{leaf}", "v": leaf[0], "_revisions": history}], new_edits=False)


def same(one: CouchDb, other: CouchDb, count: int | None = None) -> Callable[[], bool]:
    def look() -> bool:
        if other("GET").status_code == 404:  # not made yet
            return False
        left = state(one)
        return left == state(other) and (count is None or len(left) == count)

    return look


@BY_EITHER
def test_two_databases_become_equal_and_stay_so(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, states: States
) -> None:
    fill(couch_db, "here-")
    assert other_db("PUT").status_code == 201
    fill(other_db, "there-")
    couch_db.put("_design/ours", {"views": {}})
    sync(couch_db, other_db)
    eventually(same(couch_db, other_db, 8))
    assert other_db.get("here-split", conflicts="true")["_conflicts"] == [f"2-{B}"]
    assert other_db("GET", "/_design/ours").status_code == 404
    couch_db.put("later-here", {})
    other_db.put("later-there", {})
    eventually(same(couch_db, other_db, 10))
    assert states.all == [("other", None)]


@BY_EITHER
def test_a_database_that_is_not_there_yet_is_made(couch_db: CouchDb, other_db: CouchDb, sync: Sync) -> None:
    fill(couch_db)
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET").status_code == 200)
    eventually(same(couch_db, other_db, 4))


@BY_EITHER
def test_an_attachment_that_is_there_is_not_sent_again(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, proxy: FaultyProxy
) -> None:
    data = base64.b64encode(os.urandom(300_000)).decode()
    couch_db.put("film", {"_attachments": {"leaves": {"content_type": "x/y", "data": data}}})
    sync(couch_db, other_db, base=proxy.url)
    eventually(lambda: other_db("GET", "/film").status_code == 200)
    proxy.reset_counts()
    couch_db.put("film", {**couch_db.get("film"), "stored": 1})
    eventually(lambda: other_db.get("film").get("stored") == 1)
    assert proxy.bytes_up < 50_000
    assert same(couch_db, other_db, 1)()


def test_many_documents_come_in_batches_and_a_new_life_goes_on_where_the_last_one_was(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, proxy: FaultyProxy
) -> None:
    for start in range(0, 1300, 650):
        couch_db.bulk([{"_id": f"d{n:04}", "text": "x" * 2000} for n in range(start, start + 650)])
    first = sync(couch_db, other_db, base=proxy.url)
    eventually(lambda: other_db("GET").json().get("doc_count") == 1300)
    time.sleep(0.8)  # until the logs are written
    first.stop()
    proxy.reset_counts()
    couch_db.put("new", {})
    sync(couch_db, other_db, base=proxy.url)
    eventually(lambda: other_db("GET", "/new").status_code == 200)
    assert proxy.bytes_up + proxy.bytes_down < 50_000


def test_the_logs_are_of_the_form_that_others_keep(couch_db: CouchDb, other_db: CouchDb, sync: Sync) -> None:
    couch_db.put("plain", {})
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET", "/plain").status_code == 200)

    def written() -> list[Any]:
        rows = [
            db("GET", "/_local_docs", params={"include_docs": "true"}).json()["rows"] for db in (couch_db, other_db)
        ]
        return [[{**row["doc"], "_rev": ""} for row in each] for each in rows]

    eventually(lambda: any(log["history"][0]["docs_written"] for log in written()[0]))
    eventually(lambda: written()[0] == written()[1])
    for log in written()[0]:
        assert log["source_last_seq"] == log["history"][0]["recorded_seq"]
        assert log["session_id"] == log["history"][0]["session_id"]


@pytest.mark.parametrize("fault", ["cut", "refuse", "stall", "garble"])
def test_whatever_the_line_does_everything_arrives(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, proxy: FaultyProxy, states: States, fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("dmedia_transfer.couch.replication.peer.LATE_S", 1.0)
    fill(couch_db, "one-")
    sync(couch_db, other_db, base=proxy.url)
    eventually(lambda: states.now is None)
    eventually(same(couch_db, other_db, 4))
    if fault == "cut":
        for _ in range(10):
            proxy.cut()
            time.sleep(0.02)
    elif fault == "refuse":
        proxy.refuse()
        proxy.cut()
    elif fault == "stall":
        proxy.stall()
    else:
        proxy.garble(2000)
    fill(couch_db, "two-")
    fill(other_db, "three-")
    if fault in ("refuse", "stall"):
        eventually(lambda: states.now)
    proxy.refuse(False)
    proxy.stall(False)
    eventually(same(couch_db, other_db, 12))
    eventually(lambda: states.now is None)


@BY_EITHER
def test_a_wrong_password_is_told_and_never_shown(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, states: States, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        # Of a user of its own: CouchDB locks those who are wrong too often, and the administrator is needed.
        sync(couch_db, other_db, login=(f"nobody-{uuid.uuid4().hex}", "hunter2-hunter2"))
        eventually(lambda: states.now)
    assert "does not accept user" in str(states.now)
    assert "hunter2" not in caplog.text + str(states.now)


def test_a_database_that_is_made_anew_elsewhere_is_filled_again(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, states: States
) -> None:
    fill(couch_db)
    sync(couch_db, other_db)
    eventually(same(couch_db, other_db, 4))
    other_db("DELETE")
    eventually(lambda: "there is no database" in str(states.now))
    assert other_db("PUT").status_code == 201
    eventually(same(couch_db, other_db, 4))
    eventually(lambda: states.now is None)


def test_a_database_that_was_swapped_unseen_is_noticed_and_filled(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync
) -> None:
    fill(couch_db)
    sync(couch_db, other_db)
    eventually(same(couch_db, other_db, 4))
    other_db("DELETE")
    assert other_db("PUT").status_code == 201
    eventually(same(couch_db, other_db, 4))
    couch_db("DELETE")
    assert couch_db("PUT").status_code == 201
    eventually(same(couch_db, other_db, 4))


def test_a_document_that_is_not_taken_is_told_and_holds_up_no_other(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(Peer):
        def write(self, documents: Sequence[bytes]) -> list[Refused]:
            if any(b'"forbidden-fruit"' in each for each in documents):
                raise Rejected("too large", status=413)
            return super().write(documents)

    monkeypatch.setattr(pair, "Peer", Picky)
    couch_db.bulk([{"_id": name} for name in ("a", "b", "forbidden-fruit", "c", "d")])
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET").json().get("doc_count") == 4)
    eventually(lambda: "does not take document 'forbidden-fruit': too large" in str(states.now))


def test_a_server_that_restarts_from_a_backup_gets_back_what_it_lost(
    tmp_path: Path, couch_db: CouchDb, sync: Sync, couchdb_server: CouchServer
) -> None:
    file = tmp_path / "other.sqlite"
    with EmbeddedServer(file, user=couchdb_server.user, password=couchdb_server.password) as server:
        port = int(server.address.url.rpartition(":")[2])
        with couchdb_server.session() as session:
            other = CouchDb(session, f"{server.address.url}/dmedia")
            assert other("PUT").status_code == 201
            couch_db.put("before", {})
            sync(couch_db, other)
            eventually(lambda: other("GET", "/before").status_code == 200)
            time.sleep(0.8)
            server.stop()
            backup = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            server = EmbeddedServer(file, port=port, user=couchdb_server.user, password=couchdb_server.password)
            server.start()
            try:
                couch_db.put("after", {})
                other.put("only-there", {})
                eventually(same(couch_db, other, 3))
                time.sleep(0.8)
                server.stop()
                for path in tmp_path.iterdir():
                    path.unlink()
                for name, content in backup.items():
                    (tmp_path / name).write_bytes(content)
                server = EmbeddedServer(file, port=port, user=couchdb_server.user, password=couchdb_server.password)
                server.start()
                other.put("new-there", {})
                eventually(same(couch_db, other, 4))
            finally:
                server.stop()


def test_a_server_without_bulk_get_is_asked_for_one_document_after_the_other(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> list[Any]:
        raise Rejected("there is no such method", status=405)

    monkeypatch.setattr(Peer, "_fetch_bulk", absent)
    fill(couch_db)
    couch_db.put("with/slash ?#%", {"n": 1})
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET").status_code == 200)
    eventually(lambda: other_db("GET").json()["doc_count"] == 4)
    eventually(lambda: other_db.get("attached", attachments="true") == couch_db.get("attached", attachments="true"))
    assert other_db.get("with/slash ?#%")["n"] == 1
    assert other_db.get("split", conflicts="true") == couch_db.get("split", conflicts="true")


def test_an_attachment_that_the_target_has_lost_is_sent_after_all(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused = Peer.write, []

    def forgetful(self: Peer, documents: Sequence[bytes]) -> list[Refused]:
        if any(b'"stub":true' in each for each in documents):
            refused.append(1)
            raise Conflict("missing_stub")
        return write(self, documents)

    monkeypatch.setattr(Peer, "write", forgetful)
    couch_db.put("film", {"_attachments": {"leaves": {"content_type": "x/y", "data": "AAEC"}}})
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET", "/film").status_code == 200)
    couch_db.put("film", {**couch_db.get("film"), "n": 1})
    eventually(lambda: other_db.get("film").get("n") == 1)
    assert refused
    eventually(same(couch_db, other_db, 1))


def test_answers_that_are_too_large_are_asked_for_in_parts(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "ANSWER_MAX_BYTES", 20_000)
    monkeypatch.setattr(peer, "DOCUMENT_MAX_BYTES", 100_000)
    couch_db.bulk(
        [{"_id": f"d{n:02}", "text": "x" * 5000} for n in range(30)] + [{"_id": "giant", "text": "x" * 200_000}]
    )
    sync(couch_db, other_db)
    eventually(lambda: other_db("GET").status_code == 200 and other_db("GET").json()["doc_count"] == 30)
    eventually(lambda: "does not take document 'giant'" in str(states.now))


def test_an_idle_sync_says_nothing_and_wakes_rarely(
    couch_db: CouchDb, other_db: CouchDb, sync: Sync, proxy: FaultyProxy
) -> None:
    fill(couch_db)
    sync(couch_db, other_db, base=proxy.url)
    eventually(lambda: other_db("GET").status_code == 200)
    eventually(same(couch_db, other_db, 4))
    time.sleep(1.5)  # the logs are written
    proxy.reset_counts()
    time.sleep(1.5)
    assert proxy.bytes_up < 2000  # a wait that ended and the next one; a wait is fifty times as long in truth
