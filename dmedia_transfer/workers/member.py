"""Member: one transfer of a bundle of small files, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from dmedia_transfer.model import Download, StoreSpec, Upload
from dmedia_transfer.ports import Backend

SmallJob = Download | Upload


class State(Enum):
    """Where it stands."""

    WAITING = auto()
    IN_FLIGHT = auto()
    LANDED = auto()  # its bytes have come; it ends when they are on the disk
    OVER = auto()


class Member:
    """One transfer of a bundle. Guarded by the bundle's lock, but for its count of bytes."""

    __slots__ = (
        "begun_s",
        "cut_at_s",
        "epoch",
        "job",
        "let_go",
        "moved",
        "run_id",
        "sent_bytes",
        "state",
        "store",
        "told_bytes",
    )

    def __init__(self, run_id: int, job: SmallJob) -> None:
        self.run_id = run_id
        self.job = job
        self.store: Backend | None = None  # where its bytes come from or go to; None: a FileStore of this machine
        self.state = State.WAITING
        self.let_go = False  # it was asked to
        self.cut_at_s: float | None = None  # when a pause's grace is over; monotonic seconds
        self.epoch = 0  # of cuts, when it was begun
        self.begun_s = 0.0
        self.moved = 0  # bytes, in this attempt
        self.sent_bytes = 0  # over the wire, in all attempts
        self.told_bytes = 0

    def comes_from(self, sources: Sequence[StoreSpec]) -> bool:
        """Whether the first of these sources is the one that it is to come from."""
        return isinstance(self.job, Download) and self.job.sources[0] == sources[0]
