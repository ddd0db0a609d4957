"""Bundle: transfers of small files that were given to this worker together, and what becomes of each.

Commands come from the control thread and never block; the job's thread and as many others as there are connections
take members and say how they ended. A member that is not begun is let go at once. One that is in flight is cut, and
with it the others, as connections are not told apart: those are taken again, which is nobody's fault. A member that
fails here is given back to be tried by itself: what an error means, and whom it blames, is found out there.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from dmedia_transfer.errors import ConnectionLost, Interrupted, TransferError
from dmedia_transfer.model import (
    CarryOn,
    Connect,
    Cut,
    Drain,
    Ended,
    Failure,
    GiveBack,
    Moved,
    Outcome,
    Run,
    Stop,
    Upload,
    UseSources,
)
from dmedia_transfer.workers.member import Member, SmallJob, State

log = logging.getLogger(__name__)

CUT_AGAIN_S: Final = 0.2  # a thread that was about to connect is missed by the first cut
FAILURES: Final = 3  # in a row: what is wrong is not with these files, and is better seen with each by itself
LATEST: Final = 0.1  # how much the file that has come last counts in what a file takes
QUICK_S: Final = 0.0005  # a file that takes less is there before another thread has begun
TELL_AFTER_S: Final = 0.25  # how far a file is that takes no longer is not told


class Bundle:
    """The members, in the order in which they are to be begun."""

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        report: Callable[[Sequence[Moved | Ended]], None],
        cut: Callable[[], None],
    ) -> None:
        """A bundle of which nothing is begun.

        Args:
            runs: Downloads, or uploads, of files of one leaf.
            report: Tells the daemon; from any thread.
            cut: Cuts all connections.
        """
        self.file_s = math.inf  # what a file takes, from being begun to having landed; until one has, as it was before
        self._report = report
        self._cut_all = cut
        self._cond = threading.Condition()
        self._members: dict[int, Member] = {}
        for run in runs:
            assert isinstance(run.job, SmallJob)  # noqa: S101 - nothing else is given to workers together
            self._members[run.run_id] = Member(run.run_id, run.job)
            self._connections = run.job.connections
        self.uploads = any(isinstance(run.job, Upload) for run in runs)
        self._waiting = deque(self._members.values())
        self._ended: list[Ended] = []  # not reported yet
        self._epoch = 0
        self._cut_s = 0.0  # monotonic seconds of the last cut
        self._threads = 0
        self._failures = 0  # in a row
        self._news = False
        self._here = threading.local()  # .member: what this thread is busy with

    @property
    def connections(self) -> int:
        """How many are done at once."""
        return self._connections

    # Commands, from the control thread

    def obey(self, command: object) -> None:
        """Do what the daemon says of one of the members, or of all."""
        match command:
            case Drain(run_id, grace_s):
                self._let_go(run_id, grace_s)
            case Stop(run_id):
                self._let_go(run_id, 0.0)
            case GiveBack(run_ids):
                for run_id in run_ids:
                    self._let_go(run_id, None)
            case UseSources(run_id, sources):
                with self._cond:
                    member = self._members.get(run_id)
                    if member is not None and member.state is State.WAITING and not member.comes_from(sources):
                        self._waiting.remove(member)
                        self._end(member, Outcome.ALONE)
            case CarryOn(run_id):
                self._carry_on(run_id)
            case Cut():
                self.cut()
            case Connect(_, connections):
                with self._cond:
                    self._connections = connections
                    self._tell()

    def cut(self) -> None:
        """Cut all connections and go on with new ones."""
        with self._cond:
            self._epoch += 1
            self._cut_s = time.monotonic()
        self._cut_all()

    # The crew's threads

    @property
    def current(self) -> Member | None:
        """What the calling thread is busy with."""
        return getattr(self._here, "member", None)

    def take(self) -> Member | None:
        """The next one to be begun; None when this thread is not needed any more."""
        with self._cond:
            if not self._waiting or self._threads > self._connections:
                self._threads -= 1
                self._here.member = None
                self._tell()
                return None
            member = self._waiting.popleft()
            member.state, member.epoch, member.moved = State.IN_FLIGHT, self._epoch, 0
            member.begun_s = time.monotonic()
            self._here.member = member
            return member

    def moved(self, member: Member, count: int, *, wire: bool) -> None:
        """Bytes came or went.

        Raises:
            Interrupted: The member has to let go.
        """
        member.moved += count
        if wire:
            member.sent_bytes += count
        if member.let_go:
            raise Interrupted(f"{member.job.key} was cut")

    def wait(self, member: Member, seconds: float) -> bool:
        """Wait for a bandwidth limit, and say whether the member has to let go."""
        with self._cond:
            return self._cond.wait_for(lambda: member.let_go or member.epoch != self._epoch, timeout=seconds)

    def landed(self, member: Member) -> None:
        """Its bytes have come, and are not on the disk yet."""
        with self._cond:
            self._failures = 0
            took_s = time.monotonic() - member.begun_s
            self.file_s = took_s if math.isinf(self.file_s) else self.file_s + (took_s - self.file_s) * LATEST
            member.state = State.LANDED
            self._tell()

    def finished(self, members: Sequence[Member]) -> None:
        """Their bytes are where they should be."""
        with self._cond:
            self._failures = 0
            for member in members:
                self._end(member, Outcome.FINISHED)

    def failed(self, member: Member, error: BaseException) -> None:
        """It was asked to let go, or was cut along with one that was, or has to be tried by itself."""
        with self._cond:
            ours = isinstance(error, ConnectionLost | Interrupted)
            cut = ours and member.epoch != self._epoch
            pausing = member.cut_at_s is not None  # it had a grace, and lost it to somebody else's cut
            if isinstance(error, TransferError) and (member.let_go or (pausing and cut)):
                self._end(member, Outcome.STOPPED)
            elif cut:
                log.debug("%s: was cut, and is begun again: %s", member.job.key, error)
                member.state = State.WAITING
                self._waiting.appendleft(member)
                self._tell()
            else:
                if not isinstance(error, TransferError):
                    log.error("%s: a fault of dmedia-transfer", member.job.key, exc_info=error)
                self._end(member, Outcome.ALONE, Failure.of(error))
                self._failures += 1
                if self._failures >= FAILURES:
                    self._give_up()

    # The job's thread

    def give_up(self) -> None:
        """Nothing more is begun, and what has landed is lost."""
        with self._cond:
            self._give_up()
            for member in list(self._members.values()):
                if member.state is State.LANDED:
                    self._end(member, Outcome.ALONE)

    @property
    def unbegun(self) -> list[Member]:
        """Those that wait to be begun."""
        with self._cond:
            return list(self._waiting)

    def refused(self, member: Member, error: TransferError) -> None:
        """One that waits cannot be done together with the others."""
        with self._cond:
            if member.state is State.WAITING:
                self._waiting.remove(member)
                self._end(member, Outcome.ALONE, Failure.of(error))

    def threads_missing(self) -> int:
        """How many threads more are of use now; they count as begun, and have to call `take`.

        Threads are for waiting. Where files come as fast as from a disk, they would only wait for each other.
        """
        with self._cond:
            most = 1 if self.file_s < QUICK_S else self._connections
            count = max(0, min(len(self._waiting), most) - self._threads)
            self._threads += count
            return count

    def wait_for_news(self, timeout_s: float, gather_s: float = 0.0) -> bool:
        """Wait until something has landed or ended, or for that long, and then for more; whether anything is left."""
        with self._cond:
            self._cond.wait_for(lambda: self._news, timeout=timeout_s)
            self._cond.wait_for(lambda: not self._threads, timeout=gather_s)
            self._news = False
            return bool(self._members or self._threads)

    @property
    def moving(self) -> bool:
        """Whether something is in flight."""
        with self._cond:
            return self._threads > 0

    def tell(self) -> None:
        """Report what has ended, and how far those are that take long; cut again what has to let go."""
        now_s = time.monotonic()
        with self._cond:
            reports: list[Moved | Ended] = list(self._ended)
            self._ended.clear()
            again = False
            for member in self._members.values():
                if member.state is not State.IN_FLIGHT:
                    continue
                if member.cut_at_s is not None and now_s >= member.cut_at_s:
                    member.let_go, member.cut_at_s, again = True, None, True
                again = again or (member.let_go and now_s >= self._cut_s + CUT_AGAIN_S)
                done = min(member.moved, member.job.file.size)
                if now_s - member.begun_s >= TELL_AFTER_S and done > member.told_bytes:
                    member.told_bytes = done
                    reports.append(Moved(member.run_id, done, 0, (), member.sent_bytes, (0,)))
        if reports:
            self._report(reports)
        if again:
            self.cut()

    # Inside

    def _carry_on(self, run_id: int) -> None:
        with self._cond:
            member = self._members.get(run_id)
            if member is not None:
                member.let_go, member.cut_at_s = False, None

    def _let_go(self, run_id: int, grace_s: float | None) -> None:
        """Without a grace only if it is not begun."""
        with self._cond:
            member = self._members.get(run_id)
            if member is None:
                return
            cut = False
            if member.state is State.WAITING:
                self._waiting.remove(member)
                member.state = State.OVER
                del self._members[run_id]
                self._tell()
            elif member.state is State.IN_FLIGHT and grace_s is not None:
                # What of a file was sent is worth something if all is sent; what was received in part is not.
                if grace_s > 0 and isinstance(member.job, Upload):
                    member.cut_at_s = time.monotonic() + grace_s
                else:
                    member.let_go = cut = True
                    self._cond.notify_all()
        if member.state is State.OVER:
            self._report([Ended(run_id, Outcome.STOPPED, None, member.sent_bytes)])
        elif cut:
            self.cut()

    def _give_up(self) -> None:
        while self._waiting:
            self._end(self._waiting.popleft(), Outcome.ALONE)

    def _end(self, member: Member, outcome: Outcome, failure: Failure | None = None) -> None:
        member.state = State.OVER
        del self._members[member.run_id]
        self._ended.append(Ended(member.run_id, outcome, failure, member.sent_bytes))
        self._tell()

    def _tell(self) -> None:
        self._news = True
        self._cond.notify_all()
