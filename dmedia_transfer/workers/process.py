"""A worker process as the pool has it: started, sent to, and reaped."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import site
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from dmedia_transfer.errors import WorkerLost
from dmedia_transfer.model import Command, Job, LongRun
from dmedia_transfer.workers.messages import Leave, WorkerSettings

COMMAND: Final = (sys.executable, "-P", "-m", "dmedia_transfer.workers.worker")
SEND_TIMEOUT_S: Final = 5  # a worker that reads nothing for so long is stuck
START_S: Final = 30.0  # a machine that is very busy takes so long to start a process
REAP_S: Final = 2.0  # a process that closed its pipe has so long to be gone


class Process:
    """One worker process. Not safe for threads by itself: the pool holds its lock."""

    def __init__(self, settings: WorkerSettings, *, command: Sequence[str] = COMMAND) -> None:
        """Start a process; it takes a moment until it is ready.

        Not multiprocessing.Process: its `spawn` imports the daemon's main module again in the child, and adds a
        resource tracker, a process that lives as long as the daemon does.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))
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
            ours.close()
            raise
        finally:
            theirs.close()
        self.connection = Connection(ours.detach())
        self.runs: dict[int, Job | LongRun] = {}  # what it is busy with, by the numbers of the runs
        self.together = False  # they were begun together
        self.idle_since = time.monotonic()
        self._deadlines: dict[int, tuple[float, float]] = {}  # when our patience ends, and how long it is, by the run
        self.leaving = False
        self._ready = False
        self._held: list[Command | Leave] = []  # until it reads; a large job would block the one who sends it
        self._send(settings)

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._popen.pid

    @property
    def kill_at(self) -> float | None:
        """When our patience ends (monotonic seconds); None if it was told nothing that it has not done."""
        return min(when for when, _ in self._deadlines.values()) if self._deadlines else None

    def obey_within(self, seconds: float, run_id: int = 0) -> None:
        """It has so long to do what it is told of this run; one that is still starting has that long from then on."""
        kill_at = time.monotonic() + seconds + (0.0 if self._ready else START_S)
        if run_id in self._deadlines:
            kill_at = min(kill_at, self._deadlines[run_id][0])
        self._deadlines[run_id] = (kill_at, seconds)

    def may_take_its_time(self, run_id: int | None = None) -> None:
        """It has done what it was told of this run, or need not; None: of all."""
        if run_id is None:
            self._deadlines.clear()
        else:
            self._deadlines.pop(run_id, None)

    def ready(self) -> None:
        """It reads now."""
        self._ready = True
        for run_id, (_, seconds) in list(self._deadlines.items()):
            self.obey_within(seconds, run_id)
        held, self._held = self._held, []
        for command in held:
            self._send(command)

    def send(self, command: Command | Leave) -> None:
        """Tell it something; if it is gone, that shows when its pipe is read."""
        if self._ready:
            self._send(command)
        else:
            self._held.append(command)

    def receive(self) -> Any:
        """Its next message.

        Raises:
            EOFError: It has died, or talks nonsense.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError, AttributeError, ImportError, ValueError) as error:
            raise EOFError(str(error)) from error

    def kill(self) -> None:
        """End it now."""
        self._popen.kill()

    def reap(self, timeout_s: float = REAP_S) -> None:
        """Wait for its end; kill it if that does not come."""
        self.connection.close()
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def obituary(self) -> WorkerLost:
        """How it ended, once it was reaped."""
        code = self._popen.returncode
        if code < 0:
            with contextlib.suppress(ValueError):
                return WorkerLost(f"worker {self.pid} was killed by {signal.Signals(-code).name}")
            return WorkerLost(f"worker {self.pid} was killed by signal {-code}")
        return WorkerLost(f"worker {self.pid} ended with exit status {code}")

    def _send(self, message: Command | Leave | WorkerSettings) -> None:
        try:
            self.connection.send(message)
        except BlockingIOError:
            self.kill()
        except OSError:
            pass  # it is gone, and its pipe says so to the reader


def _environment() -> dict[str, str]:
    """Our own, and where this package is, in case that it is not installed."""
    home = str(Path(__file__).parents[2])
    environment = dict(os.environ)
    if home not in site.getsitepackages():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, environment.get("PYTHONPATH", "")]))
    return environment
