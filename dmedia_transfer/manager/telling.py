"""Telling: when the other devices are told what this one does.

The document travels by replication, so each writing of it costs every device a little: it is written a moment after a
status has changed, every 15 s while bytes move, and never while nothing happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from dmedia_transfer import statusdoc
from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.model import Transfer
from dmedia_transfer.ports import Control
from dmedia_transfer.statusdoc import Finished

COALESCE_S: Final = 2.0
MOVING_S: Final = 15.0


class Telling:
    """A `ports.Listener` that has the machine's `dmedia/transfers` document written."""

    def __init__(
        self,
        control: Control,
        *,
        machine_id: str,
        publish: Callable[[Mapping[str, Any]], object],
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Nothing is told before something changes.

        Args:
            control: The manager; the caller subscribes this to it.
            machine_id: Whose document it is.
            publish: Has the document written; of several that wait, only the last matters.
            call_later: Calls something later, on the manager's thread.
            clock: Monotonic seconds.
            wall: Unix seconds.
        """
        self._control = control
        self._machine_id = machine_id
        self._publish = publish
        self._call_later = call_later
        self._clock = clock
        self._wall = wall
        self._finished: deque[Finished] = deque(maxlen=statusdoc.MAX_FINISHED)
        self._timer: CancelTimer | None = None
        self._due_s = 0.0  # monotonic seconds at which the timer fires
        self._told: Mapping[str, Any] = {}

    def transfer_added(self, transfer: Transfer) -> None:
        """There is a new transfer."""
        self._within(COALESCE_S)

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Something about it changed, maybe it ended."""
        if after.status.ended and not before.status.ended:
            self._finished.appendleft(Finished(after, self._wall()))
        self._within(COALESCE_S)

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes moved."""
        self._within(MOVING_S)

    def transfer_removed(self, transfer: Transfer) -> None:
        """It is not shown any more."""
        self._within(COALESCE_S)

    def summary_changed(self) -> None:
        """The pause of the whole queue, or a problem."""
        self._within(COALESCE_S)

    def close(self) -> None:
        """Tell what was not told yet."""
        if self._timer is not None:
            self._tell()

    def _within(self, seconds: float) -> None:
        due_s = self._clock() + seconds
        if self._timer is not None:
            if self._due_s <= due_s:
                return
            self._timer()
        self._due_s = due_s
        self._timer = self._call_later(seconds, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer()
            self._timer = None
        summary = self._control.summary()
        body = statusdoc.write_status(
            self._machine_id,
            self._control.transfers().values(),
            finished=self._finished,
            queue_paused=summary.queue_paused,
            problems=summary.problems,
            time=self._wall(),
        )
        if {**body, "time": 0} != {**self._told, "time": 0}:
            self._told = body
            self._publish(body)
