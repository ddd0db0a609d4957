"""A machine that serves its peers, in a process of its own, and clients with the keys of other machines."""

from __future__ import annotations

import http.client
import queue
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from pydantic import SecretStr

from dmedia_transfer import documents
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.peers import tls
from dmedia_transfer.peers.server.launch import PeerServer, trusted
from dmedia_transfer.peers.server.messages import DatabaseAt, Limits, Setup, Stored
from dmedia_transfer.peers.trust import Trust
from tests import factories
from tests.peers import Machine, make_machine
from tests.waiting import WAIT_S
from tests.waiting import eventually as eventually

TIMEOUT_S = WAIT_S


class Host:
    """A machine with a FileStore, a database and a server for peers."""

    def __init__(self, folder: Path, database: tuple[str, str], **settings: Any) -> None:
        self.folder = folder
        self.machine = make_machine(folder / "state")
        store_id = settings.pop("store_id", factories.STORE_ID)
        self.store = FileStore.create(folder / "store", store_id)
        self.store.floor_bytes = 0
        Bindings(folder / "state" / "stores.json").add_filestore(store_id, folder / "store")
        self.journal = Journal(folder / "state" / "journal.sqlite", owner=True)
        self.trust = Trust(folder / "state" / "peers.json")
        self._database = database
        url, name = urlsplit(database[0]), database[1]
        self.setup = Setup(
            state_dir=folder / "state",
            host="127.0.0.1",
            port=0,
            floor_bytes=0,
            floor_percent=0,
            stall_s=settings.pop("stall_s", 30.0),
            expire_s=settings.pop("expire_s", 3600.0),
            log_level="INFO",
            database=DatabaseAt(
                url=f"{url.scheme}://{url.hostname}:{url.port}",
                user=unquote(url.username or ""),
                password=SecretStr(unquote(url.password or "")),
                name=name,
            ),
            trusted=trusted(()),
            limits=Limits(),
            **settings,
        )
        self.listening: queue.Queue[int] = queue.Queue()
        self.stored: queue.Queue[Stored] = queue.Queue()
        self.problems: queue.Queue[str | None] = queue.Queue()
        self.port = 0
        self.server: PeerServer | None = None

    def start(self) -> None:
        """Run the server; returns when it can be reached."""
        self.server = PeerServer(
            self.setup,
            call_soon=lambda callback, *arguments: callback(*arguments),
            on_listening=self.listening.put,
            on_stored=self.stored.put,
            on_problem=self.problems.put,
        )
        self.server.trust(self.trust.peers())
        self.server.start()
        self.port = self.listening.get(timeout=TIMEOUT_S)

    def stop(self) -> None:
        """End the server."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    def close(self) -> None:
        """End all."""
        self.stop()
        self.journal.close()

    def see(self, raw: dict[str, Any]) -> None:
        """A machine document came in, as from the feed."""
        if self.trust.on_machine(raw) and self.server is not None:
            self.server.trust(self.trust.peers())

    def publish(self, data: bytes) -> FileSpec:
        """Put a file into the FileStore."""
        file = factories.file_spec(data)
        with self.store.partial(file.file_id, file.size) as partial:
            for start in range(0, len(data), 8 * 1024 * 1024):
                partial.write_leaf(start // (8 * 1024 * 1024), memoryview(data)[start : start + 8 * 1024 * 1024])
            partial.publish()
        return file

    def document(self, data: bytes) -> FileSpec:
        """Put the document of a file into the library."""
        file = factories.file_spec(data)
        raw = documents.new_file(file.file_id, file.size, file.leaf_digests, time=1.0, stored={})
        answer = requests.put(f"{self._database[0]}/{self._database[1]}/{file.file_id}", json=raw, timeout=TIMEOUT_S)
        assert answer.status_code == 201, answer.text
        return file

    def spec(self, sender: Machine, **settings: Any) -> StoreSpec:
        """Its FileStore, as another machine of the library has it."""
        known = {
            "machine_id": self.machine.id,
            "addresses": [f"127.0.0.1:{self.port}"],
            "certificates": [each.text for each in self.machine.identity.published],
            "identity_dir": str(sender.state_dir),
        }
        return StoreSpec(self.store.store_id, "peer", {**known, **settings}, cost=10)

    @property
    def memory_bytes(self) -> int:
        """What the server's process has in memory now."""
        assert self.server is not None
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    @property
    def open_files(self) -> int:
        """How many descriptors the server's process has open."""
        assert self.server is not None
        return len(list(Path(f"/proc/{self.server.pid}/fd").iterdir()))


class Client:
    """One connection of a machine to a host."""

    def __init__(self, machine: Machine, host: Host, *, context: ssl.SSLContext | None = None) -> None:
        context = context or tls.client_context(machine.identity, [host.machine.certificate])
        self.http = http.client.HTTPSConnection("127.0.0.1", host.port, timeout=TIMEOUT_S, context=context)

    def __call__(
        self, method: str, path: str, body: Any = None, **headers: Any
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request: status, headers, body. `upload_offset=5` is the header `Upload-Offset: 5`."""
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        self.http.request(method, path, body=body, headers=named)
        with self.http.getresponse() as response:
            return response.status, response.headers, response.read()

    def is_let_in(self) -> bool:
        """Whether the host answers us."""
        try:
            return self("OPTIONS", "/uploads")[0] == 204
        except OSError:
            self.http.close()
            return False

    def close(self) -> None:
        self.http.close()


@contextmanager
def connected(machine: Machine, host: Host, **options: Any) -> Iterator[Client]:
    """A connection, closed at the end."""
    client = Client(machine, host, **options)
    try:
        yield client
    finally:
        client.close()


def curl(machine: Machine, host: Host, path: str, *options: str) -> tuple[int, dict[str, str], bytes]:
    """What curl gets with a machine's own certificate: status, headers in lower case, body."""
    program = shutil.which("curl")
    assert program, "curl is needed for this test"
    pinned = host.folder / "pinned.pem"
    pinned.write_text(host.machine.certificate.pem)
    name = f"{host.machine.id.lower()}.dmedia.invalid"
    command: Sequence[str] = (
        program, "--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", str(TIMEOUT_S),
        "--cert", str(machine.identity.file), "--cacert", str(pinned),
        "--resolve", f"{name}:{host.port}:127.0.0.1", *options, f"https://{name}:{host.port}{path}",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S + 5, check=False)
    assert done.returncode == 0, done.stderr.decode()
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.fixture
def host(tmp_path: Path, database: tuple[str, str], phone: Machine) -> Iterator[Host]:
    """A machine that serves its peers, and knows the phone."""
    host = Host(tmp_path / "host", database)
    try:
        host.see(phone.document())
        host.start()
        yield host
    finally:
        host.close()


@pytest.fixture
def phone(tmp_path: Path) -> Machine:
    """Another machine of the library."""
    return make_machine(tmp_path / "phone")


@pytest.fixture
def client(host: Host, phone: Machine) -> Iterator[Client]:
    """The phone's connection to the host."""
    with connected(phone, host) as client:
        yield client
