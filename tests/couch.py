"""Fixtures: a document server to test against, and a fresh database in it.

It is the embedded one, or, where DMEDIA_TEST_COUCHDB_URL says so, any CouchDB: `http://user:password@host:port` of an
administrator. Tests that use these fixtures hold for both.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.embedded.launch import EmbeddedServer
from tests.waiting import WAIT_S

TIMEOUT_S = WAIT_S


@dataclass(frozen=True, slots=True)
class CouchServer:
    """A document server and who may ask."""

    base: str  # without credentials, without a slash at the end
    user: str
    password: str
    embedded: bool  # whether it is ours

    @property
    def url(self) -> str:
        """The URL with credentials."""
        scheme, _, rest = self.base.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{rest}"

    def session(self) -> requests.Session:
        """A session that may ask."""
        session = requests.Session()
        session.trust_env = False
        session.auth = (self.user, self.password)
        session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
        return session


class CouchDb:
    """A database over HTTP, with a session that may ask."""

    def __init__(self, session: requests.Session, base: str) -> None:
        self.session = session
        self.base = base

    def __call__(self, method: str, path: str = "", **options: Any) -> requests.Response:
        """One request; `path` begins after the database."""
        options.setdefault("timeout", TIMEOUT_S)
        return self.session.request(method, self.base + path, **options)

    def put(self, id: str, document: dict[str, Any]) -> str:
        """Store a document; its revision."""
        response = self("PUT", f"/{quote(id, safe='')}", json=document)
        assert response.status_code == (200 if document.get("_deleted") else 201), response.text
        return str(response.json()["rev"])

    def get(self, id: str, **query: str) -> dict[str, Any]:
        """Read a document."""
        response = self("GET", f"/{quote(id, safe='')}", params=query)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def bulk(self, documents: list[dict[str, Any]], *, new_edits: bool = True) -> list[dict[str, Any]]:
        """Store many documents; the rows of the answer."""
        response = self("POST", "/_bulk_docs", json={"docs": documents, "new_edits": new_edits})
        assert response.status_code == 201, response.text
        return list(response.json())

    def changes(self, **query: str) -> dict[str, Any]:
        """What has changed."""
        response = self("GET", "/_changes", params=query)
        assert response.status_code == 200, response.text
        return dict(response.json())


@pytest.fixture(scope="session")
def couchdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CouchServer]:
    """A document server, one for all tests of a process."""
    if given := os.environ.get("DMEDIA_TEST_COUCHDB_URL"):
        parts = urlsplit(given)
        host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        yield CouchServer(f"{parts.scheme}://{host}", parts.username or "", parts.password or "", embedded=False)
        return
    file: Path = tmp_path_factory.mktemp("couch") / "couch.sqlite"
    with EmbeddedServer(file) as server:
        address = server.address
        yield CouchServer(address.url, address.user, address.password, embedded=True)


@pytest.fixture
def database(couchdb_server: CouchServer) -> Iterator[tuple[str, str]]:
    """The server's URL with credentials, and the name of a database that is made and removed for the test."""
    name = f"test-{uuid.uuid4().hex}"
    with couchdb_server.session() as session:
        session.put(f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S).raise_for_status()
        yield couchdb_server.url, name
        session.delete(f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S)


@pytest.fixture
def couch_db(couchdb_server: CouchServer, database: tuple[str, str]) -> Iterator[CouchDb]:
    """A database that is made and removed for the test, ready to ask."""
    with couchdb_server.session() as session:
        yield CouchDb(session, f"{couchdb_server.base}/{database[1]}")


@pytest.fixture
def couch(database: tuple[str, str]) -> Iterator[Database]:
    """As `database`, through the client that the daemon has for it."""
    url, name = database
    opened = Database(Address.parse(url), name)
    yield opened
    opened.close()
