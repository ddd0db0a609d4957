"""A worker process as the pool has it: sent to, watched, and mourned."""

from __future__ import annotations

import contextlib
import pickle
import signal
import time
from collections.abc import Collection
from typing import Any, Final

from dmedia_transfer.errors import WorkerLost
from dmedia_transfer.model import Command, Job, LongRun
from dmedia_transfer.workers.messages import Died, Leave, Ready, WorkerSettings
from dmedia_transfer.workers.nursery import Nursery

START_S: Final = 30.0  # a machine that is very busy takes so long to start a process


class Process:
    """One worker process. Not safe for threads by itself: the pool holds its lock."""

    def __init__(self, nursery: Nursery, settings: WorkerSettings, *, plugins: Collection[str]) -> None:
        """Have it forked; it takes a moment until it is ready, and longer if it is the first one."""
        self.nursery = nursery
        self.number, self.connection = nursery.bear(plugins)
        self.pid: int | None = None  # once it is ready
        self.death: Died | None = None  # how it ended
        self.runs: dict[int, Job | LongRun] = {}  # what it is busy with, by the numbers of the runs
        self.together = False  # they were begun together
        self.idle_since = time.monotonic()
        self._deadlines: dict[int, tuple[float, float]] = {}  # when our patience ends, and how long it is, by the run
        self.leaving = False
        self._held: list[Command | Leave] = []  # until it reads; a large job would block the one who sends it
        self._send(settings)

    @property
    def gone(self) -> bool:
        """Whether it has ended, and nothing of what it said is left unread."""
        return self.death is not None and self.connection.closed

    @property
    def kill_at(self) -> float | None:
        """When our patience ends (monotonic seconds); None if it was told nothing that it has not done."""
        return min(when for when, _ in self._deadlines.values()) if self._deadlines else None

    def obey_within(self, seconds: float, run_id: int = 0) -> None:
        """It has so long to do what it is told of this run; one that is still starting has that long from then on."""
        kill_at = time.monotonic() + seconds + (START_S if self.pid is None else 0.0)
        if run_id in self._deadlines:
            kill_at = min(kill_at, self._deadlines[run_id][0])
        self._deadlines[run_id] = (kill_at, seconds)

    def may_take_its_time(self, run_id: int | None = None) -> None:
        """It has done what it was told of this run, or need not; None: of all."""
        if run_id is None:
            self._deadlines.clear()
        else:
            self._deadlines.pop(run_id, None)

    def ready(self, message: Ready) -> None:
        """It reads now."""
        self.pid = message.pid
        for run_id, (_, seconds) in list(self._deadlines.items()):
            self.obey_within(seconds, run_id)
        held, self._held = self._held, []
        for command in held:
            self._send(command)

    def send(self, command: Command | Leave) -> None:
        """Tell it something; if it is gone, that shows when its pipe is read."""
        if self.pid is not None:
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
        self.nursery.kill(self.number)

    def obituary(self) -> WorkerLost:
        """How it ended, once it has."""
        name = "a worker that was about to start" if self.pid is None else f"worker {self.pid}"
        if self.death is None or self.death.code is None:
            return WorkerLost(f"{name} ended with the process that started it")
        if self.death.why:
            return WorkerLost(self.death.why)
        code = self.death.code
        if code < 0:
            with contextlib.suppress(ValueError):
                return WorkerLost(f"{name} was killed by {signal.Signals(-code).name}")
            return WorkerLost(f"{name} was killed by signal {-code}")
        return WorkerLost(f"{name} ended with exit status {code}")

    def _send(self, message: Command | Leave | WorkerSettings) -> None:
        try:
            self.connection.send(message)
        except BlockingIOError:
            self.kill()
        except OSError:
            pass  # it is gone, and its pipe says so to the reader
