"""The backends that the contract is held against, each over a real store."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.backends.peer import PeerBackend
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.ports import Backend
from tests import factories
from tests.couch import TIMEOUT_S, CouchServer
from tests.peers import make_machine
from tests.peerserver import Host
from tests.s3 import EXTERNAL_URL, Abilities, S3Server


@dataclass(frozen=True)
class Subject:
    """A store, and how to make a backend for it."""

    make: Callable[[], Backend]  # as another worker would: it knows nothing of the others
    abilities: Abilities
    part_bytes: int = 64 * 1024  # of a test's parts; as small as the store takes them
    expect: Callable[[bytes], FileSpec] = factories.file_spec  # tells the store of a file, where it has to know it

    def content(self, parts: float) -> bytes:
        """New bytes, enough for so many parts; no other test has the same."""
        return factories.content(int(parts * self.part_bytes), seed=secrets.randbits(64))

    def file(self, parts: float = 1, *, ext: str = "", mime: str = "") -> tuple[bytes, FileSpec]:
        """A new file and its content."""
        data = self.content(parts)
        self.expect(data)
        return data, factories.file_spec(data, ext=ext, mime=mime)

    def slices(self, data: bytes) -> list[bytes]:
        """The content of each part."""
        return [data[start : start + self.part_bytes] for start in range(0, len(data), self.part_bytes)]


def _of_server(server: S3Server, *, part_bytes: int = 64 * 1024) -> Subject:
    return Subject(lambda: server.backend(prefix="contract/"), server.abilities, part_bytes)


def _memory(**settings: object) -> Subject:
    spec = StoreSpec(secrets.token_hex(12), "memory", settings)
    return Subject(lambda: MemoryBackend(spec, stall_s=10.0, connections=4), Abilities())


PEER_ABILITIES = Abilities(
    lists_checksums=False,  # but for parts that are leaves
    knows_content=True,
    tells_etags=False,
    deletes=False,
    lists_uploads=False,
)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, couchdb_server: CouchServer) -> Iterator[Subject]:
    """Another machine's FileStore."""
    folder, name = tmp_path_factory.mktemp("peer"), f"contract-{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(couchdb_server.session())
        session.put(f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S).raise_for_status()
        stack.callback(session.delete, f"{couchdb_server.base}/{name}", timeout=TIMEOUT_S)
        host, phone = Host(folder / "host", (couchdb_server.url, name)), make_machine(folder / "phone")
        stack.callback(host.close)
        host.see(phone.document())
        host.start()

        def make() -> Backend:
            return PeerBackend(host.spec(phone), stall_s=10.0, connections=4, part_bytes=64 * 1024)

        yield Subject(make, PEER_ABILITIES, expect=host.document)


@pytest.fixture(params=["memory", "moto", "rclone", "peer", *(["external"] if EXTERNAL_URL else [])])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each store in turn."""
    match request.param:
        case "memory":
            return _memory()
        case "peer":
            return cast(Subject, request.getfixturevalue("peer"))
        case "external":  # real ones take no smaller part than 5 MiB, but for the last
            return _of_server(request.getfixturevalue("external_s3"), part_bytes=5 * 1024 * 1024)
        case name:
            return _of_server(request.getfixturevalue(f"{name}_s3"))


@pytest.fixture
def backend(subject: Subject) -> Iterator[Backend]:
    """A backend for it."""
    backend = subject.make()
    yield backend
    backend.close()
