"""PouchDB, which others have written, is in sync with the built-in server and with this program's own replicator."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.replication import Replication, Target
from tests.couch import CouchDb, CouchServer
from tests.factories import MACHINE_ID
from tests.waiting import WAIT_S

FOLDER = Path(__file__).parents[1] / "javascript"
A, B, C = "a" * 32, "b" * 32, "c" * 32


class Pouch:
    """A device with PouchDB."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have it do something; see `peer.mjs`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer["ok"]


class Phone:
    """One database in PouchDB, and where it is in sync with."""

    def __init__(self, pouch: Pouch, server: CouchServer, db: CouchDb) -> None:
        self._pouch = pouch
        self._name = uuid.uuid4().hex
        self._server = {"url": db.base, "user": server.user, "password": server.password}

    def put(self, *documents: dict[str, Any], new_edits: bool = True) -> list[Any]:
        """Write documents."""
        return list(self._pouch.ask("put", db=self._name, docs=documents, new_edits=new_edits))

    def replicate(self, way: str) -> list[dict[str, Any]]:
        """Bring over what there is, once."""
        return list(self._pouch.ask("replicate", db=self._name, way=way, **{"with": self._server}))

    def view(self) -> dict[str, Any]:
        """All leaves of all documents, and the winners."""
        return {id: _sorted(each) for id, each in self._pouch.ask("view", db=self._name).items()}

    def ask(self, do: str, **arguments: Any) -> Any:
        """Anything else."""
        return self._pouch.ask(do, db=self._name, **arguments)

    def follow(self) -> None:
        """Stay in sync, both ways."""
        self._pouch.ask("follow", db=self._name, way="sync", **{"with": self._server})


@pytest.fixture(scope="module")
def pouch() -> Iterator[Pouch]:
    """Node with PouchDB, for all tests here."""
    assert (FOLDER / "node_modules" / "pouchdb-core").is_dir(), "run `make test`, which installs PouchDB"
    process = subprocess.Popen(
        ["node", "peer.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Pouch(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def phone(pouch: Pouch, couchdb_server: CouchServer, couch_db: CouchDb) -> Phone:
    """A phone that knows the server."""
    return Phone(pouch, couchdb_server, couch_db)


def server_view(db: CouchDb) -> dict[str, Any]:
    """The server's documents in the form of `Phone.view`."""
    view: dict[str, Any] = {}
    for row in db.changes(style="all_docs")["results"]:
        rows = db("GET", f"/{row['id']}", params={"open_revs": "all", "revs": "true"}).json()
        view[row["id"]] = {"leaves": [one["ok"] for one in rows]}
        if not row.get("deleted"):
            view[row["id"]]["winner"] = db.get(row["id"], conflicts="true")
    return {id: _sorted(each) for id, each in view.items()}


def _sorted(each: dict[str, Any]) -> dict[str, Any]:
    """A document's leaves in an order that both sides share, of attachments only what both say of them."""
    for document in [*each["leaves"], each.get("winner", {})]:
        for attachment in document.get("_attachments", {}).values():
            for key in ("stub", "revpos"):
                attachment.pop(key, None)
    return {**each, "leaves": sorted(each["leaves"], key=lambda document: str(document["_rev"]))}


def film(data: bytes) -> dict[str, Any]:
    """A document with an attachment."""
    attachment = {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode()}
    return {"_id": "film", "type": "dmedia/file", "name": "ü", "_attachments": {"leaves": attachment}}


def conflict(id: str) -> list[dict[str, Any]]:
    """Two leaves that descend from one revision."""
    return [
        {"_id": id, "_rev": f"2-{leaf}", "v": leaf[0], "_revisions": {"start": 2, "ids": [leaf, A]}} for leaf in (B, C)
    ]


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.05)


def test_a_phone_gets_all_that_the_server_has(phone: Phone, couch_db: CouchDb) -> None:
    data = os.urandom(70_000)
    couch_db.bulk([film(data), *({"_id": f"d{n}", "n": n} for n in range(20))])
    couch_db.bulk(conflict("split"), new_edits=False)
    couch_db("DELETE", "/d3", params={"rev": couch_db.get("d3")["_rev"]})
    (done,) = phone.replicate("from")
    assert (done["docs_written"], done["doc_write_failures"]) == (23, 0)
    assert phone.view() == server_view(couch_db)
    assert phone.view()["split"]["winner"]["_conflicts"] == [f"2-{B}"]
    assert base64.b64decode(phone.ask("read", id="film", attachment="leaves")) == data


def test_the_server_gets_all_that_a_phone_has(phone: Phone, couch_db: CouchDb) -> None:
    data = os.urandom(70_000)
    phone.put(film(data), *({"_id": f"d{n}", "n": n} for n in range(20)))
    phone.put(*conflict("split"), new_edits=False)
    phone.ask("remove", id="d3")
    (done,) = phone.replicate("to")
    assert (done["docs_written"], done["doc_write_failures"]) == (23, 0)
    assert server_view(couch_db) == phone.view()
    assert couch_db("GET", "/film/leaves").content == data


def test_a_second_time_goes_on_from_the_checkpoint(phone: Phone, couch_db: CouchDb) -> None:
    couch_db.bulk([{"_id": f"d{n}"} for n in range(20)])
    phone.replicate("from")
    couch_db.put("new", {})
    (done,) = phone.replicate("from")
    assert (done["docs_read"], done["docs_written"]) == (1, 1)
    phone.put({"_id": "newer"})
    phone.replicate("to")
    phone.put({"_id": "newest"})
    (done,) = phone.replicate("to")
    assert done["docs_written"] == 1
    assert server_view(couch_db) == phone.view()


def test_edits_on_both_sides_become_a_conflict_that_both_see_alike(phone: Phone, couch_db: CouchDb) -> None:
    couch_db.put("film", film(b"leaves"))
    phone.replicate("sync")
    couch_db.put("film", {**couch_db.get("film"), "n": "server"})
    phone.put({**phone.view()["film"]["winner"], "n": "phone", "_attachments": film(b"other")["_attachments"]})
    phone.replicate("sync")
    assert server_view(couch_db) == phone.view()
    assert len(phone.view()["film"]["leaves"]) == 2
    loser = phone.view()["film"]["winner"]["_conflicts"][0]
    couch_db("DELETE", "/film", params={"rev": loser})
    phone.replicate("sync")
    assert "_conflicts" not in phone.view()["film"]["winner"]
    assert server_view(couch_db) == phone.view()


def test_a_phone_that_follows_hears_and_tells_at_once(phone: Phone, couch_db: CouchDb) -> None:
    phone.follow()
    couch_db.put("from-server", {"n": 1})
    eventually(lambda: "from-server" in phone.view())
    phone.put({"_id": "from-phone", "n": 1}, film(b"leaves"))
    eventually(lambda: couch_db("GET", "/film/leaves").content == b"leaves")
    couch_db.put("from-phone", {**couch_db.get("from-phone"), "n": 2})
    # A document that is just being replaced is in no listing of PouchDB's.
    eventually(lambda: phone.view().get("from-phone", {}).get("winner", {}).get("n") == 2)
    phone.ask("rest")
    assert server_view(couch_db) == phone.view()


def test_a_phone_and_a_device_in_sync_with_one_server_see_the_same(
    phone: Phone, couch_db: CouchDb, couchdb_server: CouchServer
) -> None:
    name = f"test-{uuid.uuid4().hex}"
    address = Address.parse(couchdb_server.url)
    told: list[str | None] = []
    replication = Replication(
        address,
        name,
        [Target(couch_db.base, address, couch_db.base.rpartition("/")[2])],
        machine_id=MACHINE_ID,
        call_soon=lambda callback, *arguments: callback(*arguments),
        on_state=lambda _, problem: told.append(problem),
    )
    with couchdb_server.session() as session:
        device = CouchDb(session, f"{couchdb_server.base}/{name}")
        assert device("PUT").status_code == 201
        try:
            phone.put(film(b"leaves"), {"_id": "both", "n": 0})
            device.put("theirs", {"n": 1})
            replication.start()
            phone.follow()
            eventually(lambda: "theirs" in phone.view() and "both" in server_view(device))
            device.put("both", {**device.get("both"), "n": "device"})
            phone.put({**phone.view()["both"]["winner"], "n": "phone"})
            phone.put(*conflict("split"), new_edits=False)
            eventually(lambda: "split" in server_view(device) and phone.view() == server_view(device))
            assert server_view(couch_db) == server_view(device)
            assert told == [None]
        finally:
            phone.ask("rest")
            replication.stop()
            device("DELETE")
