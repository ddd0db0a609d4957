"""Sync that Apache CouchDB does for us: what it is asked for, what is taken back, and what it says about it.

The server here plays CouchDB's `_replicator` database and its scheduler, in their words.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from dmedia_transfer.couch import pause
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.replication import Replication, Target, replication, scheduled
from tests.factories import MACHINE_ID
from tests.scripted import Answer, Asked, ScriptedServer
from tests.waiting import eventually

URL = "https://couch.example.org/dmedia"
OTHER_URL = "https://nas.example.org/films"
NOT_FOUND = Answer(404, {"error": "not_found", "reason": "missing"})


class Couch:
    """Apache CouchDB, as far as this is about."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.scheduler: dict[str, dict[str, Any]] = {}  # what it says of documents
        self.refusal: Answer | None = None  # to whoever asks for `_replicator`
        self.writes = 0
        self.asked: list[str] = []

    def respond(self, asked: Asked) -> Answer:
        path = unquote(asked.path)
        self.asked.append(f"{asked.method} {path}")
        if path == "/":
            return Answer(json={"couchdb": "Welcome", "vendor": {"name": "The Apache Software Foundation"}})
        if path.startswith("/_replicator"):
            return self.refusal or self._replicator(asked, path.removeprefix("/_replicator").removeprefix("/"))
        if path.startswith("/_scheduler/docs/_replicator/"):
            row = self.scheduler.get(path.rpartition("/")[2])
            return Answer(json=row) if row else NOT_FOUND
        return NOT_FOUND

    def _replicator(self, asked: Asked, id: str) -> Answer:
        if not id:
            return Answer(json={"db_name": "_replicator"})
        if id == "_all_docs":
            low, high = json.loads(asked.query["startkey"]), json.loads(asked.query["endkey"])
            rows = [{"id": id, "doc": raw} for id, raw in sorted(self.documents.items()) if low <= id <= high]
            return Answer(json={"rows": rows})
        known = self.documents.get(id)
        if asked.method == "GET":
            return Answer(json=known) if known else NOT_FOUND
        rev = asked.query.get("rev") if asked.method == "DELETE" else asked.json.get("_rev")
        if rev != (known or {}).get("_rev"):
            return Answer(409, {"error": "conflict", "reason": "Document update conflict."})
        if asked.method == "DELETE":
            del self.documents[id]
            return Answer(json={"ok": True})
        self.writes += 1
        new = f"{self.writes}-{uuid.uuid4().hex}"
        self.documents[id] = {**asked.json, "_rev": new}
        return Answer(201, {"ok": True, "id": id, "rev": new})


@pytest.fixture
def couch() -> Couch:
    return Couch()


@pytest.fixture
def server(couch: Couch) -> Iterator[ScriptedServer]:
    with ScriptedServer(couch.respond) as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.1)
    monkeypatch.setattr(pause, "DENIED_PAUSE_S", 0.1)
    monkeypatch.setattr(replication, "LOOK_S", 0.05)


def target(url: str = URL, password: str = "hunter2-hunter2", **more: Any) -> Target:
    server, _, database = url.rpartition("/")
    return Target(url, Address(server, "ann", SecretStr(password), **more), database)


Start = Callable[..., Replication]


@pytest.fixture
def told() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def start(server: ScriptedServer, told: list[tuple[str, str | None]]) -> Iterator[Start]:
    """Starts a sync; ended by the test or after it."""
    started: list[Replication] = []

    def starter(*targets: Target) -> Replication:
        replication = Replication(
            Address(server.url, "admin", SecretStr("local-secret")),
            "dmedia",
            targets,
            machine_id=MACHINE_ID,
            call_soon=lambda callback, *arguments: callback(*arguments),
            on_state=lambda url, problem: told.append((url, problem)),
        )
        started.append(replication)
        replication.start()
        return replication

    yield starter
    for each in started:
        each.stop()


def ids(couch: Couch) -> list[str]:
    return sorted(couch.documents)


def test_couchdb_is_asked_for_both_directions(couch: Couch, server: ScriptedServer, start: Start) -> None:
    start(target())
    eventually(lambda: len(couch.documents) == 2)
    pull, push = (couch.documents[id] for id in ids(couch))
    assert pull["_id"].startswith(f"dmedia-{MACHINE_ID}-")
    assert pull["_id"].endswith("-pull")
    there = {"url": URL, "auth": {"basic": {"username": "ann", "password": "hunter2-hunter2"}}}
    here = {"url": f"{server.url}/dmedia", "auth": {"basic": {"username": "admin", "password": "local-secret"}}}
    assert (pull["source"], pull["target"], pull["create_target"]) == (there, here, False)
    assert (push["source"], push["target"], push["create_target"]) == (here, there, True)
    for each in (pull, push):
        assert each["continuous"] is True
        assert each["selector"] == {"_id": {"$not": {"$regex": "^_design/"}}}


def test_a_restart_asks_for_nothing_twice_and_a_new_password_is_told(couch: Couch, start: Start) -> None:
    first = start(target())
    eventually(lambda: couch.writes == 2)
    before = ids(couch)
    first.stop()
    for raw in couch.documents.values():  # as CouchDB does
        raw |= {"_replication_state": "triggered", "owner": "admin"}
    asked = len(couch.asked)
    second = start(target())
    eventually(lambda: any("_scheduler" in each for each in couch.asked[asked:]))
    second.stop()
    assert (couch.writes, ids(couch)) == (2, before)
    start(target(password="another"))
    eventually(lambda: couch.writes == 4)
    assert ids(couch) == before
    eventually(lambda: all("another" in json.dumps(raw) for raw in couch.documents.values()))


def test_what_the_configuration_names_no_more_is_taken_back_and_nothing_else(couch: Couch, start: Start) -> None:
    couch.documents["dmedia-OTHERMACHINE-1234-pull"] = {"_id": "dmedia-OTHERMACHINE-1234-pull", "_rev": "1-a"}
    couch.documents["somebody"] = {"_id": "somebody", "_rev": "1-a"}
    first = start(target(), target(OTHER_URL))
    eventually(lambda: len(couch.documents) == 6)
    first.stop()
    second = start(target(OTHER_URL))
    eventually(lambda: len(couch.documents) == 4)
    second.stop()
    start()
    eventually(lambda: ids(couch) == ["dmedia-OTHERMACHINE-1234-pull", "somebody"])


def test_what_couchdb_says_is_wrong_is_told_and_taken_back(
    couch: Couch, start: Start, told: list[tuple[str, str | None]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        start(target(), target(OTHER_URL))
        eventually(lambda: sorted(told) == [(URL, None), (OTHER_URL, None)])
        (push,) = [id for id, raw in couch.documents.items() if raw["target"]["url"] == URL]
        why = {"error": "unauthorized: unauthorized to access or create database"}
        couch.scheduler[push] = {"state": "crashing", "info": why, "error_count": 3}
        eventually(lambda: told[-1][1])
        assert told[-1][0] == URL
        assert told[-1][1] == f"sync with {URL}: CouchDB cannot push: {why['error']}"
        couch.scheduler[push] = {"state": "running", "info": {"docs_written": 5}}
        eventually(lambda: told[-1] == (URL, None))
    assert "hunter2" not in caplog.text + str(told)


def test_a_replication_that_another_machine_has_asked_for_is_as_good(
    couch: Couch, start: Start, told: list[tuple[str, str | None]]
) -> None:
    start(target())
    eventually(lambda: len(couch.documents) == 2)
    for id in ids(couch):
        said = "Replication `x` specified by document `a` already started, triggered by document `b`"
        couch.scheduler[id] = {"state": "failed", "info": {"error": said}}
    eventually(lambda: told)
    time.sleep(0.3)
    assert told == [(URL, None)]


def test_what_couchdb_has_given_up_is_asked_for_again(
    couch: Couch, start: Start, told: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduled, "SECOND_CHANCE_S", 0.3)
    start(target())
    eventually(lambda: len(couch.documents) == 2)
    pull = ids(couch)[0]
    couch.documents[pull] |= {"_replication_state": "failed", "_replication_state_reason": "bad source"}
    eventually(lambda: told and "CouchDB cannot pull: bad source" in str(told[-1][1]))
    eventually(lambda: "_replication_state" not in couch.documents[pull])
    eventually(lambda: told[-1][1] is None)


def crash(couch: Couch, *, failures: int) -> None:
    """CouchDB cannot reach the other one, and waits longer and longer."""
    for id in ids(couch):
        why = {"error": "db_not_found: could not open https://couch.example.org/dmedia/"}
        couch.scheduler[id] = {"state": "crashing", "info": why, "error_count": failures}


def asks_for_something_else(couch: Couch, before: dict[str, Any]) -> bool:
    """Whether each document differs, without what CouchDB notes in it: one that does not is not looked at."""

    def meant(raw: dict[str, Any]) -> dict[str, Any]:
        return {"connection_timeout": 30_000, **raw, "_rev": ""}  # as if the default stood there

    return all(meant(raw) != meant(before[id]) for id, raw in couch.documents.items())


def test_what_couchdb_tries_ever_more_rarely_is_asked_for_anew(
    couch: Couch, start: Start, told: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduled, "SECOND_CHANCE_S", 0.3)
    start(target())
    eventually(lambda: len(couch.documents) == 2)
    crash(couch, failures=1)  # it tries again soon, by itself
    eventually(lambda: told and "could not open" in str(told[-1][1]))
    time.sleep(0.5)
    assert couch.writes == 2
    for _ in range(3):
        before = dict(couch.documents)
        crash(couch, failures=9)
        eventually(lambda: asks_for_something_else(couch, before))  # noqa: B023 - called in this round


def test_a_new_network_has_couchdb_try_again_at_once(
    couch: Couch, start: Start, told: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    replication = start(target())
    eventually(lambda: told == [(URL, None)])
    replication.reconnect()  # nothing is wrong
    monkeypatch.setattr(scheduled, "HURRY_S", 0.0)
    time.sleep(0.2)
    assert couch.writes == 2
    before = dict(couch.documents)
    crash(couch, failures=1)
    eventually(lambda: told[-1][1])
    assert couch.documents == before
    replication.reconnect()
    eventually(lambda: asks_for_something_else(couch, before))
    assert couch.writes == 4


def test_a_wrong_password_is_told_as_a_sentence(couch: Couch, start: Start, told: list[tuple[str, str | None]]) -> None:
    start(target())
    eventually(lambda: len(couch.documents) == 2)
    why = '{replication_auth_error,\n    {session_request_unauthorized,"https://couch.example.org/_session","ann"}}'
    couch.scheduler[ids(couch)[0]] = {"state": "crashing", "info": {"error": why}, "error_count": 1}
    eventually(lambda: told and told[-1][1])
    said = "CouchDB cannot pull: https://couch.example.org does not accept user 'ann' with this password"
    assert told[-1][1] == f"sync with {URL}: {said}"


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(401, {"error": "unauthorized", "reason": "You are not a server admin."}),
        Answer(403, {"error": "forbidden", "reason": "You are not allowed to access this db."}),
        Answer(404, {"error": "not_found", "reason": "Database does not exist."}),
    ],
)
def test_where_we_may_not_ask_couchdb_we_do_it_ourselves(couch: Couch, start: Start, refusal: Answer) -> None:
    couch.refusal = refusal
    replication = start(target("http://127.0.0.1:9/dmedia"))
    eventually(lambda: len(replication._pairs) == 1)
    assert couch.documents == {}


def test_a_target_that_couchdb_would_not_reach_as_we_do_is_replicated_by_ourselves(
    couch: Couch, start: Start, tmp_path: Path
) -> None:
    replication = start(target("http://127.0.0.1:9/dmedia", ca_file=tmp_path / "ca.pem"), target())
    eventually(lambda: len(couch.documents) == 2 and len(replication._pairs) == 1)
    assert {raw["source"]["url"] for raw in couch.documents.values()} >= {URL}


def test_a_couchdb_that_restarts_or_freezes_is_asked_again_and_does_not_hinder_an_end(
    couch: Couch, server: ScriptedServer, start: Start, told: list[tuple[str, str | None]]
) -> None:
    server.respond = lambda _: Answer(503, {"error": "nodedown", "reason": "no"})
    replication = start(target())
    eventually(lambda: told and "503" in str(told[-1][1]))
    server.respond = couch.respond
    eventually(lambda: told[-1] == (URL, None))
    server.freeze()
    time.sleep(0.2)
    replication.stop()
    eventually(lambda: not replication._thread.is_alive())
