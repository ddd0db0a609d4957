"""A handle on one transfer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dmedia_transfer import busnames
from dmedia_transfer.busnames import PROPERTIES, TRANSFER
from dmedia_transfer.client.connection import Connection, Inbox, Signal, variant
from dmedia_transfer.client.state import TransferState, merge, transfer_state
from dmedia_transfer.errors import Unknown
from dmedia_transfer.model import TransferKey


class Transfer:
    """A handle on one transfer. Commands say whether they changed anything."""

    def __init__(self, connection: Connection, key: TransferKey) -> None:
        self._connection = connection
        self.key = key
        self.path = busnames.path_of(key)

    def __repr__(self) -> str:
        return f"<Transfer {self.path}>"

    def pause(self) -> bool:
        """Hold it until somebody resumes it."""
        return self._command("Pause")

    def resume(self) -> bool:
        """Let it go on."""
        return self._command("Resume")

    def cancel(self) -> bool:
        """Give it up."""
        return self._command("Cancel")

    def retry(self) -> bool:
        """Try a failed one again."""
        return self._command("Retry")

    def set_priority(self, priority: int) -> bool:
        """Do it sooner or later: low −10, normal 0, high 10, now 100."""
        return self._command("SetPriority", variant("(i)", (priority,)))

    def set_metered(self, metered: bool) -> bool:
        """Let it go on over a connection that costs by the byte, too; or not any more."""
        return self._command("SetMetered", variant("(b)", (metered,)))

    def state(self) -> TransferState:
        """What it is now.

        Raises:
            Unknown: It is gone.
        """
        return transfer_state(self._properties(self._connection))

    def wait(
        self, on_progress: Callable[[TransferState], None] | None = None, *, timeout_s: float | None = None
    ) -> TransferState:
        """Wait for its end: done, failed or cancelled.

        Args:
            on_progress: Called at once, and then with each change, also of the status; the last one is the end.
            timeout_s: Seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: It has not ended in that time; it goes on.
            Unknown: It is gone, and nobody can say how it ended.
            ConnectionLost: The daemon or the bus went away.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._connection.listening(self.path) as inbox:
            properties = self._properties(inbox)
            shown: TransferState | None = None
            while True:
                state = transfer_state(properties)
                if on_progress and state != shown:
                    on_progress(state)
                shown = state
                if state.status.ended:
                    return state
                for signal in inbox.next(deadline):
                    self._take(properties, signal)

    def _take(self, properties: dict[str, Any], signal: Signal) -> None:
        if signal.member == "TransferRemoved" and signal.arguments[0] == self.path:
            properties["Status"] = signal.arguments[1]
            if not transfer_state(properties).status.ended:
                raise Unknown(f"{self.key} is not wanted any more")
        elif signal.path == self.path and signal.member == "Finished":
            properties["Status"] = signal.arguments[0]
        elif signal.path == self.path:
            merge(properties, signal)

    def _properties(self, through: Connection | Inbox) -> dict[str, Any]:
        arguments = variant("(s)", (TRANSFER,))
        properties: dict[str, Any] = through.call(self.path, PROPERTIES, "GetAll", arguments, "(a{sv})")[0]
        return properties

    def _command(self, method: str, arguments: Any = None) -> bool:
        return bool(self._connection.call(self.path, TRANSFER, method, arguments, "(b)")[0])
