"""One server per file, and where that one listens.

Beside the file `couch.sqlite` there is `couch.sqlite.lock`, which its server keeps locked for as long as it lives; the
kernel lets go of it however the server ends. While the server listens, the lock file says where, and who may ask; only
its owner can read it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path


class Locked(Exception):
    """Another server has the file."""


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach a server."""

    url: str  # `http://127.0.0.1:PORT`
    user: str
    password: str = field(repr=False)


def _path(file: Path) -> Path:
    return file.with_name(file.name + ".lock")


class FileLock:
    """The lock of one database file."""

    def __init__(self, file: Path) -> None:
        self._path = _path(file)
        self._fd: int | None = None

    def acquire(self, *, wait_s: float = 0.0) -> None:
        """Take the lock.

        Args:
            wait_s: How long to wait for a server that is about to end, in seconds.

        Raises:
            Locked: Another server has it.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    raise Locked(f"another server has {self._path}") from None
                time.sleep(0.02)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        self._fd = fd

    def publish(self, address: Address) -> None:
        """Say where the server listens."""
        assert self._fd is not None  # noqa: S101 - the lock is held
        text = json.dumps({"url": address.url, "user": address.user, "password": address.password})
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Let go of the lock."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def running(file: Path) -> Address | None:
    """Where the server of this file listens; None if none does."""
    try:
        fd = os.open(_path(file), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(fd, 65536)
        else:
            return None
    finally:
        os.close(fd)
    try:
        return Address(**json.loads(text))
    except ValueError:
        return None  # it has the lock, but does not listen yet
