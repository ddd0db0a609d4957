"""The changes feed: documents as they change, for as long as the daemon lives.

The daemon makes one `Feed`. It has a thread of its own, which lives through servers that are not there yet, that
restart, freeze, refuse us or talk nonsense, and through databases that are deleted and made anew: it says so once
and connects again, with a growing and random pause. Documents and states are handed to `call_soon`.

Promised: a change is delivered at least once, and again after a reconnect, so that handlers must be idempotent;
changes of one document come in their order. Not promised: every revision. Between two lines of the server,
heartbeats included, nothing wakes up here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.changes import FROM_START, Change, Changes, Garbage, is_meant
from dmedia_transfer.couch.pause import pause_s
from dmedia_transfer.couch.place import Checkpoint, Place
from dmedia_transfer.couch.session import DatabaseMissing, Rejected
from dmedia_transfer.errors import DatabaseUnavailable, TransferError

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 30.0
STEADY_S: Final = 10.0  # a connection that lasted this long was a good one: the next pause is short again
COALESCE_S: Final = 0.25  # wanted files that come one by one are followed together
SAVE_INTERVAL_S: Final = 5.0
SETTLE_INTERVAL_S: Final = 300.0  # while nothing that we follow changes, the checkpoint is moved so often
GARBAGE_MAX: Final = 3  # a line that was garbage so often in the same place is left out

CallSoon = Callable[..., object]
"""`call_soon(callback, *args)`: has the manager's thread call it."""


class Feed:
    """Follows one database."""

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        call_soon: CallSoon,
        on_document: Callable[[dict[str, Any]], object],
        on_state: Callable[[str | None], object],
        checkpoint: Checkpoint,
        on_reset: Callable[[], object] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        settle_interval_s: float = SETTLE_INTERVAL_S,
        save_interval_s: float = SAVE_INTERVAL_S,
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            address: The server and who we are there.
            name: The database's name.
            call_soon: Hands calls to the manager's thread.
            on_document: Called with each machine, store and wanted file that is there or changes: the raw document,
                with `_conflicts` if it has any, and with `_deleted` if it was deleted.
            on_state: Called with None when the feed is connected, and with a sentence when it is not.
            checkpoint: Keeps the place in the feed: the journal's `checkpoints`.
            on_reset: Called when the database turned out to be another one than before: created anew, or restored.
                What this machine wrote there is gone. All that is there is delivered again.
            heartbeat_s: Seconds of silence after which the server shall give a sign of life.
            settle_interval_s: Seconds after which an idle feed's checkpoint is moved.
            save_interval_s: Seconds between two writes of the checkpoint.
        """
        self._changes = Changes(address, name, heartbeat_s=heartbeat_s)
        self._name = name
        self._call_soon, self._on_document, self._on_state, self._on_reset = call_soon, on_document, on_state, on_reset
        # Without the port: that of a server of our own is another one in each of its lives.
        self._place = Place(checkpoint, f"{address.host}/{name}", save_interval_s)
        self._settle_interval_s = settle_interval_s
        self._thread = threading.Thread(target=self._run, name="couch-feed", daemon=True)
        self._stopping = threading.Event()
        self._wake = threading.Event()  # ends a pause between two attempts
        self._lock = threading.Lock()  # guards what follows
        self._wanted: frozenset[str] = frozenset()
        self._followed: frozenset[str] | None = None  # what the server was asked for; may be more than is wanted
        self._rewind: str | None = None  # where we were when something was wanted that is not followed yet
        self._renewing = False  # the connection is to be made anew, and not because of an error
        self._timer: threading.Timer | None = None
        # The rest belongs to the thread.
        self._problem: str | None = ""  # as reported; empty before the first report
        self._settled = 0.0
        self._garbage: tuple[str, int] = ("", 0)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End it, whatever the server does; nothing is delivered after this. Any thread but the feed's may call."""
        self._stopping.set()
        self._wake.set()
        with self._lock:
            if self._timer:
                self._timer.cancel()
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._changes.cut()  # again and again: a connection may be opened in this moment
            self._thread.join(0.02)
        if self._thread.is_alive():
            log.warning("feed of database %s: did not end in %s s, left alone", self._name, timeout_s)

    def set_wanted(self, file_ids: Iterable[str]) -> None:
        """Follow these files, and no others. Any thread may call.

        Changes from now on are delivered: read a file's document after this call, and none is missed. Calls that come
        quickly after one another make one reconnect, and what is wanted no more makes none.
        """
        wanted = frozenset(file_ids)
        with self._lock:
            self._wanted = wanted
            if self._followed is None or wanted <= self._followed or not self._changes.filtered:
                return
            if self._rewind is None:
                self._rewind = self._place.since
            if self._timer is None and not self._stopping.is_set():
                self._timer = threading.Timer(COALESCE_S, self._renew)
                self._timer.daemon = True
                self._timer.start()

    def reconnect(self) -> None:
        """Connect anew, now: the network changed, or the machine slept. Any thread may call."""
        with self._lock:
            self._renewing = True
        self._changes.cut()
        self._wake.set()

    def _renew(self) -> None:
        with self._lock:
            self._timer = None
            self._renewing = True
        self._changes.cut()

    # The thread.

    def _run(self) -> None:
        self._place.load()
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            problem = self._attempt()
            with self._lock:
                renewing = self._renewing
            if renewing or self._stopping.is_set():
                attempt = 0
                continue
            attempt = 0 if time.monotonic() - began > STEADY_S else attempt + 1
            self._report(str(problem or f"the server has ended the feed of database {self._name}"))
            self._wake.wait(pause_s(problem, attempt))
            self._wake.clear()
        self._place.save()
        self._changes.close()

    def _attempt(self) -> TransferError | None:
        """Follow until it ends; what ended it, if it was an error."""
        try:
            self._follow()
        except DatabaseMissing as problem:
            self._place.lost()
            return problem
        except TransferError as problem:
            return problem
        except Exception as error:
            # A fault of ours must not end the feed: the daemon would be deaf and nobody would know.
            log.exception("feed of database %s: a fault of this program", self._name)
            return DatabaseUnavailable(f"the feed of database {self._name} failed: {error!r}")
        return None

    def _follow(self) -> None:
        with self._lock:
            self._renewing = False  # whoever wants another connection after this cuts the one that is made here
        identity = self._changes.identify()
        is_new, was_known = self._place.compare(identity.born, identity.update_seq)
        if is_new:
            log.info("feed of database %s: it is not the one that it was, reading it from the start", self._name)
        if was_known and self._on_reset:
            self._deliver(self._on_reset)
        with self._lock:
            followed = self._followed = self._wanted
            if self._rewind is not None and not is_new:
                self._place.since = self._rewind
            self._rewind = None
        try:
            self._catch_up(followed)
        except Rejected as error:
            if self._place.since == FROM_START:
                raise
            log.warning("feed of database %s: reading it from the start: %s", self._name, error)
            self._place.since = FROM_START
            self._catch_up(followed)
        self._report(None)
        self._listen(followed)

    def _catch_up(self, followed: frozenset[str]) -> None:
        """Read what is there, to its end: a filtered stream never says how far it has looked."""
        complete = False
        while not (complete or self._stopping.is_set()):
            page = self._changes.page(self._place.since, followed)
            for change in page.changes:
                self._take(change)
            self._place.advance(page.last_seq)
            complete = page.complete
        self._settled = time.monotonic()

    def _listen(self, followed: frozenset[str]) -> None:
        stream = self._changes.stream(self._place.since, followed)
        try:
            while not self._interrupted():
                try:
                    change = next(stream, _END)
                except Garbage as garbage:
                    self._skip_or_raise(garbage)
                    continue
                if change is _END:
                    return
                if change is not None:
                    self._take(change)
                elif time.monotonic() - self._settled > self._settle_interval_s:
                    self._catch_up(followed)
                self._place.save_sometimes()
        finally:
            stream.close()

    def _interrupted(self) -> bool:
        with self._lock:
            return self._renewing or self._stopping.is_set()

    def _take(self, change: Change) -> None:
        if change.raw is not None and is_meant(change.raw, self._wanted):
            self._deliver(self._on_document, change.raw)
        if change.seq is not None:
            self._place.advance(change.seq)

    def _skip_or_raise(self, garbage: Garbage) -> None:
        """Garbage is most likely an accident on the way, and asking again helps; if it is not, the rest is read."""
        place, times = self._garbage
        self._garbage = (self._place.since, times + 1 if place == self._place.since else 1)
        if self._garbage[1] < GARBAGE_MAX:
            raise garbage
        log.warning("feed of database %s: left out: %s", self._name, garbage)

    def _report(self, problem: str | None) -> None:
        if problem == self._problem or self._stopping.is_set():
            return
        log.info("feed of database %s: %s", self._name, problem or "connected")
        self._problem = problem
        self._deliver(self._on_state, problem)

    def _deliver(self, callback: Callable[..., object], *args: object) -> None:
        if not self._stopping.is_set():
            self._call_soon(callback, *args)


_END: Final = Change(None, None)
