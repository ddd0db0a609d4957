"""Counts: how transfers have ended and what went wrong, since the daemon began. For metrics.

It hears of changes only, and does nothing while bytes move.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from dmedia_transfer import errors
from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import Direction, Failure, Transfer
from dmedia_transfer.states import Reason, Status

OTHER: Final = "other"  # kinds of errors that are not ours, of which there could be any number
KINDS: Final = frozenset(
    name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, TransferError)
)


@dataclass(slots=True)
class Totals:
    """What has happened so far."""

    ended: Counter[tuple[Direction, Status]] = field(default_factory=Counter)
    failed: Counter[tuple[Direction, str]] = field(default_factory=Counter)  # for good, by the kind of the error
    attempts: Counter[tuple[Direction, str]] = field(default_factory=Counter)  # that went wrong, likewise
    retries: Counter[tuple[Direction, str]] = field(default_factory=Counter)  # by `daemon` or by a `person`


class Counts:
    """A `ports.Listener`. All methods are for the manager's thread."""

    def __init__(self) -> None:
        self._totals = Totals()

    def totals(self) -> Totals:
        """As it is now; a copy."""
        mine = self._totals
        return Totals(Counter(mine.ended), Counter(mine.failed), Counter(mine.attempts), Counter(mine.retries))

    def transfer_added(self, transfer: Transfer) -> None:
        """What it is from an earlier life was counted there."""

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Maybe it has ended, or an attempt went wrong."""
        totals, direction = self._totals, after.key.direction
        if after.attempts > before.attempts:
            totals.attempts[direction, _kind(after.failure)] += 1
        if after.status is before.status and after.reason is before.reason:
            return
        if after.status.ended and after.status is not before.status:
            totals.ended[direction, after.status] += 1
            if after.status is Status.FAILED:
                totals.failed[direction, _kind(after.failure)] += 1
        elif after.reason is Reason.BACKOFF:
            totals.retries[direction, "daemon"] += 1
        elif before.status is Status.FAILED:
            totals.retries[direction, "person"] += 1

    def transfer_moved(self, transfer: Transfer) -> None:
        """Bytes are counted elsewhere."""

    def transfer_removed(self, transfer: Transfer) -> None:
        """It was counted when it ended."""

    def summary_changed(self) -> None:
        """The summary is read when somebody asks."""


def _kind(failure: Failure | None) -> str:
    return failure.kind if failure is not None and failure.kind in KINDS else OTHER
