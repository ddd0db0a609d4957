"""A replicator: brings over what changes in one database to another, for as long as it lives.

It has a thread of its own, which lives through servers that are not there, restart, freeze, refuse us or talk
nonsense, and through databases that are deleted, made anew or restored. It says what is wrong, and goes on by itself.

Promised: every leaf revision of every document of the source that is not a design document arrives, with its
history and attachments; a document that the target refuses is told of and does not hold up the others. What has
arrived is remembered in logs on both sides, so that a next life goes on from there. A batch that is repeated after
a cut does no harm: the target is asked first what it lacks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from dmedia_transfer.couch.changes import FROM_START, Garbage
from dmedia_transfer.couch.pause import pause_s
from dmedia_transfer.couch.raw import Raw
from dmedia_transfer.couch.replication.history import Log, Session, common_seq, same
from dmedia_transfer.couch.replication.peer import Batch, Leaf, Peer, Refused, TooLarge
from dmedia_transfer.couch.session import DatabaseMissing, Rejected
from dmedia_transfer.errors import AccessDenied, Conflict, DatabaseUnavailable, TransferError

log = logging.getLogger(__name__)

BATCH_CHANGES: Final = 500  # documents in one look at the source
FETCH_FIRST: Final = 50  # revisions asked for at once, before it is known how large they are
FETCH_MAX: Final = 500
FETCH_BYTES: Final = 2 * 1024 * 1024  # what we aim at in one request
WAIT_S: Final = 50.0  # so long an idle source lets us wait; CouchDB allows 60 s
CHECKPOINT_S: Final = 5.0  # between two logs
STEADY_S: Final = 10.0  # a connection that lasted this long was a good one: the next pause is short again
GARBAGE_MAX: Final = 3  # a revision that could not be read so often is left out


class Replicator:
    """One direction. Any thread may call."""

    def __init__(
        self,
        source: Peer,
        target: Peer,
        *,
        log_id: str,
        may_create: Peer,
        on_state: Callable[[str | None], object],
        on_other: Callable[[], object],
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            source: Read; nobody else uses this object.
            target: Written; nobody else uses this object.
            log_id: The name of the log that both sides keep; equal in each life.
            may_create: Which of both is made if it is not there when its server is reached for the first time.
            on_state: Called on the replicator's thread with None when it is at work, and with a sentence when not.
            on_other: Called on that thread when one of the databases may not be what it was: the other direction
                should compare, too.
        """
        self._source, self._target = source, target
        self._log_id = log_id
        self._may_create: Peer | None = may_create
        self._on_state, self._on_other = on_state, on_other
        self._name = f"sync of {source.url} to {target.url}"
        self._thread = threading.Thread(target=self._run, name="couch-replicator", daemon=True)
        self._stopping = threading.Event()
        self._wake = threading.Event()  # ends a pause between two attempts
        self._renewing = threading.Event()  # the connection is to be made anew, and not because of an error
        # The rest belongs to the thread.
        self._said: str | None = ""  # as reported; empty before the first report
        self._logs: tuple[Log | None, Log | None] = (None, None)  # as they should still be, source and target
        self._session = Session("", since=FROM_START, before=None)
        self._compared = False  # in this attempt
        self._unsaved = False
        self._saved_at = 0.0
        self._at_once = FETCH_FIRST
        self._unreadable: dict[tuple[str, str], int] = {}
        self._refused: Refused | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def renew(self) -> None:
        """Connect and compare anew, now."""
        self._renewing.set()
        self._source.cut()
        self._target.cut()
        self._wake.set()

    def stop(self) -> None:
        """Ask it to end; see `join`."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended, whatever the servers do; False if it has not."""
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._source.cut()  # again and again: a connection may be opened in this moment
            self._target.cut()
            self._thread.join(0.02)
        return not self._thread.is_alive()

    # The thread.

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._renewing.clear()
            problem = self._attempt()
            if self._stopping.is_set():
                break
            if self._renewing.is_set() or problem is None:
                attempt = 0
                continue
            if self._compared:
                self._on_other()
            attempt = 0 if time.monotonic() - began > STEADY_S else attempt + 1
            if attempt or isinstance(problem, AccessDenied):  # a connection that ends after a while is no news
                self._report(str(problem))
            self._wake.wait(pause_s(problem, attempt))
            self._wake.clear()
        self._source.close()
        self._target.close()

    def _attempt(self) -> TransferError | None:
        """Replicate until it ends; what ended it, if it was an error."""
        try:
            self._replicate()
        except TransferError as problem:
            return problem
        except Exception as error:
            # A fault of ours must not end the thread: the devices would drift apart and nobody would know.
            log.exception("%s: a fault of this program", self._name)
            return DatabaseUnavailable(f"the sync failed: {error!r}")
        return None

    def _replicate(self) -> None:
        self._compared = False
        since = self._compare()
        self._compared = True
        behind = True
        while not (self._stopping.is_set() or self._renewing.is_set()):
            wait_s = 0.0 if behind else self._wait_s()
            asked = time.monotonic()
            batch = self._source.changes(since, limit=BATCH_CHANGES, wait_s=wait_s)
            self._copy(batch)
            since, behind = batch.last_seq, batch.looked >= BATCH_CHANGES
            self._unsaved |= batch.looked > 0
            self._report(self._refusal())
            ended = not batch.looked and time.monotonic() - asked < wait_s / 2  # as when the database is deleted
            if (ended or self._is_due()) and not self._save(since):
                log.warning("%s: a database is not the one that it was, comparing anew", self._name)
                self._on_other()
                return

    # Logs.

    def _compare(self) -> str:
        """Where both sides say that we are."""
        for peer in (self._source, self._target):
            if not peer.exists():
                if peer is not self._may_create:
                    raise DatabaseMissing(f"there is no database {peer.url}")
                peer.create()
                log.info("%s: created %s", self._name, peer.url)
        self._may_create = None  # whoever deletes it from now on wants it deleted
        before = self._source.get_log(self._log_id), self._target.get_log(self._log_id)
        since = common_seq(*before)
        log.info("%s: from %.32s on", self._name, since)
        self._session = Session(uuid.uuid4().hex, since=since, before=before[0] if same(*before) else None)
        self._logs = before
        self._refused = None
        self._save(since)  # at once, so that a database that is made anew from now on is noticed by its lack
        return since

    def _wait_s(self) -> float:
        """How long to wait for changes: no longer than until the logs are due."""
        if not self._unsaved:
            return WAIT_S
        return min(WAIT_S, max(0.1, self._saved_at + CHECKPOINT_S - time.monotonic()))

    def _is_due(self) -> bool:
        return self._unsaved and time.monotonic() - self._saved_at >= CHECKPOINT_S

    def _save(self, seq: str) -> bool:
        """Remember on both sides that everything up to here has arrived; False if they are not what they were."""
        peers = self._source, self._target
        found = [peer.get_log(self._log_id) for peer in peers]
        if not all(same(*pair) for pair in zip(found, self._logs, strict=True)):
            return False
        kept = self._session.log(seq)
        self._logs = (kept, kept)
        for peer, previous in zip(peers, found, strict=True):
            peer.put_log(self._log_id, kept, previous)
        self._unsaved, self._saved_at = False, time.monotonic()
        return True

    # Documents.

    def _copy(self, batch: Batch) -> None:
        """Bring over what the target lacks of a batch."""
        waiting = self._target.missing(batch.revs)
        self._session.counts.missing_checked += sum(map(len, batch.revs.values()))
        self._session.counts.missing_found += len(waiting)
        while waiting and not self._stopping.is_set():
            some, waiting = waiting[: self._at_once], waiting[self._at_once :]
            self._copy_some(some)

    def _copy_some(self, leaves: Sequence[Leaf]) -> None:
        try:
            found = self._source.fetch(leaves)
        except (TooLarge, Garbage) as problem:
            self._at_once = max(1, len(leaves) // 2)
            if len(leaves) > 1:
                for half in (leaves[: self._at_once], leaves[self._at_once :]):
                    self._copy_some(half)
            else:
                self._skip_or_raise(leaves[0], problem)
            return
        bodies = [json.dumps(raw, separators=(",", ":")).encode() for raw in found]
        self._session.counts.docs_read += len(found)
        size = sum(map(len, bodies))
        if size:
            self._at_once = max(1, min(FETCH_MAX, 2 * self._at_once, len(found) * FETCH_BYTES // size))
        try:
            self._write(found, bodies)
        except Conflict:
            if not any(each.known for each in leaves):
                raise
            # The target's possible ancestors were none, so it needs the attachments' bytes.
            self._copy_some([Leaf(each.id, each.rev) for each in leaves])

    def _write(self, found: Sequence[Raw], bodies: Sequence[bytes]) -> None:
        if not bodies:
            return
        refused: list[Refused] | None = None
        if len(bodies) == 1 or sum(map(len, bodies)) <= 2 * FETCH_BYTES:
            try:
                refused = self._target.write(bodies)
            except Rejected as error:  # one that is not taken fails its whole request
                if len(bodies) == 1:
                    refused = [Refused(found[0]["_id"], found[0]["_rev"], str(error))]
        if refused is None:
            half = len(bodies) // 2
            self._write(found[:half], bodies[:half])
            self._write(found[half:], bodies[half:])
            return
        self._session.counts.docs_written += len(bodies) - len(refused)
        for each in refused:
            self._refuse(each)

    def _skip_or_raise(self, leaf: Leaf, problem: TransferError) -> None:
        """Leave a revision out that nobody can read, so that it does not hold up the others for ever."""
        key = (leaf.id, leaf.rev)
        times = self._unreadable[key] = self._unreadable.get(key, 0) + 1
        if times < GARBAGE_MAX:
            raise problem
        self._refuse(Refused(leaf.id, leaf.rev, str(problem)))

    def _refuse(self, refused: Refused) -> None:
        log.warning("%s: left out revision %s of document %.64r: %s", self._name, refused.rev, refused.id, refused.why)
        self._session.counts.doc_write_failures += 1
        self._refused = refused

    # State.

    def _refusal(self) -> str | None:
        if self._refused is None:
            return None
        count = self._session.counts.doc_write_failures
        others = f" and {count - 1} more" if count > 1 else ""
        return f"{self._target.url} does not take document {self._refused.id!r:.64}{others}: {self._refused.why:.200}"

    def _report(self, problem: str | None) -> None:
        if problem == self._said or self._stopping.is_set():
            return
        log.info("%s: %s", self._name, problem or "at work")
        self._said = problem
        self._on_state(problem)
