"""What the service tells on its own: signals, as the manager's listener.

Changes of status go out at once, progress at the pace of `progress.Pace`. Where thousands of small files begin and end
in a moment, the bus would be the slowest part of it, as it wakes up for each signal: of such a crowd the first are told
of at once and the others a moment later, each once, as it is by then. Called on the manager's thread; never calls
back from within a notice: what needs the manager's answer waits for the next turn of the main loop.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from dmedia_transfer.bus import values
from dmedia_transfer.bus.contract import interfaces
from dmedia_transfer.bus.mainloop import CallLater, Cancel
from dmedia_transfer.busnames import MANAGER, OBJECT_MANAGER, PROPERTIES, ROOT, path_of
from dmedia_transfer.model import JobKey, LongJob, Transfer, TransferKey
from dmedia_transfer.ports import Summary
from dmedia_transfer.progress import Clock, Pace

log = logging.getLogger(__name__)

SUMMARY_INTERVAL_S: Final = 0.1  # between two looks at the manager as a whole: a burst of changes is one signal
ADDED_AT_ONCE: Final = 100  # new transfers that are told of together
ADDED_INTERVAL_S: Final = 0.1  # small files are done faster than that, and most of them are told of once, as done
CHANGED_AT_ONCE: Final = 20  # changes that are told of as they come, before they are a crowd
CHANGED_INTERVAL_S: Final = 0.1  # so that one change is told where a file begins and ends in a moment
TOLD_AT_ONCE: Final = 250  # of a crowd: some milliseconds
Moving = Transfer | LongJob
Key = TransferKey | JobKey


class Emit(Protocol):
    """Sends a signal, without waiting."""

    def __call__(self, path: str, interface: str, member: str, *arguments: Any) -> None:
        """The signature is that of the XML."""


class Announcer:
    """A `ports.Listener` and `ports.JobListener` that makes signals of what it hears."""

    def __init__(self, *, emit: Emit, summary: Callable[[], Summary], call_later: CallLater, clock: Clock) -> None:
        self._emit = emit
        self._summary = summary
        self._call_later = call_later
        self._clock = clock
        self._pace: Pace[Key] = Pace(clock)
        self._latest: dict[Key, Moving] = {}  # those that moved and are not gone
        self._told: dict[Key, tuple[int, int]] = {}  # what each transfer's own Progress said last
        self._unannounced: dict[Key, Moving] = {}  # of which nothing was told yet
        self._added_now = 0  # told of since `_announce` was set
        self._crowd: dict[Key, tuple[Moving, Moving]] = {}  # changed, and not told of yet: before and after
        self._changed_now = 0  # changes since `_tell_crowd` was set
        self._tell_crowd: Cancel | None = None
        self._announce: Cancel | None = None
        self._wake_up: Cancel | None = None
        self._wake_up_s = 0.0  # when it comes
        self._look: Cancel | None = None
        self._looked_s = float("-inf")
        self._manager: Mapping[str, Any] = self._telling(summary())  # what was told last

    def close(self) -> None:
        """Tell nothing any more."""
        for cancel in (self._wake_up, self._look, self._announce, self._tell_crowd):
            if cancel:
                cancel()
        self._wake_up = self._look = self._announce = self._tell_crowd = None

    def transfer_added(self, transfer: Transfer) -> None:
        """There is a new transfer."""
        self._added(transfer)

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """What changed, at once; of one that has ended, the last progress first."""
        self._changed(before, after)

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes moved: told when it is due."""
        self._moved(transfer)

    def transfer_removed(self, transfer: Transfer) -> None:
        """The transfer is gone; nothing is told of it after this."""
        self._removed(transfer)

    def job_added(self, job: LongJob) -> None:
        """There is a new job."""
        self._added(job)

    def job_changed(self, before: LongJob, after: LongJob) -> None:
        """As of a transfer."""
        self._changed(before, after)
        if _numbers(before) != _numbers(after) and not after.status.ended:
            self._moved(after)

    def job_moved(self, job: LongJob) -> None:
        """As of a transfer."""
        self._moved(job)

    def job_removed(self, job: LongJob) -> None:
        """The job is forgotten."""
        self._removed(job)

    def _added(self, moving: Moving) -> None:
        """Of thousands that come at once, the most are told of a moment later.

        The bus takes signals more slowly than a queue is made, and what it has not taken yet would fill our memory and
        keep the main loop busy.
        """
        if self._added_now < ADDED_AT_ONCE:
            self._tell_added(moving)
        else:
            self._unannounced[moving.key] = moving
        self._added_now += 1
        if self._announce is None:
            self._announce = self._call_later(ADDED_INTERVAL_S, self._announce_more)

    def _announce_more(self) -> None:
        self._announce = None
        self._added_now = 0
        for key in list(itertools.islice(self._unannounced, ADDED_AT_ONCE)):
            self._up_to_date(key)
            self._added_now += 1
        if self._unannounced:
            self._announce = self._call_later(ADDED_INTERVAL_S, self._announce_more)

    def _announced(self, key: Key) -> None:
        """Nothing is told of a transfer before it was told that it is there."""
        moving = self._unannounced.pop(key, None)
        if moving is not None:
            self._tell_added(moving)

    def _up_to_date(self, key: Key) -> None:
        """Tell what waits to be told of this one, before something else is."""
        before, after = self._crowd.pop(key, (None, None))
        if before is not None and after is not None:
            self._tell_changed(before, after, crowded=True)
        else:
            self._announced(key)

    def _tell_added(self, moving: Moving) -> None:
        path = path_of(moving.key)
        self._emit(ROOT, OBJECT_MANAGER, "InterfacesAdded", path, values.managed(moving))
        self._emit(ROOT, MANAGER, f"{_noun(moving)}Added", path)
        self.summary_changed()

    def _changed(self, before: Moving, after: Moving) -> None:
        key = after.key
        if key in self._latest:
            self._latest[key] = after
        if before.status != after.status:
            self.summary_changed()
        self._changed_now += 1
        if self._tell_crowd is None:
            self._tell_crowd = self._call_later(CHANGED_INTERVAL_S, self._tell_more)
        if key in self._crowd:
            self._crowd[key] = (self._crowd[key][0], after)
        elif self._changed_now <= CHANGED_AT_ONCE:
            self._tell_changed(before, after)
        elif key in self._unannounced and not after.status.ended:
            self._unannounced[key] = after  # what it is when its turn comes is told with it
        else:
            self._crowd[key] = (before, after)

    def _tell_more(self) -> None:
        self._tell_crowd = None
        self._changed_now = 0
        for key in list(itertools.islice(self._crowd, TOLD_AT_ONCE)):
            self._up_to_date(key)
        if self._crowd:
            self._changed_now = CHANGED_AT_ONCE  # whoever comes now stands behind them
            self._tell_crowd = self._call_later(CHANGED_INTERVAL_S, self._tell_more)

    def _tell_changed(self, before: Moving, after: Moving, *, crowded: bool = False) -> None:
        path, key, interface = path_of(after.key), after.key, values.interface_of(after)
        ended = after.status.ended and not before.status.ended
        if key in self._unannounced:  # all that it is by now is told with it
            del self._unannounced[key]
            self._tell_added(after)
            before = after
        if ended:
            self._last_progress(after, crowded=crowded)
        changed = values.changed_properties(before, after)
        if changed:
            self._emit(path, PROPERTIES, "PropertiesChanged", interface, changed, [])
        if ended:
            self._emit(path, interface, "Finished", after.status)

    def _moved(self, moving: Moving) -> None:
        key = moving.key
        if key in self._unannounced:
            self._unannounced[key] = moving  # it is told of with the progress that is due next
        self._latest[key] = moving
        self._pace.moved(key)
        self._arm()

    def _removed(self, moving: Moving) -> None:
        path, key = path_of(moving.key), moving.key
        self._up_to_date(key)
        if not moving.status.ended:
            self._last_progress(moving)
        if self._pace.unsummed(key):
            self._send_summary(self._pace.summarize())
        self._latest.pop(key, None)
        self._told.pop(key, None)
        self._emit(ROOT, OBJECT_MANAGER, "InterfacesRemoved", path, list(values.interfaces_of(moving)))
        self._emit(ROOT, MANAGER, f"{_noun(moving)}Removed", path, moving.status)
        self.summary_changed()

    def summary_changed(self) -> None:
        """Something of the manager as a whole changed: looked at soon, once for all changes of a burst."""
        if self._look is None:
            delay_s = max(0.0, self._looked_s + SUMMARY_INTERVAL_S - self._clock())
            self._look = self._call_later(delay_s, self._tell_manager)

    def _tell_manager(self) -> None:
        self._look = None
        self._looked_s = self._clock()
        now = self._telling(self._summary())
        changed = {name: value for name, value in now.items() if value != self._manager[name]}
        self._manager = now
        if changed:
            self._emit(ROOT, PROPERTIES, "PropertiesChanged", MANAGER, changed, [])

    @staticmethod
    def _telling(summary: Summary) -> Mapping[str, Any]:
        """The manager's properties whose changes are told."""
        properties = interfaces()[MANAGER].properties
        return {name: value for name, value in values.manager_properties(summary).items() if properties[name].tells}

    def _last_progress(self, moving: Moving, *, crowded: bool = False) -> None:
        """The last value is always sent, due or not; in a crowd of small files with the status and in the summary."""
        progress, key = _numbers(moving), moving.key
        told = self._told.get(key)
        news = progress != told and (told is not None or progress[0] > 0)
        alone = news and not (crowded and told is None)
        if news:
            self._latest[key] = moving
            self._pace.moved(key)
            if alone:
                self._tell_progress(moving)
            self._arm()
        self._pace.ended(key, signals=int(alone))

    def _tell_progress(self, moving: Moving) -> None:
        progress = self._told[moving.key] = _numbers(moving)
        self._emit(path_of(moving.key), values.interface_of(moving), "Progress", *progress)

    def _send_summary(self, keys: tuple[Key, ...]) -> None:
        moved = [self._latest[key] for key in keys if key in self._latest]
        for each in moved:
            self._up_to_date(each.key)
        told = [(path_of(each.key), *_numbers(each)) for each in moved]
        if told:
            self._emit(ROOT, MANAGER, "Progress", told)

    def _arm(self) -> None:
        """Wake up when something is due; not at all while nothing moves."""
        wait_s = self._pace.wait_s()
        if wait_s is None:
            return
        when_s = self._clock() + wait_s
        if self._wake_up is not None:
            if when_s >= self._wake_up_s:
                return
            self._wake_up()
        self._wake_up, self._wake_up_s = self._call_later(wait_s, self._tell_due), when_s

    def _tell_due(self) -> None:
        self._wake_up = None
        due = self._pace.due()
        if due.summary:
            self._send_summary(due.summary)
        if due.turn is not None and (moving := self._latest.get(due.turn)):
            self._up_to_date(due.turn)
            self._tell_progress(moving)
            if due.turn_in_full:
                changed = values.progress_properties(moving)
                interface = values.interface_of(moving)
                self._emit(path_of(moving.key), PROPERTIES, "PropertiesChanged", interface, changed, [])
        self._arm()


def _numbers(moving: Moving) -> tuple[int, int]:
    return moving.progress.bytes_done, moving.progress.bytes_total


def _noun(moving: Moving) -> str:
    return "Transfer" if isinstance(moving, Transfer) else "Job"
