"""An Apache CouchDB that belongs to this user: its own configuration, data and administrator, on loopback.

It is started and stopped like the embedded server. Only Apache's release layout is known: `bin/couchdb` beside
`etc/default.ini` (https://docs.couchdb.org/en/stable/config/intro.html). The node gets no name, so that it opens no
port for other nodes and does not get in the way of a CouchDB of the system.
"""

from __future__ import annotations

import configparser
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.embedded import lock
from dmedia_transfer.couch.session import Session
from dmedia_transfer.errors import DatabaseUnavailable, InvalidConfig, TransferError

log = logging.getLogger(__name__)

PROGRAMS: Final = ("/opt/couchdb/bin/couchdb", "couchdb")  # where Apache's packages have it; on the PATH
USER: Final = "dmedia"
POLL_S: Final = 0.05
# Apache's own `etc/vm.args` without the node's name.
VM_ARGS: Final = """\
-kernel error_logger silent
-kernel prevent_overlapping_partitions false
-sasl sasl_error_logger false
-ssl session_lifetime 300
+K true
+A 16
+Bd -noinput
"""


class PerUserServer:
    """One CouchDB. For one thread at a time."""

    def __init__(self, folder: Path, *, program: Path | None = None, start_timeout_s: float = 30.0) -> None:
        """Prepare a server; nothing is started yet.

        Args:
            folder: Where its files are; made if it is not there.
            program: CouchDB's `bin/couchdb`; None to look for it.
            start_timeout_s: How long a start may take, in seconds.
        """
        self._folder = folder
        self._program = program
        self._start_timeout_s = start_timeout_s
        self._lock = lock.FileLock(lock_of(folder))
        self._locked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The process, if it was started."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Address:
        """Start the server, and return when it answers. If it runs already, only say where; if it died, start anew.

        Raises:
            InvalidConfig: CouchDB is not installed.
            DatabaseUnavailable: It does not start.
        """
        program = self._program or _find_program()
        defaults = program.resolve().parent.parent / "etc" / "default.ini"
        if not defaults.is_file():
            raise InvalidConfig(f"couchdb: {program} is no CouchDB as Apache releases it: there is no {defaults}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        address = Address("", USER, SecretStr(self._password()))
        if not self.alive:
            self._end_orphan()
            self._port = self._port or _free_port()
            self._write_settings(address)
            self._process = self._spawn(program, defaults)
        address = Address(f"http://127.0.0.1:{self._port}", address.user, address.password)
        try:
            self._wait_until_up(address)
        except DatabaseUnavailable:
            self.stop()
            self._port = 0  # somebody else may have it
            raise
        self._lock.publish(lock.Address(address.url, address.user, address.password.get_secret_value()))
        return address

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """End the server. Does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._pid_file.unlink(missing_ok=True)
        if self._locked:
            self._lock.release()
            self._locked = False

    @property
    def _pid_file(self) -> Path:
        return self._folder / "pid"

    @property
    def _settings_file(self) -> Path:
        return self._folder / "dmedia.ini"

    def _take_lock(self) -> None:
        if self._locked:
            return
        try:
            self._lock.acquire(wait_s=5.0)
        except lock.Locked:
            raise DatabaseUnavailable(f"another program runs the CouchDB in {self._folder}") from None
        self._locked = True

    def _password(self) -> str:
        """The administrator's; the same in each life, because CouchDB keeps it."""
        path = self._folder / "password"
        with contextlib.suppress(FileNotFoundError):
            if password := path.read_text(encoding="ascii").strip():
                return password
        _write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii")

    def _write_settings(self, address: Address) -> None:
        data = str(self._folder / "data")
        settings = configparser.RawConfigParser()
        settings.read_dict(
            {
                "couchdb": {"single_node": "true", "database_dir": data, "view_index_dir": data},
                "cluster": {"q": "1", "n": "1"},  # one device, few writers: one shard is quicker
                "chttpd": {"bind_address": "127.0.0.1", "port": str(self._port), "require_valid_user": "true"},
                "log": {"writer": "file", "file": str(self._folder / "couchdb.log"), "level": "warning"},
                "admins": {address.user: address.password.get_secret_value()},
            }
        )
        # What CouchDB changes itself, the hash of the password for one, it writes into the last file.
        (self._folder / "local.ini").touch(mode=0o600)
        _write_private(self._folder / "vm.args", VM_ARGS)
        _write_private(self._settings_file, "")
        with self._settings_file.open("w", encoding="utf-8") as file:
            settings.write(file)

    def _spawn(self, program: Path, defaults: Path) -> subprocess.Popen[bytes]:
        files = [defaults, self._settings_file, self._folder / "local.ini"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("COUCHDB_", "ERL_"))}
        environment["COUCHDB_ARGS_FILE"] = str(self._folder / "vm.args")
        try:
            with (self._folder / "output").open("wb") as output:
                process = subprocess.Popen(
                    [program, "-couch_ini", *files],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C is for us; the server ends after us
                )
        except OSError as error:
            raise DatabaseUnavailable(f"CouchDB ({program}) does not start: {error}") from error
        self._pid_file.write_text(str(process.pid), encoding="ascii")
        return process

    def _end_orphan(self) -> None:
        """End a server that outlived us, killed as we were: two of them would ruin the files of both."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pid_file.read_text(encoding="ascii"))
            deadline = time.monotonic() + 10.0
            while str(self._settings_file).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                late = time.monotonic() > deadline
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                time.sleep(POLL_S)

    def _wait_until_up(self, address: Address) -> None:
        assert self._process is not None  # noqa: S101 - it was started
        deadline = time.monotonic() + self._start_timeout_s
        problem: TransferError | None = None
        with Session(address, connect_timeout_s=1.0, read_timeout_s=5.0) as session:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    said = (self._folder / "output").read_text(encoding="utf-8", errors="replace").strip()[-500:]
                    raise DatabaseUnavailable(f"CouchDB ended at once, see {self._folder}/couchdb.log: {said}")
                try:
                    session.json("GET", f"{address.url}/_up")
                except TransferError as error:
                    problem = error
                    time.sleep(POLL_S)
                else:
                    # It makes this one itself at its first start, but later than it says that it is up.
                    with contextlib.suppress(TransferError):  # it is there
                        session.json("PUT", f"{address.url}/_replicator")
                    return
        raise DatabaseUnavailable(f"CouchDB did not answer within {self._start_timeout_s:g} s: {problem}")


def lock_of(folder: Path) -> Path:
    """What `embedded.lock` is given for the CouchDB in this folder."""
    return folder / "couchdb"


def _find_program() -> Path:
    for name in PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    raise InvalidConfig(
        f"couchdb: `per-user` needs Apache CouchDB, but there is no {PROGRAMS[0]} and no `couchdb` on the PATH; "
        "install it (https://docs.couchdb.org/en/stable/install/unix.html) or use `embedded`"
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
