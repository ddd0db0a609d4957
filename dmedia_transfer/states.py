"""Statuses, reasons, and the table between them.

A status is what a transfer, or any other job, is doing. An event is what happens to it. `TABLE` says
where each event leads; a pair that is not in it is a fault of ours and raises. Commands that change
nothing are rows of the table, too, so that pause, resume and cancel are idempotent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dmedia_transfer.errors import IllegalEvent


class Status(StrEnum):
    """What a job is doing. Stored and sent as these words, never as numbers."""

    QUEUED = "queued"  # waits for its turn
    ONGOING = "ongoing"  # a worker has it
    PAUSING = "pausing"  # a person said pause; what is in flight is finishing
    PAUSED = "paused"  # a person said so, and only a person ends it
    SUSPENDED = "suspended"  # the system said so, for a reason that goes away
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing happens any more unless a person retries."""
        return self in _ENDED


class Reason(StrEnum):
    """Why the system suspended a job."""

    OFFLINE = "offline"
    METERED = "metered"
    BATTERY = "battery"
    SCHEDULE = "schedule"
    SHUTDOWN = "shutdown"
    DISK_FULL = "disk-full"
    STORE_MISSING = "store-missing"
    NO_SOURCE = "no-source"
    PREEMPTED = "preempted"
    BACKOFF = "backoff"


class Event(StrEnum):
    """What happens to a job."""

    START = "start"  # the scheduler gave it to a worker
    FINISH = "finish"  # the bytes are where they should be
    FAIL = "fail"  # an error that trying again does not mend
    LOST = "lost"  # its worker died
    STOPPED = "stopped"  # its worker let go of it, as asked
    PAUSE = "pause"  # a person
    RESUME = "resume"  # a person
    CANCEL = "cancel"  # a person
    RETRY = "retry"  # a person
    SUSPEND = "suspend"  # the system, with a reason
    CLEAR = "clear"  # the reason went away


_ENDED: Final = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED})

_Q, _O, _P, _PD, _S = Status.QUEUED, Status.ONGOING, Status.PAUSING, Status.PAUSED, Status.SUSPENDED
_D, _F, _C = Status.DONE, Status.FAILED, Status.CANCELLED

# One row per event; a status that is missing in a row does not know the event. A worker can let go, die or
# end in the moment in which something else was decided, so its words are known wherever a worker may linger.
_ROWS: Final[Mapping[Event, Mapping[Status, Status]]] = {
    Event.START: {_Q: _O},
    Event.FINISH: {_Q: _D, _O: _D, _P: _D, _PD: _D, _S: _D, _F: _D, _D: _D, _C: _C},
    Event.FAIL: {_Q: _F, _O: _F, _P: _F, _PD: _F, _S: _F, _F: _F, _C: _C},
    Event.LOST: {_Q: _Q, _O: _Q, _P: _PD, _PD: _PD, _S: _S, _C: _C},
    Event.STOPPED: {_Q: _Q, _O: _Q, _P: _PD, _PD: _PD, _S: _S, _C: _C},
    Event.PAUSE: {_Q: _PD, _O: _P, _P: _P, _PD: _PD, _S: _PD, _D: _D, _F: _F, _C: _C},
    Event.RESUME: {_Q: _Q, _O: _O, _P: _O, _PD: _Q, _S: _S, _D: _D, _F: _F, _C: _C},
    Event.CANCEL: {_Q: _C, _O: _C, _P: _C, _PD: _C, _S: _C, _D: _D, _F: _C, _C: _C},
    Event.RETRY: {_Q: _Q, _O: _O, _P: _P, _PD: _PD, _S: _S, _D: _D, _F: _Q, _C: _C},
    Event.SUSPEND: {_Q: _S, _O: _S, _P: _P, _PD: _PD, _S: _S, _D: _D, _F: _F, _C: _C},
    Event.CLEAR: {_Q: _Q, _O: _O, _P: _P, _PD: _PD, _S: _Q, _D: _D, _F: _F, _C: _C},
}

TABLE: Final[Mapping[tuple[Status, Event], Status]] = MappingProxyType(
    {(status, event): after for event, row in _ROWS.items() for status, after in row.items()}
)


def advance(status: Status, event: Event) -> Status:
    """The status that follows `event`; the same one where the event changes nothing.

    Raises:
        IllegalEvent: The status does not know the event.
    """
    try:
        return TABLE[status, event]
    except KeyError:
        raise IllegalEvent(f"a job that is {status} does not know {event}") from None
