"""Recording: which leaves of one download are on record, so that a later run need not look at them again.

A commit costs as much as to receive a tenth of a leaf, so leaves are recorded together: the first one at once, and then
those of each `RECORD_S`. What a kill leaves without a record is at most what was written in that time, and it is not
lost: the next run finds it in the partial file, and hashes it instead of fetching it. Where a write has failed nothing
that was written before is believed any more, and nothing is recorded again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from dmedia_transfer import faults
from dmedia_transfer.errors import Interrupted, TransferError
from dmedia_transfer.model import TransferKey
from dmedia_transfer.ports import LeafRecords

RECORD_S: Final = 0.5

Cancel = Callable[[], None]


def _call_later(seconds: float, call: Callable[[], None]) -> Cancel:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
    return timer.cancel


class Recording:
    """The records of one run. Any thread may call."""

    def __init__(
        self,
        records: LeafRecords,
        key: TransferKey,
        store_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Cancel] = _call_later,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            records: The journal's.
            key: The transfer.
            store_id: Where it is saved to.
            clock: Monotonic seconds.
            call_later: Call this after so many seconds, on any thread; the result takes that back.
        """
        self._records = records
        self._key = key
        self._store_id = store_id
        self._clock = clock
        self._call_later = call_later
        self._lock = threading.Lock()
        self._identity = ""  # of the partial file
        self._written: list[int] = []  # and not on record yet
        self._due_s = clock()
        self._late: Cancel | None = None
        self._failed = False

    def begin(self, identity: str) -> set[int]:
        """The leaves that are on record for the partial file of this identity."""
        self._identity = identity
        return self._records.load(self._key, self._store_id, identity)

    def check(self) -> None:
        """See that writing has a point.

        Raises:
            Interrupted: A write has failed.
        """
        if self._failed:
            raise Interrupted("a write failed")

    def wrote(self, leaf: int) -> None:
        """A leaf was verified and written.

        Raises:
            Interrupted: The write of another one has failed, so this one may be lost as well.
            TransferError: The journal cannot be written.
        """
        with self._lock:
            self.check()
            self._written.append(leaf)
            left_s = self._due_s - self._clock()
            if left_s > 0 and self._late is None:  # there may be no other leaf for long
                self._late = self._call_later(left_s, self._flush_late)
        if left_s <= 0:
            self.flush()

    def flush(self) -> None:
        """Record all that is written.

        Raises:
            TransferError: The journal cannot be written.
        """
        with self._lock:
            if self._late is not None:
                self._late()
                self._late = None
            if not self._written or self._failed:
                return
            self._due_s = self._clock() + RECORD_S
            self._records.record_all(self._key, self._store_id, self._identity, self._written)
            self._written = []
        faults.point("download.recorded")

    def distrust(self) -> None:
        """A write has failed: the disk may have lost more than it said."""
        with self._lock:
            self._failed = True
            self.forget()

    def forget(self) -> None:
        """Nothing is on record any more."""
        self._records.forget(self._key, self._store_id)

    def _flush_late(self) -> None:
        with contextlib.suppress(TransferError):  # the next leaf tells why, or the end of the run
            self.flush()
