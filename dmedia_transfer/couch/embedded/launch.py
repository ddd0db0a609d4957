"""Start, find and stop an embedded server. Imports none of it.

The server's stdin is a pipe: the credentials go through it, and when it is closed, also because we died, the server
ends. Its stdout is a pipe: its URL comes through it, and when it comes to its end, the server has ended. So nothing
outlives us, and an event loop can watch `fileno()`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dmedia_transfer.couch.embedded.lock import Address, running
from dmedia_transfer.errors import DatabaseUnavailable

__all__ = ["Address", "EmbeddedServer", "running", "served"]

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]


def readable(fds: Sequence[int], timeout_s: float | None = None) -> list[int]:
    """Those of some descriptors that can be read, after waiting for the first; None waits for ever.

    With poll(2), as select(2) knows no descriptor above 1023, and a daemon with many connections has such.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)]


class EmbeddedServer:
    """One server process. For one thread at a time."""

    def __init__(
        self,
        file: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        user: str = "dmedia",
        password: str | None = None,
        start_timeout_s: float = 20.0,
    ) -> None:
        """Prepare a server; nothing is started yet.

        Args:
            file: The database file, which is made if it is not there; so is its folder.
            host: A loopback address.
            port: 0 for any that is free.
            user: Who may ask.
            password: None for a new random one.
            start_timeout_s: How long a start may take, in seconds.
        """
        self._file = file
        self._host = host
        self._port = port
        self._user = user
        self._password = secrets.token_urlsafe(32) if password is None else password
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._address: Address | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        """Where it listens. Only after `start`."""
        if self._address is None:
            raise DatabaseUnavailable(f"the document server of {self._file} is not started")
        return self._address

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        if self._process is None or self._process.poll() is not None:
            return False
        # A process that was killed closes its pipes a moment before it can be waited for.
        return not readable([self.fileno()], 0)

    @property
    def pid(self) -> int | None:
        """The process, if it was started."""
        return self._process.pid if self._process else None

    def fileno(self) -> int:
        """A descriptor that becomes readable when the server has ended, for whatever reason. Only after `start`."""
        if self._process is None or self._process.stdout is None:
            raise DatabaseUnavailable(f"the document server of {self._file} is not started")
        return self._process.stdout.fileno()

    def start(self) -> Address:
        """Start the server, and return when it listens. If it runs already, only say where; if it died, start anew.

        Raises:
            DatabaseUnavailable: It cannot start: another server has the file, the file is damaged, ...
        """
        if self.alive:
            return self.address
        self.stop()
        command = [sys.executable, "-P", "-m", "dmedia_transfer.couch.embedded", "--file", str(self._file)]
        command += ["--host", self._host, "--port", str(self._port)]
        command += ["--credentials-fd", "0", "--parent-fd", "0", "--ready-fd", "1"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # a Ctrl-C is for us; the server ends after us
        )
        try:
            assert self._process.stdin is not None  # noqa: S101 - it is a pipe
            self._process.stdin.write(f"{self._user}:{self._password}\n".encode())
            line = self._read_line()
        except (OSError, DatabaseUnavailable) as error:
            self.stop()
            raise DatabaseUnavailable(f"the document server of {self._file} did not start: {error}") from error
        if not line.startswith("http"):
            self.stop()
            reason = line.removeprefix("error: ") or "it ended at once"
            raise DatabaseUnavailable(f"the document server of {self._file} did not start: {reason}")
        self._address = Address(line, self._user, self._password)
        return self._address

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """End the server; what it has answered is on the disk. Does nothing if it does not run."""
        process, self._process, self._address = self._process, None, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - they are pipes
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _read_line(self) -> str:
        """The line that the server says first; empty if it ends without."""
        deadline = time.monotonic() + self._start_timeout_s
        line = b""
        fd = self.fileno()
        while not line.endswith(b"\n"):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not readable([fd], left_s):
                raise DatabaseUnavailable(f"it did not listen within {self._start_timeout_s:g} s")
            if not (byte := os.read(fd, 4096)):
                break
            line += byte
        return line.decode("utf-8", "replace").strip()


@contextlib.contextmanager
def served(file: Path) -> Iterator[Address]:
    """Where this file's server listens: the one that runs, or else one of our own, for as long as the block takes.

    Raises:
        DatabaseUnavailable: None runs, and none can be started.
    """
    if (address := running(file)) is not None:
        yield address
        return
    server = EmbeddedServer(file)
    try:
        address = server.start()
    except DatabaseUnavailable:
        if (address := running(file)) is None:  # unless somebody else was quicker
            raise
    try:
        yield address
    finally:
        server.stop()


def _environment() -> dict[str, str]:
    """Ours, so that the server is of the same package as we are, also when that is not installed."""
    environment = dict(os.environ)
    if _PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(_PACKAGE_ROOT), environment.get("PYTHONPATH", "")])
        )
    return environment
