"""The REST API of a machine whose manager is not real, and clients of it: by TCP, and by the Unix socket."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from dmedia_transfer import documents
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.couch.machinequeue import OtherMachineQueue, read_status
from dmedia_transfer.filestore import FileStore, FileStores
from dmedia_transfer.journal import Journal
from dmedia_transfer.localstores import LocalStores
from dmedia_transfer.merge import apply
from dmedia_transfer.model import AddFile, Entry, FileSpec, QueueEdit
from dmedia_transfer.web.edges import Edges, Receiver
from dmedia_transfer.web.server import WebServer
from tests.control import FakeControl
from tests.factories import MACHINE_ID, STORE_ID
from tests.jobcontrol import FakeJobs

TIMEOUT_S = 20.0
SECRET = "s" * 43

T = TypeVar("T")


class MainThread:
    """Stands for the daemon's main loop: calls are done one after the other, on one thread."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Do it, some time."""
        self._calls.put(function)

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do it, and wait for it."""
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put((function(*args, **kwargs), None))
            except BaseException as error:
                answers.put((None, error))

        self.call_soon(work)
        result, error = answers.get(timeout=TIMEOUT_S)
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # None only where T is None

    def stop(self) -> None:
        """End."""
        self._calls.put(None)
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


@dataclass
class MemoryDocuments:
    """A library in memory."""

    raws: dict[str, dict[str, Any]] = field(default_factory=dict)
    fail_with: Exception | None = None
    reads: int = 0

    def get(self, document_id: str) -> Mapping[str, Any] | None:
        self._read()
        return self.raws.get(document_id)

    def get_machine(self, machine_id: str) -> Mapping[str, Any] | None:
        return self.get(machine_id)

    def get_many(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        self._read()
        return {each: self.raws[each] for each in ids if each in self.raws}

    def find(self, selector: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        self._read()
        return [raw for raw in self.raws.values() if all(raw.get(key) == value for key, value in selector.items())]

    def find_files(self, text: str) -> Sequence[Mapping[str, Any]]:
        found = self.find({"type": documents.FILE})
        return [raw for raw in found if raw["_id"].startswith(text) or raw.get("name") == text]

    def put(self, raw: Mapping[str, Any]) -> str:
        self.raws[raw["_id"]] = dict(raw)
        return "1-a"

    def edit_machine(
        self, machine_id: str, edits: Sequence[QueueEdit], *, base: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        self.raws[machine_id] = apply(self.raws[machine_id], edits)
        return self.raws[machine_id]

    def _read(self) -> None:
        self.reads += 1
        if self.fail_with is not None:
            raise self.fail_with


class WebHost:
    """A machine with a REST API. The manager is a `FakeControl`, documents are in memory, the rest is real."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = MainThread()
        self.control = FakeControl()
        self.jobs = FakeJobs(self.control)
        self.entered: list[AddFile] = []  # files that were sent
        self.documents = MemoryDocuments()
        self.documents.put(documents.new_machine(MACHINE_ID, "desk", time=1.0))
        self.bindings = Bindings(folder / "stores.json")
        self.filestores = FileStores(self.bindings.filestores, floor_bytes=0)
        self.stores = LocalStores(bindings=self.bindings, filestores=self.filestores, plugins=lambda: ["memory"])
        self.journal = Journal(folder / "journal.sqlite", owner=True)
        self.socket_path = folder / "run" / "web.sock"
        self.server = WebServer(
            self.edges(),
            secret=SECRET,
            host="127.0.0.1",
            port=0,
            socket_path=self.socket_path,
            call_soon=self.main.call_soon,
        )

    def edges(self) -> Edges:
        """What the daemon would hand in."""
        return Edges(
            machine_id=MACHINE_ID,
            hostname="desk",
            control=self.control,
            jobs=self.jobs,
            documents=self.documents,
            machine_queue=lambda machine_id: OtherMachineQueue(self.documents, machine_id),
            machine_status=read_status,
            stores=self.stores,
            filestores=self.filestores,
            history=self.journal.ledger.history,
            uploads=self.journal.uploads,
            receiver=Receiver(self.folder / "uploads", self.journal.leaves, self._enter, expire_s=3600.0),
        )

    def _enter(self, file: AddFile, entries: Sequence[Entry]) -> None:
        self.entered.append(file)
        self.control.queue(entries)

    def start(self) -> None:
        """Listen."""
        assert self.main.call(self.server.start) == []

    def close(self) -> None:
        """Leave nothing running."""
        self.main.call(self.server.stop)
        self.main.stop()
        self.journal.close()

    def cut(self) -> None:
        """Cut all connections, as a network does."""
        doors, loop = self.server._doors, self.server._loop
        assert doors is not None

        def abort() -> None:
            for guest in list(doors._guests.values()):
                guest.transport.abort()

        loop.call_soon_threadsafe(abort)

    def keep_events(self, count: int) -> None:
        """Of the events, only so many are kept from now on."""
        self.server._api.stream._kept_events = count

    def add_filestore(self, store_id: str = STORE_ID, **facts: Any) -> FileStore:
        """Give it a FileStore."""
        root = self.folder / store_id
        FileStore.create(root, store_id)
        self.bindings.add_filestore(store_id, root)
        raw = documents.new_store(store_id, "filestore", time=1.0, machine_id=MACHINE_ID, **facts)
        self.documents.put(raw)
        self.stores.on_store(raw)
        return self.filestores.get(store_id)

    def add_file(self, file: FileSpec, *stored: str, **facts: Any) -> None:
        """There is a document of this file."""
        lines = {store_id: {"copies": 1, "time": 1.0} for store_id in stored}
        self.documents.put(
            documents.new_file(file.file_id, file.size, file.leaf_digests, time=1.0, stored=lines, **facts)
        )

    @property
    def url(self) -> str:
        """Where it is by TCP."""
        return f"http://127.0.0.1:{self.server.port}"

    def ask(self, method: str, path: str, **settings: Any) -> requests.Response:
        """Ask as a program does, with the token."""
        headers = {"Authorization": f"Bearer {SECRET}", **settings.pop("headers", {})}
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=TIMEOUT_S, allow_redirects=False, **settings
        )

    def get(self, path: str) -> Any:
        """What is there."""
        answer = self.ask("GET", f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Do something."""
        answer = self.ask("POST", f"/api/v1{path}", **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        return answer.json()

    def raw(self, method: str, path: str, headers: Mapping[str, str], *, body: bytes = b"") -> tuple[int, bytes]:
        """Ask with exactly these headers, and no others but the length."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=TIMEOUT_S) as connection:
            return _exchange(connection, method, path, headers, body)

    def by_socket(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, *, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Ask through the Unix socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(self.socket_path))
            return _exchange(connection, method, path, {"Host": "localhost", **(headers or {})}, body)


def _exchange(
    connection: socket.socket, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    lines += ["Connection: close", f"Content-Length: {len(body)}", "", ""]
    connection.sendall("\r\n".join(lines).encode() + body)
    answer = http.client.HTTPResponse(connection, method=method)
    answer.begin()
    return answer.status, answer.read()


@dataclass(frozen=True)
class Told:
    """An event as a reader gets it."""

    id: str
    kind: str
    data: Any

    @property
    def number(self) -> int:
        """Its place in this run of the daemon."""
        return int(self.id.partition(".")[2])


class Reader:
    """A reader of events."""

    def __init__(self, host: WebHost, last_event_id: str = "") -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        self._answer = requests.get(f"{host.url}/api/v1/events", headers=headers, stream=True, timeout=TIMEOUT_S)
        assert self._answer.status_code == 200, self._answer.text
        self.content_type = self._answer.headers["Content-Type"]
        self._lines = self._answer.iter_lines(chunk_size=1)

    def next(self) -> Told:
        """The next event."""
        fields: dict[str, str] = {}
        for line in self._lines:
            text = line.decode()
            if not text and "event" in fields:
                return Told(fields["id"], fields["event"], json.loads(fields["data"]))
            name, _, value = text.partition(": ")
            fields[name] = value
        raise EOFError

    def until(self, found: Callable[[Told], bool]) -> list[Told]:
        """The events up to the first that is such a one."""
        told: list[Told] = []
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            told.append(self.next())
            if found(told[-1]):
                return told
            assert time.monotonic() < deadline, told

    def close(self) -> None:
        """Go away."""
        self._answer.close()


@contextmanager
def reading(host: WebHost, last_event_id: str = "") -> Iterator[Reader]:
    """Read events for a while."""
    reader = Reader(host, last_event_id)
    try:
        yield reader
    finally:
        reader.close()


@pytest.fixture(scope="module")
def module_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebHost]:
    """A machine with a REST API for all tests of a module, which leave nothing behind."""
    host = WebHost(tmp_path_factory.mktemp("web"))
    host.start()
    yield host
    host.close()


@pytest.fixture
def web(module_web: WebHost) -> Iterator[WebHost]:
    """The machine, its manager as new."""
    yield module_web
    module_web.documents.fail_with = None
    module_web.main.call(module_web.control.reset)
    module_web.main.call(module_web.jobs.reset)
