"""Budget: the bandwidth of all workers together, by limit and by the time of day.

While a limit is in force, each worker is told once a second what its share is from now on. Without one nothing ticks.
The server for peers is one of those who share: what it sends is an upload, what it receives a download.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from dmedia_transfer.limiter import Limit, Timetable, Use, divide
from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.manager.runs import Runs, Slot
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.ports import WorkerPool

TICK_S: Final = 1.0
GUEST: Final = 0  # the server for peers, among the slots, which are counted from 1
MAX_SLEEP_S: Final = 3600.0  # until the timetable is looked at again: clocks are set, and machines sleep


@dataclass(slots=True)
class _Share:
    """What one slot was allowed, and where it was at the last division."""

    bps: float | None  # bytes per second
    sent_bytes: int
    at_s: float  # monotonic seconds of the last division


_Who = tuple[Direction, int]  # which way, and the number of the slot; the server for peers goes both ways


class GuestLimits(Protocol):
    """Tells the server for peers what it may do."""

    def __call__(self, *, send_bps: float | None, receive_bps: float | None, stopped: bool) -> object: ...


class Budget:
    """Divides the limits between the workers, and says when the timetable allows no transfers."""

    def __init__(
        self,
        *,
        runs: Runs,
        pool: WorkerPool,
        sent: Callable[[TransferKey], int],
        on_stop: Callable[[bool], None],
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Nothing is limited at first.

        Args:
            runs: The live jobs.
            pool: Whom shares are told.
            sent: The bytes that have crossed the wire in the live run of a transfer; not its progress, which stands
                still while what was cut is fetched again.
            on_stop: Called with True when the timetable allows no transfers from now on, with False when it does again.
            call_later: Calls something later, on the manager's thread.
            clock: Monotonic seconds.
            now: The local time.
        """
        self._runs = runs
        self._pool = pool
        self._sent = sent
        self._on_stop = on_stop
        self._call_later = call_later
        self._clock = clock
        self._now = now
        self._limits: Mapping[Direction, float | None] = dict.fromkeys(Direction)
        self._timetable = Timetable()
        self._allowed = Limit()  # by the timetable, at this time of day
        self._shares: dict[_Who, _Share] = {}
        self._tick: CancelTimer | None = None
        self._change: CancelTimer | None = None
        self._guest: GuestLimits | None = None
        self._guest_told: tuple[float | None, float | None, bool] = (None, None, False)
        self._guest_bytes = dict.fromkeys(Direction, 0)  # since it began

    @property
    def guest_bytes(self) -> Mapping[Direction, int]:
        """What the server for peers has sent (upload) and received (download) since it began."""
        return dict(self._guest_bytes)

    def admit(self, guest: GuestLimits) -> None:
        """There is a server for peers, which is told what it may do from now on; nothing yet means no limit."""
        self._guest = guest
        self._divide()

    def guest_moved(self, *, sent_bytes: int, received_bytes: int) -> None:
        """The server for peers has moved so much since it said so last."""
        self._guest_bytes[Direction.UPLOAD] += sent_bytes
        self._guest_bytes[Direction.DOWNLOAD] += received_bytes

    def limit(self, *, download_bps: float | None, upload_bps: float | None) -> None:
        """These are the limits from now on; None is none."""
        self._limits = {Direction.DOWNLOAD: download_bps, Direction.UPLOAD: upload_bps}
        self._divide()

    def follow(self, timetable: Timetable) -> None:
        """This is the timetable from now on."""
        self._timetable = timetable
        self._look()

    def started(self, key: TransferKey) -> None:
        """A worker has just begun."""
        live = self._runs.of(key)
        if live is not None and self._limit_of(key.direction) is not None:
            self._divide()

    def stop(self) -> None:
        """Wake up no more."""
        for timer in (self._tick, self._change):
            if timer is not None:
                timer()

    def _look(self) -> None:
        """See what the timetable says now, and when to look again."""
        if self._change is not None:
            self._change()
            self._change = None
        now = self._now()
        before, self._allowed = self._allowed, self._timetable.at(now)
        later = self._timetable.next_change(now)
        if later is not None:
            delay_s = min(max(0.0, later.timestamp() - now.timestamp()), MAX_SLEEP_S)
            self._change = self._call_later(delay_s + 0.01, self._look_again)
        self._divide()
        if self._allowed.stop != before.stop:
            self._on_stop(self._allowed.stop)

    def _look_again(self) -> None:
        self._change = None
        self._look()

    def _limit_of(self, direction: Direction) -> float | None:
        limit = self._limits[direction]
        allowed = self._allowed.rate_bps
        return limit if allowed is None else allowed if limit is None else min(limit, allowed)

    def _divide(self) -> None:
        now_s = self._clock()
        shares: dict[_Who, _Share] = {}
        for direction in Direction:
            sent: dict[_Who, int] = {
                (direction, number): self._sent_in(slot)
                for number, slot in self._runs.slots.items()
                if slot.direction is direction
            }
            if self._guest is not None:
                sent[direction, GUEST] = self._guest_bytes[direction]
            uses = {who: self._use(who, count, now_s) for who, count in sent.items()}
            for who, bps in divide(self._limit_of(direction), uses).items():
                before = self._shares.get(who)
                if who[1] != GUEST and (before.bps if before else None) != bps:
                    self._pool.set_share(
                        next(iter(self._runs.slots[who[1]].priorities)),
                        download_bps=bps if direction is Direction.DOWNLOAD else None,
                        upload_bps=bps if direction is Direction.UPLOAD else None,
                    )
                shares[who] = _Share(bps, sent[who], now_s)
        self._shares = shares
        self._tell_guest()
        # The guest alone has all there is, and nothing to be divided.
        if self._tick is None and any(share.bps is not None for (_, run_id), share in shares.items() if run_id):
            self._tick = self._call_later(TICK_S, self._ticked)

    def _tell_guest(self) -> None:
        if self._guest is None:
            return
        send_bps, receive_bps = (
            share.bps if (share := self._shares.get((direction, GUEST))) else None
            for direction in (Direction.UPLOAD, Direction.DOWNLOAD)
        )
        told = (send_bps, receive_bps, self._allowed.stop)
        if told != self._guest_told:
            self._guest_told = told
            self._guest(send_bps=send_bps, receive_bps=receive_bps, stopped=self._allowed.stop)

    def _sent_in(self, slot: Slot) -> int:
        """The bytes that have crossed the wire for what is, or was, in a slot."""
        live = [self._runs.get(run_id) for run_id in slot.priorities]
        return slot.sent_bytes + sum(self._sent(one.job.key) for one in live if one is not None)

    def _use(self, who: _Who, sent_bytes: int, now_s: float) -> Use | None:
        share = self._shares.get(who)
        if share is None:
            return None
        if now_s - share.at_s < TICK_S / 2:  # too short a time to tell: it keeps what it was allowed
            return Use(share.bps if share.bps is not None else math.inf, share.bps)
        return Use((sent_bytes - share.sent_bytes) / (now_s - share.at_s), share.bps)

    def _ticked(self) -> None:
        self._tick = None
        self._divide()
