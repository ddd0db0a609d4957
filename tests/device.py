"""A device: its own home, database, buckets and session bus, and the daemon as a user has it: a process.

Tests act as users do: by editing documents, by D-Bus, and on the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from dmedia_transfer import documents, leaves
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.busnames import BUS_NAME
from dmedia_transfer.client import Client
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.identity import machine_id
from dmedia_transfer.model import random_id
from tests.bus import PrivateBus
from tests.couch import TIMEOUT_S, CouchServer
from tests.s3 import S3Server
from tests.waiting import WAIT_S as WAIT_S
from tests.waiting import eventually as eventually

_LAST_WORDS = 12_000  # characters


_devices: weakref.WeakSet[Device] = weakref.WeakSet()


def last_words() -> Iterator[tuple[str, str]]:
    """What the daemons of all devices that there are have logged last, by the device's name: for a test that fails."""
    for device in _devices:
        if log := device.log():
            yield device.folder.name, log[-_LAST_WORDS:]


class Device:
    """One machine of a library."""

    def __init__(
        self,
        folder: Path,
        *,
        bus: PrivateBus,
        couch: CouchServer | None = None,
        database: str = "dmedia",
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: str = "dmedia_transfer.cli",
    ) -> None:
        """Nothing runs yet.

        Args:
            folder: All that this device writes is in it.
            bus: Its session bus.
            couch: The database server; None for the embedded one that the daemon starts.
            database: The database's name.
            settings: More of the configuration.
            env: More of the environment: credentials, fault points.
            prefix: What the commands of this device begin with.
            program: The module that its daemon is.
        """
        self.folder = folder
        self.bus = bus
        self.couch = couch
        self.state_dir = folder / "state"
        self.store_dir = folder / "store"
        self.config_file = folder / "config.toml"
        self.database = database
        self.log_file = folder / "daemon.log"
        self.extra_env = dict(env or {})
        self.prefix = list(prefix)
        self.program = program
        self._daemon: subprocess.Popen[bytes] | None = None
        _devices.add(self)
        folder.mkdir(parents=True, exist_ok=True)
        lines: dict[str, Any] = {
            "state_dir": str(self.state_dir),
            "runtime_dir": str(folder / "run"),
            "database": database,
            "hostname": folder.name,
            "floor_bytes": 0,
            "log_level": "DEBUG",
            **(settings or {}),
        }
        if couch is not None:
            lines["couchdb"] = couch.base
        self.config_file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))

    @property
    def env(self) -> dict[str, str]:
        """The environment of this device's programs."""
        env = {**os.environ, "HOME": str(self.folder), "DMEDIA_CONFIG": str(self.config_file)}
        env["DBUS_SESSION_BUS_ADDRESS"] = self.bus.address
        env["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={self.folder}/no-bus"  # a developer's battery is none of ours
        if self.couch is not None:
            env["DMEDIA_COUCHDB_USER"] = self.couch.user
            env["DMEDIA_COUCHDB_PASSWORD"] = self.couch.password
        return env | self.extra_env

    @property
    def machine_id(self) -> str:
        """The ID of this machine."""
        return machine_id(self.state_dir)

    # The daemon.

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start the daemon and wait until it is on the bus."""
        daemon = self.launch(**env)
        eventually(self._is_on_the_bus)
        return daemon

    def launch(self, **env: str) -> subprocess.Popen[bytes]:
        """Start the daemon, and wait for nothing: it may be meant to die."""
        with self.log_file.open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", self.program, "daemon"],
                env=self.env | env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._daemon

    @property
    def is_running(self) -> bool:
        """Whether the daemon was started and has not ended."""
        return self._daemon is not None and self._daemon.poll() is None

    def _is_on_the_bus(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, f"the daemon has ended:\n{self.log()[-4000:]}"
        return self.bus.has_owner(BUS_NAME)

    def stop(self) -> int:
        """End the daemon as systemd does."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)
        return self._daemon.wait(WAIT_S)

    def kill(self) -> None:
        """End the daemon as a power failure does."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait(WAIT_S)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._daemon is not None
        return self._daemon.pid

    def workers(self) -> list[int]:
        """The processes of the daemon's workers."""
        return [worker for forker in self.forkers() for worker in _children(forker)]

    def forkers(self) -> list[int]:
        """The process that makes the workers, while there is one."""
        return [pid for pid in _children(self.pid) if b"dmedia_transfer.workers" in _command(pid)]

    def log(self) -> str:
        """All that the daemon has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def close(self) -> None:
        """Leave nothing running."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            try:
                self._daemon.wait(10)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait(WAIT_S)

    # Acting as a user.

    def client(self) -> Client:
        """A local app's connection to the daemon."""
        return Client(self.bus.address)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "dmedia_transfer.cli", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}\n{self.log()[-4000:]}"
        return done

    def add_filestore(self, folder: Path | None = None) -> str:
        """Give this machine a FileStore, as `stores add-filestore` does."""
        store_id = random_id()
        root = folder or self.store_dir
        FileStore.create(root, store_id)
        Bindings(self.state_dir / "stores.json").add_filestore(store_id, root)
        raw = documents.new_store(store_id, "filestore", time=time.time(), machine_id=self.machine_id)
        self.put(raw)
        return store_id

    def add_store(self, raw: Mapping[str, Any], *, enable: bool = True) -> str:
        """Put a store's document, and enable it here."""
        self.put(raw)
        if enable:
            Bindings(self.state_dir / "stores.json").enable(raw)
        return str(raw["_id"])

    def add_s3(self, server: S3Server, *, url: str = "", **settings: Any) -> str:
        """Use a bucket of this server, maybe through a proxy."""
        spec = server.spec(url=url, store_id=random_id(), **settings)
        raw = documents.new_store(spec.store_id, "s3", time=time.time(), **dict(spec.settings))
        return self.add_store(raw)

    def add_file(self, data: bytes, *stored: str, **facts: Any) -> str:
        """Put the document of a file with this content."""
        digests = b"".join(
            leaves.leaf_digest(data[start : start + leaves.LEAF_BYTES])
            for start in range(0, len(data), leaves.LEAF_BYTES)
        )
        file_id = leaves.file_id(digests)
        lines = {store_id: {"copies": 1, "time": time.time()} for store_id in stored}
        self.put(documents.new_file(file_id, len(data), digests, time=time.time(), stored=lines, **facts))
        return file_id

    # Documents, as another device or a database tool sees them.

    @contextlib.contextmanager
    def http(self) -> Iterator[tuple[requests.Session, str]]:
        """A session and the database's URL."""
        assert self.couch is not None
        with self.couch.session() as session:
            yield session, f"{self.couch.base}/{quote(self.database, safe='')}"

    def get(self, document_id: str) -> dict[str, Any]:
        """A document."""
        with self.http() as (session, url):
            answer = session.get(f"{url}/{document_id}", timeout=TIMEOUT_S)
            answer.raise_for_status()
            return dict(answer.json())

    def put(self, raw: Mapping[str, Any]) -> str:
        """Write a document; returns its revision."""
        with self.http() as (session, url):
            answer = session.put(f"{url}/{raw['_id']}", json=raw, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return str(answer.json()["rev"])

    def edit_machine(self, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Edit this machine's document, as another device would: read it, change it, write it, again on a conflict."""
        while True:
            raw = self.get(self.machine_id)
            change(raw)
            try:
                raw["_rev"] = self.put(raw)
            except requests.HTTPError as error:
                if error.response.status_code != requests.codes.conflict:
                    raise
            else:
                return raw

    def queue(self, *entries: Mapping[str, Any] | str) -> None:
        """Put entries at the end of the queue."""
        self.edit_machine(lambda raw: raw["queue"].extend(entries))

    def queued(self) -> list[Any]:
        """The queue as the database has it."""
        return list(self.get(self.machine_id)["queue"])

    def path_of(self, file_id: str) -> Path:
        """Where the file is published."""
        return self.store_dir / "files" / file_id[:2] / file_id


def _children(pid: int) -> list[int]:
    try:
        tasks = [task.joinpath("children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:  # it has just ended, or a thread of it has
        return []
    return [int(child) for children in tasks for child in children.split()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
