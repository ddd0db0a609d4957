"""The nursery as the pool has it: the process that forks workers, started, asked, and reaped."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import site
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, cast

from dmedia_transfer.workers.messages import MAX_MESSAGE, Bear, Died, Kill

COMMAND: Final = (sys.executable, "-P", "-m", "dmedia_transfer.workers.forker")
SEND_TIMEOUT_S: Final = 5  # a process that reads nothing for so long is stuck
REAP_S: Final = 2.0  # a process that closed its pipe has so long to be gone


class Nursery:
    """One forker process. Not safe for threads by itself: the pool holds its lock."""

    def __init__(self, *, command: Sequence[str] = COMMAND) -> None:
        """Start it; it takes a moment until it is ready, and what it is asked meanwhile waits.

        Not multiprocessing's `forkserver`: it imports the daemon's main module again, and adds a resource tracker, a
        process that lives as long as the daemon does; and it is asked with calls that wait.

        Raises:
            OSError: It cannot be started.
        """
        self._numbers = itertools.count(1)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            limit_sending(self._socket)
            # A drive that is to be taken out must not be kept busy by a process that was started in a folder on it. And
            # a signal from the terminal is for the daemon, which then tells the worker: it is in a group of its own.
            self._popen = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                process_group=0,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._popen.pid

    def fileno(self) -> int:
        """What becomes readable when it has something to tell."""
        return self._socket.fileno()

    def bear(self, plugins: Collection[str]) -> tuple[int, Connection]:
        """Have a worker forked that can use these backends; its number, and our end of its pipe.

        If that fails, it is told later as the death of this worker.
        """
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with theirs:
            limit_sending(ours)
            self._send(Bear(number, tuple(sorted(plugins))), theirs.fileno())
        return number, Connection(ours.detach())

    def kill(self, number: int) -> None:
        """End a worker now; nothing if it has ended."""
        self._send(Kill(number))

    def receive(self) -> Died:
        """What it tells next.

        Raises:
            EOFError: It has died, and all of its workers with it, or talks nonsense.
        """
        try:
            return cast(Died, pickle.loads(self._socket.recv(MAX_MESSAGE)))  # noqa: S301 - of our own child
        except (
            EOFError,
            OSError,
            pickle.UnpicklingError,
            AttributeError,
            ImportError,
            ValueError,
            IndexError,
        ) as error:
            raise EOFError(str(error)) from error

    def close(self) -> None:
        """End it, and wait for that; all workers of it are gone, or go now."""
        self._socket.close()
        try:
            self._popen.wait(REAP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _send(self, message: Bear | Kill, *fds: int) -> None:
        with contextlib.suppress(OSError):  # it is gone, or does not read: the one shows by itself, the other is ended
            try:
                socket.send_fds(self._socket, [pickle.dumps(message)], fds)
            except BlockingIOError:
                self._popen.kill()


def limit_sending(ours: socket.socket) -> None:
    """Nobody waits for ever for a process that does not read."""
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))


def _environment() -> dict[str, str]:
    """Our own, and where this package is, in case that it is not installed."""
    home = str(Path(__file__).parents[2])
    environment = dict(os.environ)
    if home not in site.getsitepackages():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, environment.get("PYTHONPATH", "")]))
    return environment
