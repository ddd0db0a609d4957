"""Item: all that the manager keeps of one transfer beside its public value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmedia_transfer.model import Entry, Transfer
from dmedia_transfer.ports import KnownFile
from dmedia_transfer.progress import RateMeter

CancelTimer = Callable[[], None]


@dataclass(slots=True)
class Item:
    """One transfer. Owned by the manager, on its thread."""

    transfer: Transfer
    entries: tuple[Entry, ...]  # those that ask for it
    known: KnownFile | None = None  # its file document, once read
    asked: bool = False  # its file document is being read
    meter: RateMeter | None = None  # while a worker has it
    started_s: float = 0.0  # monotonic seconds, when a worker got it last
    leaves_done: int = 0  # in this run
    sent_bytes: int = 0  # in this run, also what was cut or thrown away
    in_flight: tuple[int, ...] = ()  # in this run: leaves, or parts
    wrong: tuple[int, ...] = ()  # in this run
    wake: CancelTimer | None = None  # takes back the timer that ends a backoff
    alone: bool = False  # it failed together with others: a worker of its own finds out why
    held: bool = False  # its worker was asked to let go because the whole queue is held

    @property
    def identities(self) -> tuple[str, ...]:
        """What the entries that ask for it are known by."""
        return tuple(entry.identity for entry in self.entries)

    def stay_asleep(self) -> None:
        """Take back the timer of a backoff."""
        if self.wake is not None:
            self.wake()
            self.wake = None
