"""A handle on one long job: an import, or the verification of a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dmedia_transfer import busnames
from dmedia_transfer.busnames import JOB, MANAGER, PROPERTIES
from dmedia_transfer.client.connection import Connection, Inbox, Signal, variant
from dmedia_transfer.client.state import JobState, Problem, job_state, merge
from dmedia_transfer.errors import Unknown

PAGE = 500  # problems that are asked for at once


class Job:
    """A handle on one job. Commands say whether they changed anything."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self.id = job_id
        self.path = busnames.job_path(job_id)

    def __repr__(self) -> str:
        return f"<Job {self.path}>"

    def pause(self) -> bool:
        """Hold it until somebody resumes it."""
        return self._command("Pause")

    def resume(self) -> bool:
        """Let it go on."""
        return self._command("Resume")

    def cancel(self) -> bool:
        """Give it up; what was imported or found out stays."""
        return self._command("Cancel")

    def retry(self) -> bool:
        """Let a failed one go on."""
        return self._command("Retry")

    def forget(self) -> bool:
        """Show one that has ended no more."""
        return self._command("Forget")

    def problems(self) -> list[Problem]:
        """The files that a person should look at."""
        found: list[Problem] = []
        while True:
            arguments = variant("(uu)", (len(found), PAGE))
            rows = self._connection.call(self.path, JOB, "ListProblems", arguments, "(a(sssssat))")[0]
            found += [Problem(*words, tuple(indexes)) for *words, indexes in rows]  # type: ignore[call-arg]  # five words
            if len(rows) < PAGE:
                return found

    def state(self) -> JobState:
        """What it is now.

        Raises:
            Unknown: It is forgotten.
        """
        return job_state(self.path, self._properties(self._connection))

    def wait(
        self, on_progress: Callable[[JobState], None] | None = None, *, timeout_s: float | None = None
    ) -> JobState:
        """Wait for its end: done, failed or cancelled.

        Args:
            on_progress: Called at once, and then with each change, also of the status; the last one is the end.
            timeout_s: Seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            Unknown: It is forgotten, and nobody can say how it ended.
            ConnectionLost: The daemon or the bus went away.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._connection.listening(self.path) as inbox:
            properties = self._properties(inbox)
            shown: JobState | None = None
            while True:
                state = job_state(self.path, properties)
                if on_progress and state != shown:
                    on_progress(state)
                shown = state
                if state.status.ended and state.ended:
                    return state
                for signal in inbox.next(deadline):
                    self._take(properties, signal)

    def _take(self, properties: dict[str, Any], signal: Signal) -> None:
        if signal.interface == MANAGER and signal.member == "JobRemoved" and signal.arguments[0] == self.path:
            raise Unknown(f"job {self.id} is forgotten")
        if signal.path == self.path:
            merge(properties, signal)

    def _properties(self, through: Connection | Inbox) -> dict[str, Any]:
        properties: dict[str, Any] = through.call(self.path, PROPERTIES, "GetAll", variant("(s)", (JOB,)), "(a{sv})")[0]
        return properties

    def _command(self, method: str) -> bool:
        return bool(self._connection.call(self.path, JOB, method, None, "(b)")[0])
