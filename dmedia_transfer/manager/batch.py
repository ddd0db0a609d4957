"""Batch: what people are told of, which is never a single file of many.

A batch begins with the first transfer that is asked for, and is over when nothing is left to do; what is paused does
not count. People are told once of each batch that took a while or was large, and, a moment after it shows, of what
needs them: transfers that failed, and a disk that is full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.model import Direction, Transfer, TransferKey
from dmedia_transfer.states import Reason, Status

GATHER_S: Final = 2.0  # what fails together is told of together; and one file is over before the next is asked for
LONG_S: Final = 10.0  # a batch that took so long is worth a word, somebody has turned to something else
LARGE_FILES: Final = 10  # and so is one of so many files


@dataclass(frozen=True, slots=True)
class News:
    """What there is to tell."""

    downloads: int = 0  # that have ended well, in this batch
    uploads: int = 0
    done_bytes: int = 0
    last: TransferKey | None = None  # the download that ended last
    failed: tuple[TransferKey, ...] = ()
    error: str = ""  # of the first that failed
    disk_full: bool = False

    @property
    def done(self) -> int:
        """How many have ended well."""
        return self.downloads + self.uploads


class Batch:
    """A `ports.Listener` that gathers what there is to tell."""

    def __init__(
        self,
        tell: Callable[[News], object],
        *,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
    ) -> None:
        """Nothing is told before something has happened."""
        self._tell = tell
        self._call_later = call_later
        self._clock = clock
        self._open: set[TransferKey] = set()  # not ended, and not paused
        self._began_s: float | None = None
        self._news = News()  # without those that need somebody
        self._failed: dict[TransferKey, str] = {}
        self._full: set[TransferKey] = set()  # wait for room on the disk
        self._told: tuple[frozenset[TransferKey], bool] = (frozenset(), False)
        self._timer: CancelTimer | None = None

    def transfer_added(self, transfer: Transfer) -> None:
        """There is a new transfer; one that failed in an earlier life is no news."""
        self._sort(transfer)

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Maybe it has ended."""
        if before.status is after.status and before.reason is after.reason:
            return
        key = after.key
        self._sort(after)
        if after.status is Status.FAILED:
            self._failed[key] = str(after.failure or "")
        else:
            self._failed.pop(key, None)
        if after.status is Status.DONE:
            down = key.direction is Direction.DOWNLOAD
            self._news = replace(
                self._news,
                downloads=self._news.downloads + down,
                uploads=self._news.uploads + (not down),
                done_bytes=self._news.done_bytes + after.progress.bytes_total,
                last=key if down else self._news.last,
            )
        if after.reason is Reason.DISK_FULL:
            self._full.add(key)
        else:
            self._full.discard(key)
        self._soon()

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes are no news."""

    def transfer_removed(self, transfer: Transfer) -> None:
        """It is gone."""
        self._open.discard(transfer.key)
        self._failed.pop(transfer.key, None)
        self._full.discard(transfer.key)
        self._soon()

    def summary_changed(self) -> None:
        """Nothing of it is news."""

    def close(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer()
            self._timer = None

    @property
    def _needy(self) -> tuple[frozenset[TransferKey], bool]:
        return frozenset(self._failed), bool(self._full)

    def _sort(self, transfer: Transfer) -> None:
        if transfer.status.ended or transfer.status is Status.PAUSED:
            self._open.discard(transfer.key)
        else:
            if self._began_s is None:
                self._began_s = self._clock()
            self._open.add(transfer.key)

    def _soon(self) -> None:
        """Wake up only if there could be something to tell."""
        over = not self._open and self._began_s is not None
        if self._timer is None and (over or self._needy != self._told):
            self._timer = self._call_later(GATHER_S, self._time_to_tell)

    def _time_to_tell(self) -> None:
        self._timer = None
        failed, full = self._needy
        new = bool(failed - self._told[0]) or (full and not self._told[1])
        self._told = (failed, full)
        over = not self._open
        long = self._began_s is not None and self._clock() - self._began_s >= LONG_S
        if new or (over and self._news.done and (long or self._news.done >= LARGE_FILES)):
            error = next(iter(self._failed.values()), "")
            self._tell(replace(self._news, failed=tuple(self._failed), error=error, disk_full=full))
        if over:
            self._news, self._began_s = News(), None
            self._failed.clear()  # told, and of the next batch it is no news
            self._told = (frozenset(), full)
