"""Threads that work off the pieces of one job, and can be paused, carried on and stopped.

One thread, the job's, calls `run`, `once` and `check`, one after another. Commands (`pause`, `resume`, `stop`, `cut`)
come from any other thread and never block. The crew knows neither leaves nor parts: it is handed functions that take
the next piece, work on it, and give it back.

Promised: after a `pause` nothing new is taken; what is in flight may finish within its grace and is then cut; a
`resume` before the last of it has ended goes straight on, and pieces that were cut are simply taken again. Only the
job's thread decides that a pause has come into force, and says so by raising `Interrupted`. An error of one piece ends
the run, but first lets the other pieces finish for a moment: what they received is not thrown away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from dmedia_transfer.errors import ConnectionLost, Interrupted, ServerBusy, Transient
from dmedia_transfer.growth import ONE_WORD_S
from dmedia_transfer.lines import Lines

log = logging.getLogger(__name__)

T = TypeVar("T")
ERROR_GRACE_S: Final = 2.0  # how long pieces in flight may take to finish after an error of another one
CUT_AGAIN_S: Final = 0.2  # a thread that was about to connect is missed by the first cut


@dataclass(frozen=True, slots=True)
class Later:
    """There is nothing to take now, but there may be: ask again when something has happened, or after a while."""

    seconds: float


class _State(Enum):
    RUNNING = auto()
    DRAINING = auto()  # pause was said; what is in flight may finish
    DRAINED = auto()  # the pause has come into force
    STOPPED = auto()  # stop was said


class Crew:
    """The threads of one job: one for each connection, and a few that work on what has left its connection."""

    def __init__(
        self, connections: int = 1, *, grows: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """A crew that has nothing to do yet.

        Args:
            connections: The number of pieces that have a connection at once.
            grows: That is the most there may be; how many there are is found out (`growth`), from what `moved` says.
            clock: Monotonic seconds.
        """
        self.lines = Lines(connections, grows=grows, clock=clock)
        self._members = 0  # threads
        self._cutters: list[Callable[[], None]] = []
        lock = threading.Lock()
        self._cond = threading.Condition(lock)
        self._boss = threading.Condition(lock)  # the job's thread waits for what concerns it alone: it is woken seldom
        self._taking = threading.Lock()  # one thread takes at a time: a stream is read in order
        self._state = _State.RUNNING
        self._cutting = False  # the grace is over: what is in flight has to go
        self._generation = 0  # of pauses and stops, so that a cutter does not outlive its own
        self._epoch = 0  # of cuts: a connection lost in an older one is nobody's fault
        self._in_flight = 0
        self._on_line = 0  # of those, how many have a connection, or may want one yet
        self._given_back = 0
        self._news = 0  # how often something happened that may give a taker something to take
        self._exhausted = False
        self._error: BaseException | None = None
        self._began = threading.local()  # .epoch: when this thread began what it works on; .on_line: it has not landed

    # Commands, from any thread

    def spread(self, stores: int) -> None:
        """So many stores have connections of their own from now on."""
        with self._cond:
            self.lines.spread(stores)
            self._changed()

    def poke(self) -> None:
        """There may be something to take now; from any thread."""
        with self._cond:
            self._news += 1
            self._changed()

    def connect(self, connections: int) -> None:
        """Have so many connections from now on; what is in flight beyond that finishes."""
        with self._cond:
            self.lines.connect(connections)
            self._changed()

    def cuts(self, cut: Callable[[], None]) -> None:
        """Also call this where connections have to be cut; it makes blocked calls raise."""
        self._cutters.append(cut)

    def pause(self, grace_s: float | None) -> int | None:
        """Take nothing new; cut what is still in flight after `grace_s` (None: never).

        Returns:
            How many pieces are in flight; None if the pause changes nothing.
        """
        with self._cond:
            if self._state is not _State.RUNNING:
                return None
            self._state = _State.DRAINING
            self._generation += 1
            if grace_s is not None:
                self._cutting = grace_s <= 0
                self._cut_after(grace_s)
            self._changed()
            return self._in_flight

    def resume(self) -> bool:
        """Take a pause back; False if there is none, or if it has come into force already."""
        with self._cond:
            if self._state is not _State.DRAINING:
                return False
            self._state = _State.RUNNING
            self._generation += 1
            self._cutting = False
            self._changed()
            return True

    def stop(self) -> None:
        """Let go at once; this is not taken back."""
        with self._cond:
            self._state = _State.STOPPED
            self._generation += 1
            self._cutting = True
            self._cut_after(0)
            self._changed()

    def cut(self) -> None:
        """Cut all connections and go on with new ones."""
        with self._cond:
            self._epoch += 1
        self._cut_all()

    @property
    def interrupting(self) -> bool:
        """Whether what is in flight has to go; meters ask for each piece."""
        return self._cutting

    def wait(self, seconds: float) -> bool:
        """Wait, and say whether what is in flight has to go: for a bandwidth limit."""
        self.lines.held()
        with self._cond:
            return self._cond.wait_for(lambda: self._cutting, timeout=seconds)

    def moved(self, count: int) -> None:
        """So many bytes crossed the wire; from any thread."""
        if self.lines.moved(count):
            self.poke()

    @property
    def in_flight(self) -> int:
        """How many pieces are being worked on."""
        with self._cond:
            return self._in_flight

    # The job's own thread

    def check(self) -> None:
        """Raise `Interrupted` if a pause or a stop was said. For the job's thread, with nothing in flight."""
        with self._cond:
            self._come_into_force()
            if self._state is not _State.RUNNING:
                raise Interrupted("the job was asked to let go")

    def once(self, call: Callable[[], T]) -> T:
        """Make one blocking call that a pause lets finish and a stop cuts.

        Raises:
            Interrupted: It was cut, or is not begun any more.
        """
        while True:
            self.check()
            with self._cond:
                self._in_flight += 1
            self._began.epoch = self._epoch
            try:
                return call()
            except Exception as error:
                if not self.forgives(error):
                    raise
                log.debug("a call was cut: %s", error)
            finally:
                self._ended()

    def run(
        self, take: Callable[[], T | Later | None], work: Callable[[T], None], give_back: Callable[[T], None]
    ) -> None:
        """Work off all pieces.

        Args:
            take: The next piece, `Later`, or None when all were taken; by one thread at a time, and it may block.
            work: Does a piece; an error that `forgives` says is ours gives the piece back, any other ends the run.
            give_back: The piece is to be taken again; from any thread.

        Raises:
            Interrupted: A pause has come into force, or a stop was said.
            TransferError: The first error of a piece.
        """
        self._exhausted = False
        threads: list[threading.Thread] = []
        self._members = 0
        with self._cond:
            while True:
                while self._lacks_a_thread:
                    self._members += 1
                    name, arguments = f"crew-{len(threads)}", (take, work, give_back)
                    threads.append(threading.Thread(target=self._member, args=arguments, name=name, daemon=True))
                    threads[-1].start()
                if self._in_flight == 0 and self._exhausted:
                    break
                self._come_into_force()
                if self._in_flight == 0 and (self._error is not None or self._state is not _State.RUNNING):
                    break
                self._boss.wait()
        for thread in threads:
            thread.join()
        with self._cond:
            error, self._error = self._error, None
            if self._state is _State.RUNNING:
                self._cutting = False
                self._generation += 1
        if error is not None:
            raise error
        if not self._exhausted:
            raise Interrupted("the job was asked to let go")

    def landed(self) -> None:
        """The piece that this thread works on needs its connection no more: the next piece may have it meanwhile."""
        with self._cond:
            self._leave_line()
            self._changed()

    def forgives(self, error: BaseException) -> bool:
        """Whether the error of the piece that this thread works on is our own doing: we stop, pause, or cut."""
        if isinstance(error, Interrupted):
            return True
        with self._cond:
            if self._state is not _State.RUNNING or self._error is not None:
                return isinstance(error, Transient)
            return isinstance(error, ConnectionLost) and self._began.epoch != self._epoch

    def eases(self, error: BaseException) -> bool:
        """Whether the store's "too much" is answered with fewer connections; the piece is to be given back then.

        Not where it says when to come back, and not where there are others to ask.
        """
        if not isinstance(error, ServerBusy) or error.retry_after_s:
            return False
        if getattr(self._began, "eased", None) is not error:
            left = self.lines.refused()
            if left is None:
                return False
            self._began.eased = error
            log.info("%s; going on with %s at once", error, left)
            self.poke()
        return True

    # Inside

    @property
    def _wanted(self) -> bool:
        return self._state is _State.RUNNING and self._error is None

    @property
    def _lacks_a_thread(self) -> bool:
        useful = min(self.lines.connections + self._in_flight - self._on_line, self.lines.pieces)
        return self._wanted and not self._exhausted and self._members < useful

    def _changed(self) -> None:
        """Something that others wait for; with the lock held."""
        self._cond.notify_all()
        if self._lacks_a_thread or (self._in_flight == 0 and (self._exhausted or not self._wanted)):
            self._boss.notify()

    def _come_into_force(self) -> None:
        if self._state is _State.DRAINING and self._in_flight == 0:
            self._state = _State.DRAINED
            self._cond.notify_all()

    def _member(
        self, take: Callable[[], T | Later | None], work: Callable[[T], None], give_back: Callable[[T], None]
    ) -> None:
        while (piece := self._next(take)) is not None:
            self._began.epoch = self._epoch
            eased = False
            try:
                work(piece)
            except BaseException as error:
                give_back(piece)
                eased = self.eases(error)
                if not (eased or self.forgives(error)):
                    self._fail(error)
                with self._cond:
                    self._given_back += 1
            self._ended(news=True)
            if eased:
                with self._cond:
                    self._cond.wait_for(lambda: not self._wanted, ONE_WORD_S)

    def _next(self, take: Callable[[], T | Later | None]) -> T | None:
        """The next piece, counted as in flight; None when this thread is not needed any more."""
        with self._taking:
            while self._may_take():
                piece: T | Later | None = None
                given_back, news = self._given_back, self._news
                try:
                    piece = take()
                except BaseException as error:
                    if not self.forgives(error):
                        self._fail(error)
                    continue
                finally:
                    if piece is None or isinstance(piece, Later):
                        self._ended()
                if isinstance(piece, Later):
                    with self._cond:
                        self._cond.wait_for(lambda: self._news != news or not self._wanted, piece.seconds)  # noqa: B023
                    continue
                if piece is not None:
                    return piece
                with self._cond:  # all were taken, but one in flight may be given back
                    self._cond.wait_for(
                        lambda: self._given_back != given_back or self._in_flight == 0 or not self._wanted  # noqa: B023
                    )
                    if self._given_back == given_back and self._in_flight == 0 and self._wanted:
                        self._exhausted = True
                        self._changed()
            return None

    def _may_take(self) -> bool:
        with self._cond:
            while not self._exhausted and self._error is None and self._has_to_wait():
                self._cond.wait()
            if not self._wanted or self._exhausted:
                return False
            if self._members > self.lines.pieces:
                self._members -= 1
                return False
            self._began.epoch = self._epoch
            self._began.on_line = True
            self._in_flight += 1
            self._on_line += 1
            return True

    def _has_to_wait(self) -> bool:
        if self._state is _State.RUNNING:
            return self._on_line >= self.lines.connections and self._members <= self.lines.pieces
        return self._state is _State.DRAINING

    def _leave_line(self) -> None:
        if getattr(self._began, "on_line", False):
            self._began.on_line = False
            self._on_line -= 1

    def _ended(self, *, news: bool = False) -> None:
        with self._cond:
            self._leave_line()
            self._in_flight -= 1
            self._news += news
            self._changed()

    def _fail(self, error: BaseException) -> None:
        with self._cond:
            if self._error is None:
                self._error = error
            if self._state is _State.RUNNING:
                self._generation += 1
                self._cut_after(ERROR_GRACE_S)
            self._changed()

    def _cut_after(self, grace_s: float) -> None:
        threading.Thread(target=self._cutter, args=(self._generation, grace_s), name="cutter", daemon=True).start()

    def _cutter(self, generation: int, grace_s: float) -> None:
        def over() -> bool:
            return self._generation != generation or self._in_flight == 0

        with self._cond:
            if self._cond.wait_for(over, timeout=grace_s):
                return
            self._cutting = True
        while True:
            self._cut_all()
            with self._cond:
                if self._cond.wait_for(over, timeout=CUT_AGAIN_S):
                    return

    def _cut_all(self) -> None:
        for cut in list(self._cutters):
            try:
                cut()
            except Exception:
                log.exception("connections could not be cut")
